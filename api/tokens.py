"""Tokens of the HTTP API: made, checked and revoked.

A token reads ``zv_<id>_<secret>``: the id is no secret, the secret is 256 random bits and is shown
once. Only its SHA-256 is kept; being random, it needs no slow hash. All hashes are in memory, so a
token is checked without the database, also while that is away.
"""

import collections.abc as cabc
import datetime as dt
import hashlib
import hmac
import math
import re
import secrets
import typing as t

import attrs
import structlog
import trio

from storage.errors import StorageError, StorageRejectedError
from storage.tokens import TokenRow, Tokens

SCOPES: t.Final = ("read", "operate", "send", "history")
IMPLIED: t.Final[cabc.Mapping[str, frozenset[str]]] = {"operate": frozenset({"read"})}
"""Whoever changes connections has to see them. Sending needs no reading: a program that only sends
need not be trusted with what customers write. Nor is what was said before it was deleted or changed
(``history``) implied by anything."""

NAME: t.Final = r"[a-z0-9][a-z0-9_.-]{0,62}"
MARK_INTERVAL: t.Final = 60.0  # seconds between two writings of what was used
RETRY_PAUSE: t.Final = 1.0  # seconds

_TOKEN: t.Final = re.compile(r"zv_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
_NOBODY: t.Final = hashlib.sha256(secrets.token_bytes(32)).digest()

log: structlog.stdlib.BoundLogger = structlog.get_logger("api")


class TokenError(Exception):
    """A token that is not taken; the text says why."""


class NotReadyError(Exception):
    """Tokens are not known yet: the daemon is starting."""


class TakenNameError(Exception):
    """Another token has that name."""


def allowed(scopes: cabc.Iterable[str]) -> frozenset[str]:
    """Scopes together with what they imply."""
    return frozenset(scopes).union(*(IMPLIED.get(scope, frozenset()) for scope in scopes))


class TokenKeeper:
    """Knows all tokens. One object serves all listeners."""

    def __init__(self, storage: Tokens, wall_clock: cabc.Callable[[], float]) -> None:
        self._storage = storage
        self._clock = wall_clock
        self._rows: dict[str, TokenRow] = {}
        self._loaded = False
        self._used: dict[str, dt.datetime] = {}
        self._revoking: dict[str, dt.datetime] = {}
        """Revoked here, and not yet in the database."""
        self.changed = trio.Event()
        """Set when a token may have ended; take it anew after that."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Load the tokens, then write down once a minute which were used; until cancelled."""
        task_status.started()
        while True:
            if self._loaded or await self._try(self.load):
                await trio.sleep(MARK_INTERVAL)
                await self._try(self.save)
            else:
                await trio.sleep(RETRY_PAUSE)

    async def _try(self, what: cabc.Callable[[], cabc.Awaitable[None]]) -> bool:
        try:
            await what()
        except StorageError as error:
            log.warning("tokens.database_away", error=str(error))
            return False
        return True

    async def load(self) -> None:
        """Learn what is stored. May raise ``StorageError``."""
        loaded = {row.id: row for row in await self._storage.tokens()}
        for token_id, row in self._rows.items():  # what happened here meanwhile counts
            if token_id not in loaded or row.revoked_at is not None:
                loaded[token_id] = row
        self._rows = loaded
        self._loaded = True
        self._tell()

    async def save(self) -> None:
        """Write down what is not stored yet. May raise ``StorageError``."""
        for token_id, at in list(self._revoking.items()):
            await self._storage.revoke_token(token_id, at)
            self._revoking.pop(token_id, None)
        if used := self._used:
            self._used = {}
            try:
                await self._storage.mark_tokens(used)
            except BaseException:
                self._used = used | self._used
                raise

    def check(self, text: str) -> TokenRow:
        """The token that ``text`` is; waits for nothing.

        Raises:
            TokenError: it is none, or no longer.
            NotReadyError: that is not known yet.
        """
        if not self._loaded:
            raise NotReadyError
        match = _TOKEN.fullmatch(text)
        row = None if match is None else self._rows.get(match[1])
        digest = hashlib.sha256((match[2] if match else "").encode()).digest()
        if not hmac.compare_digest(digest, _NOBODY if row is None else row.hash) or row is None:
            raise TokenError("this is no token of this daemon")
        return self.living(row.id)

    def living(self, token_id: str) -> TokenRow:
        """The token of this id; it counts as used now.

        Raises:
            TokenError: there is none, or no longer.
        """
        row = self._living(token_id)
        self._used[row.id] = self._now()
        return row

    def left(self, token_id: str) -> float:
        """Seconds until this token expires, as the clock goes now; to look does not use it.

        Raises:
            TokenError: there is none, or no longer.
        """
        row = self._living(token_id)
        if row.expires_at is None:
            return math.inf
        return (row.expires_at - self._now()).total_seconds()

    def _living(self, token_id: str) -> TokenRow:
        row = self._rows.get(token_id)
        if row is None:
            raise TokenError("this token is gone")
        if row.revoked_at is not None:
            raise TokenError(f"the token {row.name} was revoked")
        if row.expires_at is not None and row.expires_at <= self._now():
            raise TokenError(f"the token {row.name} expired at {row.expires_at:%Y-%m-%d %H:%M} UTC")
        return row

    async def rows(self) -> list[TokenRow]:
        """All tokens, revoked ones included; as last known while the database is away."""
        try:
            await self.load()
        except StorageError as error:
            if not self._loaded:
                raise
            log.warning("tokens.database_away", error=str(error))
        return [
            attrs.evolve(row, last_used_at=self._used.get(row.id, row.last_used_at))
            for row in self._rows.values()
        ]

    async def create(
        self, name: str, scopes: cabc.Collection[str], expires_at: dt.datetime | None
    ) -> tuple[TokenRow, str]:
        """A new token, and its text, which nobody can tell again.

        Raises:
            TakenNameError: another one has that name.
            StorageError: see there; a token may have been made that nobody knows.
        """
        secret = secrets.token_urlsafe(32)
        row = TokenRow(
            id=secrets.token_hex(6),
            name=name,
            hash=hashlib.sha256(secret.encode()).digest(),
            scopes=tuple(scope for scope in SCOPES if scope in scopes),
            created_at=self._now(),
            expires_at=expires_at,
        )
        try:
            await self._storage.add_token(row)
        except StorageRejectedError as error:
            raise TakenNameError(f"another token is named {name}; revoke it first") from error
        self._rows[row.id] = row
        log.info("token.created", id=row.id, name=name, scopes=row.scopes)
        return row, f"zv_{row.id}_{secret}"

    async def revoke(self, which: str) -> TokenRow | None:
        """Refuse a token from now on, by its name or id; None: there is none.

        Raises:
            StorageError: the database is away. The token is refused all the same, and that is
                written down as soon as it is back; only a restart before would forget it.
        """
        row = self._find(which)
        if row is None:
            await self.load()
            row = self._find(which)
        if row is None:
            return None
        at = self._revoking.setdefault(row.id, row.revoked_at or self._now())
        self._rows[row.id] = attrs.evolve(row, revoked_at=at)
        self._tell()
        log.info("token.revoked", id=row.id, name=row.name)
        stored = await self._storage.revoke_token(row.id, at)
        self._revoking.pop(row.id, None)
        return stored

    def _tell(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    def _find(self, which: str) -> TokenRow | None:
        if which in self._rows:
            return self._rows[which]
        named = (row for row in self._rows.values() if row.name == which and not row.revoked_at)
        return next(named, None)

    def _now(self) -> dt.datetime:
        return dt.datetime.fromtimestamp(self._clock(), dt.UTC)
