"""What an SQLSTATE means for a message that was to be stored: later, or never.

The data is refused only for what lies in the data. All else says "not now", and what an operator
can do about it: nothing is acknowledged, so WhatsApp keeps the messages meanwhile.

Source: the PostgreSQL documentation, appendix "PostgreSQL Error Codes"
"""

import re
import typing as t

_NOT_NOW: t.Final = (
    "08",  # connection
    "0A",  # not supported: a cached plan that no longer fits
    "25",  # transaction state: read-only
    "28",  # log-in
    "3D",  # no such database
    "3F",  # no such schema
    "40",  # transaction rolled back: serialization, deadlock
    "42",  # no such table, column or function; no privilege: the schema is not ours
    "53",  # resources
    "55",  # object state: locked
    "57",  # operator, or a timeout
    "58",  # system error
    "72",  # snapshot too old
    "F0",  # configuration file
)
_NOT_NOW_STATES: t.Final = ("XX001", "XX002")  # damaged data or index

_HEALTHY: t.Final = ("0A", "40", "42", "53", "55")
_HEALTHY_STATES: t.Final = ("57014",)

_ADVICE: t.Final = {
    "25006": "that server is a read-only replica; name the primary in storage.dsn, too",
    "42501": "grant the user of storage.dsn what it lacks",
    "53100": "make room on the database's disk",
    "53200": "give the database more memory",
    "53300": "raise max_connections, or end other clients",
    "55P03": "another session holds a lock for long; see pg_locks",
    "57014": "the database is too slow, or another session holds a lock; see pg_stat_activity",
}
_ADVICE_BY_CLASS: t.Final = {
    "28": "check user and password in storage.dsn",
    "3D": "check the name of the database in storage.dsn, or create it",
    "3F": "the schema is not the one that zapvisor made; restore it",
    "42": "the schema is not the one that zapvisor made; restore it",
    "XX": "the database is damaged; restore it from a backup",
}


def is_temporary(state: str) -> bool:
    """Whether the same data may be stored later."""
    return state[:2] in _NOT_NOW or state in _NOT_NOW_STATES


def is_operators(state: str) -> bool:
    """Whether it stays like that until somebody acts."""
    return state == "25006" or state[:2] in _ADVICE_BY_CLASS


def keeps_session(state: str) -> bool:
    """Whether the session that answered so can be used again."""
    return state[:2] in _HEALTHY or state in _HEALTHY_STATES


def advice(state: str) -> str | None:
    """What an operator may do about it; None: nothing but wait."""
    return _ADVICE.get(state) or _ADVICE_BY_CLASS.get(state[:2])


def quotes_values(state: str) -> bool:
    """Whether the text of such an error shows the value that it is about."""
    return state[:2] == "22"


_QUOTED: t.Final = re.compile(r"""b?["'].*["']""", re.DOTALL)


def hide_values(text: str) -> str:
    """A complaint about a value, without the value: all from the first quote to the last."""
    return _QUOTED.sub("(a value)", text)
