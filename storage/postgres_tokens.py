"""Tokens in PostgreSQL: see :class:`storage.tokens.Tokens`."""

import abc
import collections.abc as cabc
import datetime as dt
import typing as t

from storage.errors import StorageRejectedError
from storage.tokens import TokenRow


class PostgresTokens(abc.ABC):
    """The part of PostgresStorage that keeps tokens."""

    @abc.abstractmethod
    async def _fetch(self, name: str, *arguments: t.Any) -> list[t.Any]:
        """Run a named query."""

    async def tokens(self) -> list[TokenRow]:
        """See :meth:`storage.tokens.Tokens.tokens`."""
        return [_row(row) for row in await self._fetch("tokens")]

    async def add_token(self, token: TokenRow) -> None:
        """See :meth:`storage.tokens.Tokens.add_token`."""
        await self._fetch(
            "add_token",
            token.id,
            token.name,
            token.hash,
            list(token.scopes),
            token.created_at,
            token.expires_at,
        )
        if not await self._fetch("token", token.id):
            raise StorageRejectedError(f"another token is named {token.name}")

    async def revoke_token(self, token_id: str, at: dt.datetime) -> TokenRow | None:
        """See :meth:`storage.tokens.Tokens.revoke_token`."""
        rows = await self._fetch("revoke_token", token_id, at)
        return _row(rows[0]) if rows else None

    async def mark_tokens(self, used: cabc.Mapping[str, dt.datetime]) -> None:
        """See :meth:`storage.tokens.Tokens.mark_tokens`."""
        await self._fetch("mark_tokens", list(used), list(used.values()))


def _row(row: cabc.Mapping[str, t.Any]) -> TokenRow:
    return TokenRow(**{**row, "scopes": tuple(row["scopes"])})
