"""Rows of messages as storage gives them to the workers, kept in a list."""

import collections.abc as cabc
import datetime as dt
import typing as t

import attrs

from actors.reading import Origin, message_of
from storage.api import ConnectionRow, Lane, ReceivedMessage
from storage.errors import StorageRejectedError, StorageUnavailableError
from storage.inbox import ADDON_KINDS, ContactDetail, PendingAddon, StoredMessage
from whatsapp.content import read_content
from whatsapp.jid import Jid

NAME: t.Final = "sales"
OWN: t.Final = ("5511999990001@s.whatsapp.net", "90000000000001@lid")
CUSTOMER: t.Final = ("15550001111@s.whatsapp.net", "90000000000002@lid")
START: t.Final = 1_790_000_000


class StoredRows:
    """The part of storage that the workers on stored messages use."""

    def __init__(self) -> None:
        self.rows: list[StoredMessage] = []
        self.away = 0
        """So many next reads find the database away."""
        self.refused: set[int] = set()
        self.reads: list[int] = []
        self.lid_known = True

    def add(self, raw: bytes, /, *, external_id: str, from_me: bool = False, **more: t.Any) -> int:
        """A message between the customer and us, as it is read today, unless told otherwise."""
        origin = Origin(
            chat=Jid.parse(CUSTOMER[0]),
            sender=Jid.parse(OWN[0] if from_me else CUSTOMER[0]),
            from_me=from_me,
            own=tuple(Jid.parse(jid) for jid in OWN),
            id=external_id,
            timestamp=START,
        )
        read = message_of(read_content(raw), origin)
        row = StoredMessage(
            id=len(self.rows) + 1,
            connection=NAME,
            conversation=1,
            chat=CUSTOMER[0],
            chat_alt=CUSTOMER[1],
            direct=True,
            senders=OWN if from_me else CUSTOMER,
            from_me=from_me,
            external_id=external_id,
            state="stored",
            sent_at=dt.datetime.fromtimestamp(START, dt.UTC),
            raw=raw,
            **_columns(read),
        )
        self.rows.append(attrs.evolve(row, **more))
        return row.id

    def row(self, row_id: int) -> StoredMessage:
        """As it is now."""
        return self.rows[row_id - 1]

    async def pending_addons(self, after: int, limit: int) -> list[PendingAddon]:
        self._answer(after)
        closed = [
            row
            for row in self._page(after, ADDON_KINDS, None)
            if not {"options", "response"} & row.detail.keys()
        ]
        return [PendingAddon(message=row, target=self._target(row)) for row in closed[:limit]]

    async def unread_kinds(
        self,
        after: int,
        limit: int,
        *,
        connection: str | None = None,
        kinds: cabc.Sequence[str] | None = ("unknown",),
    ) -> list[StoredMessage]:
        self._answer(after)
        return self._page(after, kinds, connection)[:limit]

    async def rewrite(
        self, connection: str, message_id: int, message: ReceivedMessage, *, expected: str
    ) -> bool:
        if message_id in self.refused:
            raise StorageRejectedError("not this one")
        row = self.row(message_id)
        assert row.connection == connection
        if row.kind != expected:
            return False
        self.rows[message_id - 1] = attrs.evolve(row, **_columns(message))
        return True

    async def connections(self) -> list[ConnectionRow]:
        return [
            ConnectionRow(
                name=name,
                wanted=True,
                paired=jid is not None,
                jid=jid,
                last_message_at=None,
                messages=0,
                duplicates=0,
                quarantined=0,
                undecryptable=0,
            )
            for name, jid in ((NAME, OWN[0]), ("unpaired", None))
        ]

    async def contact(self, connection: str, address: str) -> ContactDetail | None:
        assert (connection, address) == (NAME, OWN[0])
        if not self.lid_known:
            return None
        return ContactDetail(
            id=1,
            connection=NAME,
            name=None,
            names={},
            addresses=OWN,
            shown="+5511999990001",
            is_self=True,
            chat=None,
            created_at=dt.datetime.fromtimestamp(START, dt.UTC),
        )

    def _answer(self, after: int) -> None:
        self.reads.append(after)
        if self.away:
            self.away -= 1
            raise StorageUnavailableError("the database is away")

    def _page(
        self, after: int, kinds: cabc.Sequence[str] | None, connection: str | None
    ) -> list[StoredMessage]:
        return [
            row
            for row in self.rows
            if row.id > after
            and (kinds is None or row.kind in kinds)
            and connection in (None, row.connection)
        ]

    def _target(self, row: StoredMessage) -> StoredMessage | None:
        return next((item for item in self.rows if item.external_id == row.target_id), None)


def _columns(message: ReceivedMessage) -> dict[str, t.Any]:
    return {
        "kind": message.kind,
        "lane": Lane(message.lane).value,
        "text": message.text,
        "target_id": message.target_id,
        "target_author": message.target_author,
        "quoted_id": message.quoted_id,
        "quoted_author": message.quoted_author,
        "mentions": message.mentions,
        "flags": message.flags,
        "detail": dict(message.detail),
    }
