"""Tokens of the HTTP API in storage: kept, revoked, marked."""

import datetime as dt

import attrs
import pytest
from st_helpers import NOW

from storage.api import Storage
from storage.errors import StorageRejectedError
from storage.tokens import TokenRow

MADE = dt.datetime.fromtimestamp(NOW, dt.UTC)
TOKEN = TokenRow(
    id="0123456789ab", name="grafana", hash=b"h" * 32, scopes=("read", "send"), created_at=MADE
)


async def test_tokens_are_kept(storage: Storage) -> None:
    """As they were given, in the order of their making; adding one again changes nothing."""
    other = attrs.evolve(
        TOKEN,
        id="ffffffffffff",
        name="crm",
        created_at=MADE - dt.timedelta(days=1),
        expires_at=MADE + dt.timedelta(days=90),
    )
    for token in (TOKEN, other, TOKEN):
        await storage.add_token(token)
    assert await storage.tokens() == [other, TOKEN]


async def test_a_name_is_taken_until_its_token_is_revoked(storage: Storage) -> None:
    """And the one that was there stays as it is."""
    await storage.add_token(TOKEN)
    other = attrs.evolve(TOKEN, id="ffffffffffff")
    with pytest.raises(StorageRejectedError, match="another token is named grafana"):
        await storage.add_token(other)
    assert await storage.tokens() == [TOKEN]
    await storage.revoke_token(TOKEN.id, MADE)
    await storage.add_token(other)
    assert [each.id for each in await storage.tokens()] == [TOKEN.id, other.id]


async def test_the_first_revocation_counts(storage: Storage) -> None:
    """A token stays revoked since then; what there is not cannot be revoked."""
    await storage.add_token(TOKEN)
    await storage.revoke_token(TOKEN.id, MADE)
    row = await storage.revoke_token(TOKEN.id, MADE + dt.timedelta(hours=1))
    assert row is not None
    assert row.revoked_at == MADE
    assert await storage.tokens() == [row]
    assert await storage.revoke_token("ffffffffffff", MADE) is None


async def test_the_newest_mark_counts(storage: Storage) -> None:
    """Marks of tokens that there are not are nothing."""
    await storage.add_token(TOKEN)
    later = MADE + dt.timedelta(minutes=5)
    await storage.mark_tokens({TOKEN.id: later, "ffffffffffff": later})
    await storage.mark_tokens({TOKEN.id: MADE})
    await storage.mark_tokens({})
    [row] = await storage.tokens()
    assert row.last_used_at == later
