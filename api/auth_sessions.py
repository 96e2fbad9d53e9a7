"""Sessions of browsers: a cookie that stands for a token, so that no script ever holds that."""

import collections.abc as cabc
import hashlib
import secrets
import typing as t

import attrs

IDLE: t.Final = 12 * 3600.0  # seconds without a request that end a session
MOST: t.Final = 1000  # sessions; one more ends the one that was used longest ago


@attrs.define
class _Session:
    token_id: str
    used: float


class Sessions:
    """Who is logged in. Kept in memory: a restart of the daemon ends all sessions."""

    def __init__(self, clock: cabc.Callable[[], float]) -> None:
        """``clock`` gives seconds."""
        self._clock = clock
        self._sessions: dict[bytes, _Session] = {}  # by hash; the one used last at the end

    def open(self, token_id: str) -> str:
        """A new session of that token; its secret."""
        now = self._clock()
        for key in [key for key, each in self._sessions.items() if now - each.used > IDLE]:
            del self._sessions[key]
        while len(self._sessions) >= MOST:
            del self._sessions[next(iter(self._sessions))]
        secret = secrets.token_urlsafe(32)
        self._sessions[_key(secret)] = _Session(token_id, now)
        return secret

    def find(self, secret: str) -> str | None:
        """The token of a session, which lives on for another while. None: there is no such one."""
        found = self._sessions.pop(_key(secret), None)
        if found is None or self._clock() - found.used > IDLE:
            return None
        found.used = self._clock()
        self._sessions[_key(secret)] = found
        return found.token_id

    def close(self, secret: str) -> None:
        """End a session, if there is such a one."""
        self._sessions.pop(_key(secret), None)


def _key(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
