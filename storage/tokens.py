"""Tokens of the HTTP API, as stored: what they allow, and the hash that they are known by."""

import collections.abc as cabc
import datetime as dt
import typing as t

import attrs


@attrs.frozen(kw_only=True)
class TokenRow:
    """One token; the token itself is nowhere but with whom it was given to."""

    id: str  # 12 hexadecimal digits: the part of the token that is no secret
    name: str  # one of the tokens that are not revoked has it
    hash: bytes = attrs.field(repr=False)  # SHA-256 of its secret
    scopes: tuple[str, ...]  # of "read", "operate" and "send", in this order
    created_at: dt.datetime
    expires_at: dt.datetime | None = None
    last_used_at: dt.datetime | None = None  # to the minute
    revoked_at: dt.datetime | None = None


class Tokens(t.Protocol):
    """The part of storage that keeps tokens. Every method may raise
    ``StorageUnavailableError``."""

    async def tokens(self) -> list[TokenRow]:
        """All of them, revoked ones included, in the order of their making."""
        ...

    async def add_token(self, token: TokenRow) -> None:
        """Keep a new token; adding the same one again is safe.

        Raises:
            StorageRejectedError: its name is taken.
        """
        ...

    async def revoke_token(self, token_id: str, at: dt.datetime) -> TokenRow | None:
        """Revoke a token, unless it is; how it is now. None: there is no such token."""
        ...

    async def mark_tokens(self, used: cabc.Mapping[str, dt.datetime]) -> None:
        """When tokens were used; an older mark does not replace a newer one."""
        ...
