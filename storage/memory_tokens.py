"""The tokens of MemoryStorage: see :class:`storage.tokens.Tokens`."""

import collections.abc as cabc
import datetime as dt

import attrs
import trio

from storage.errors import StorageRejectedError
from storage.tokens import TokenRow


class MemoryTokens:
    """The part of MemoryStorage that keeps tokens."""

    def __init__(self) -> None:
        super().__init__()
        self._tokens: dict[str, TokenRow] = {}

    async def tokens(self) -> list[TokenRow]:
        """See :meth:`storage.tokens.Tokens.tokens`."""
        await trio.lowlevel.checkpoint()
        return sorted(self._tokens.values(), key=lambda each: (each.created_at, each.id))

    async def add_token(self, token: TokenRow) -> None:
        """See :meth:`storage.tokens.Tokens.add_token`."""
        await trio.lowlevel.checkpoint()
        if token.id in self._tokens:
            return
        if any(
            each.name == token.name and each.revoked_at is None for each in self._tokens.values()
        ):
            raise StorageRejectedError(f"another token is named {token.name}")
        self._tokens[token.id] = attrs.evolve(token, last_used_at=None, revoked_at=None)

    async def revoke_token(self, token_id: str, at: dt.datetime) -> TokenRow | None:
        """See :meth:`storage.tokens.Tokens.revoke_token`."""
        await trio.lowlevel.checkpoint()
        row = self._tokens.get(token_id)
        if row is None:
            return None
        self._tokens[token_id] = attrs.evolve(row, revoked_at=row.revoked_at or at)
        return self._tokens[token_id]

    async def mark_tokens(self, used: cabc.Mapping[str, dt.datetime]) -> None:
        """See :meth:`storage.tokens.Tokens.mark_tokens`."""
        await trio.lowlevel.checkpoint()
        for token_id, at in used.items():
            if (row := self._tokens.get(token_id)) is not None:
                latest = at if row.last_used_at is None else max(at, row.last_used_at)
                self._tokens[token_id] = attrs.evolve(row, last_used_at=latest)
