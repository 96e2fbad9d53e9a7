"""Whether a database that is put back has older keys than what was used since.

What is to be replaced tells, if it is the same database, further on; else what the data directory
remembers; else whether a daemon was at work when the backup was made, for then it went on. Of
backups of older versions that is not known, and the worse is assumed.
"""

import datetime as dt
import typing as t

import attrs

from storage.backup_file import Manifest
from storage.epochs import Epoch
from storage.maintenance import Maintenance
from storage.queries import SQL


@attrs.frozen(kw_only=True)
class KeyFacts:
    """How new the keys in a database are."""

    database: str | None = None  # its id; None: it has none yet
    epoch: int = 0
    keys_at: dt.datetime | None = None  # when the newest was written
    live: bool = False  # a daemon uses it, or was killed while it did
    stale: bool = False  # some are marked as older themselves


@attrs.frozen(kw_only=True)
class Age:
    """What a restore makes of the keys."""

    older: bool
    epoch: int
    """Up to which they were used, at least; what is remembered must not look newer."""
    because: str


async def key_facts(session: Maintenance) -> KeyFacts:
    """Those of a database of ours."""
    row = await session.fetch_one("key_facts")
    epoch: dict[str, t.Any] = {}
    if row["may_have_epoch"] and (rows := await session.fetch("epoch_facts")):
        [found] = rows
        epoch = {"database": found["id"], "epoch": found["epoch"], "stale": found["stale"]}
    return KeyFacts(keys_at=row["keys_at"], live=row["live"], **epoch)


def age_of(manifest: Manifest, present: KeyFacts, remembered: Epoch | None) -> Age:
    """Compare a backup with what it is to replace, and with what is remembered."""
    here = remembered if _is_same(manifest, remembered) else None
    there = present if _is_same(manifest, present) else None
    epoch = max([manifest.epoch, *(each.epoch for each in (here, there) if each is not None)])
    ran_on = here is not None and here.epoch > (manifest if there is None else there).epoch
    if not manifest.rows.get("device_identity", 0):
        older, because = False, "no phone is linked in it"
    elif ran_on:
        older, because = True, "a daemon ran here after it was made"
    elif there is not None and there.stale:
        older, because = True, "what it replaces was older already"
    elif there is not None:
        older = _is_later(there.keys_at, manifest.keys_at)
        because = f"{'keys were' if older else 'no key was'} used after it was made"
    elif manifest.live:
        older, because = True, "a daemon was running, as far as is known, when it was made"
    else:
        older, because = False, "the daemon was stopped when it was made"
    return Age(older=older, epoch=epoch, because=because)


def _is_same(manifest: Manifest, other: KeyFacts | Epoch | None) -> bool:
    return (
        other is not None
        and manifest.database is not None
        and (other.database == manifest.database)
    )


def _is_later(now: dt.datetime | None, then: str | None) -> bool:
    """Whether keys were written after some moment; what is not known counts as later."""
    return then is None or now is None or now > dt.datetime.fromisoformat(then)


def marking(age: Age) -> str:
    """Statements that end a restore, in its transaction."""
    settings = {"older": str(age.older).lower(), "epoch": str(int(age.epoch))}
    lines = [f"SET LOCAL zapvisor.{name} = '{value}';" for name, value in settings.items()]
    return "\n".join([*lines, (SQL / "restored.sql").read_text(encoding="utf-8")])
