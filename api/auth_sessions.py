"""Sessions of browsers: a cookie that stands for a token, so that no script ever holds that."""

import collections.abc as cabc
import hashlib
import secrets
import typing as t

import attrs
import trio

from api.tokens import TokenError

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
        self.changed = trio.Event()
        """Set when a session has ended before its time; take it anew after that."""

    def open(self, token_id: str) -> str:
        """A new session of that token; its secret."""
        now = self._clock()
        for key in [key for key, each in self._sessions.items() if now - each.used > IDLE]:
            del self._sessions[key]
        while len(self._sessions) >= MOST:
            del self._sessions[next(iter(self._sessions))]
            self._tell()
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
        self._tell()

    def left(self, secret: str) -> float:
        """Seconds until a session ends, if nobody uses it; to look does not use it.

        Raises:
            TokenError: it has ended.
        """
        found = self._sessions.get(_key(secret))
        left = 0.0 if found is None else IDLE - (self._clock() - found.used)
        if left <= 0:
            raise TokenError("the session has ended; log in again")
        return left

    def _tell(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()


def _key(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
