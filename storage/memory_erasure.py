"""Erasing in MemoryStorage: see :class:`storage.erasure.Erasing`. It forgets messages, names,
addresses and sessions, at once; what else PostgreSQL keeps of a person is for tests on it."""

import collections.abc as cabc
import itertools

import attrs
import trio

from storage.erasure import PAGE, Erasure, RetentionRun, RetentionStep, Rule, Subject
from storage.errors import StorageRejectedError
from storage.memory_quarantine import MemoryQuarantine
from storage.memory_state import SELF, Connection, Message, utc
from storage.queues import MediaState
from storage.tombstones import Tombstones, owner_of


class MemoryErasure(MemoryQuarantine):
    """The part of MemoryStorage that erases."""

    def __init__(self, clock: cabc.Callable[[], float]) -> None:
        super().__init__(clock)
        self._tombstones = Tombstones(b"memory")
        self._erasures: dict[int, Erasure] = {}
        self._erasure_ids = itertools.count(1)
        self._erased_blobs: dict[bytes, None] = {}
        self._runs: list[RetentionRun] = []

    async def erasure_subject(
        self, *, contact: int | None = None, address: str | None = None, connection: str | None
    ) -> Subject | None:
        """See :meth:`storage.erasure.Erasing.erasure_subject`."""
        await trio.lowlevel.checkpoint()
        owners = self._chosen(None)
        known = {} if address is None else {address: None}
        for owner in owners:
            if contact is not None and contact in owner.contacts:
                known |= dict.fromkeys(owner.addresses_of(contact))
        for owner in owners:
            for each in tuple(known):
                if (found := owner.contact_at(each)) is not None:
                    known |= dict.fromkeys(owner.addresses_of(found))
        chosen = self._chosen(connection)
        people = {owner.name: _contacts(owner, known) for owner in chosen}
        if not any(people.values()):
            return None
        return Subject(
            contact=contact,
            name=next(
                (
                    name
                    for owner in chosen
                    for each in people[owner.name]
                    if (name := owner.name_of(each))
                ),
                None,
            ),
            addresses=tuple(sorted(known)),
            connections=tuple(owner.name for owner in chosen),
            known_on=tuple(name for name, found in people.items() if found),
            messages=sum(
                row.chat.contact in people[owner.name]
                for owner in chosen
                for row in owner.rows.values()
            ),
            is_self=any(SELF in found for found in people.values()),
        )

    async def begin_erasure(
        self,
        *,
        contact: int | None = None,
        address: str | None = None,
        connection: str | None,
        by: str,
        version: str,
    ) -> Erasure | None:
        """See :meth:`storage.erasure.Erasing.begin_erasure`."""
        subject = await self.erasure_subject(
            contact=contact, address=address, connection=connection
        )
        if subject is None:
            return None
        if subject.is_self:
            raise StorageRejectedError(
                "that is the account of a connection itself, which cannot be forgotten"
            )
        now = self._clock()
        counts = {"addresses": len(subject.addresses), "messages": 0, "names": 0}
        for name in subject.connections:
            owner = self._connection(name)
            people = _contacts(owner, subject.addresses)
            self._tombstones.bury(name, subject.addresses, now)
            for row in owner.rows.values():
                if row.sender in people or row.chat.contact in people:
                    counts["messages"] += self._strip(owner, row, "forgotten")
            for kind, records in owner.records.items():
                owned = [each for each in records if owner_of(kind, each) in subject.addresses]
                for record in owned:
                    del records[record]
            for each in subject.addresses:
                for key in [key for key in owner.names if key[0] == each]:
                    del owner.names[key]
                    counts["names"] += 1
                owner.addresses.pop(each, None)
            for person in people:
                if (chat := owner.chats.pop(person, None)) is None:
                    continue
                chat.address = f"forgotten-{chat.id}@removed"
                for conversation in chat.conversations:
                    if conversation.live:
                        previous, conversation.status = conversation.status, "closed"
                        conversation.closed_at = now
                        self._tell_conversation(owner, conversation, previous)
        number = next(self._erasure_ids)
        self._erasures[number] = Erasure(
            id=number,
            requested_by=by,
            version=version,
            requested_at=utc(now),
            finished_at=None,
            connections=subject.connections,
            subject=tuple(self._tombstones.hash(each).hex() for each in subject.addresses),
            phase="files",
            counts=counts,
        )
        return self._erasures[number]

    async def continue_erasure(self, erasure_id: int, *, files_gone: bool = False) -> Erasure:
        """See :meth:`storage.erasure.Erasing.continue_erasure`."""
        await trio.lowlevel.checkpoint()
        if erasure_id not in self._erasures:
            raise StorageRejectedError(f"there is no erasure {erasure_id}")
        row = self._erasures[erasure_id]
        if files_gone and row.finished_at is None:
            row = attrs.evolve(row, phase="done", finished_at=utc(self._clock()))
            self._erasures[erasure_id] = row
        return row

    async def unfinished_erasures(self) -> list[int]:
        """See :meth:`storage.erasure.Erasing.unfinished_erasures`."""
        await trio.lowlevel.checkpoint()
        return [row.id for row in self._erasures.values() if row.finished_at is None]

    async def erasures(self, *, before: int | None = None, limit: int = 50) -> list[Erasure]:
        """See :meth:`storage.erasure.Erasing.erasures`."""
        await trio.lowlevel.checkpoint()
        found = [row for row in self._erasures.values() if before is None or row.id < before]
        return sorted(found, key=lambda row: -row.id)[: max(0, min(limit, PAGE + 1))]

    async def erasure(self, erasure_id: int) -> Erasure | None:
        """See :meth:`storage.erasure.Erasing.erasure`."""
        await trio.lowlevel.checkpoint()
        return self._erasures.get(erasure_id)

    async def erased_blobs(self, limit: int) -> list[bytes]:
        """See :meth:`storage.erasure.Erasing.erased_blobs`."""
        await trio.lowlevel.checkpoint()
        return list(self._erased_blobs)[:limit]

    async def blob_erased(self, sha256: bytes) -> None:
        """See :meth:`storage.erasure.Erasing.blob_erased`."""
        await trio.lowlevel.checkpoint()
        self._erased_blobs.pop(sha256, None)

    async def is_forgotten(self, connection: str, addresses: cabc.Sequence[str], at: float) -> bool:
        """See :meth:`storage.erasure.Erasing.is_forgotten`."""
        await trio.lowlevel.checkpoint()
        return self._tombstones.forgets(connection, addresses, at)

    async def retain(
        self, connection: str, rule: Rule, *, after: int, window: int, now: float, dry: bool
    ) -> RetentionStep:
        """See :meth:`storage.erasure.Erasing.retain`."""
        await trio.lowlevel.checkpoint()
        owner = self._connection(connection)
        page = sorted(number for number in owner.rows if number > after)[:window]
        messages = files = 0
        for row in (owner.rows[number] for number in page):
            old = row.content.sent_at < now - rule.after and not row.placeholder
            wanted = rule.kinds is None or row.content.kind in rule.kinds
            if not old or not wanted or (row.conversation.live and not rule.live):
                continue
            file = self._media.get((connection, row.id))
            if rule.files_only:
                if file is not None and file.state == MediaState.STORED:
                    files += 1
                    if not dry:
                        self._give_up(file.blob_sha256)
                        file.state = MediaState.REMOVED.value
            elif row.erased is None:
                messages, files = messages + 1, files + (file is not None)
                if not dry:
                    self._strip(owner, row, "retention")
        return RetentionStep(last_id=page[-1] if page else None, messages=messages, files=files)

    async def retain_rest(self, cutoff: float, limit: int) -> int:
        """See :meth:`storage.erasure.Erasing.retain_rest`."""
        await trio.lowlevel.checkpoint()
        return 0

    async def record_retention(self, run: RetentionRun) -> None:
        """See :meth:`storage.erasure.Erasing.record_retention`."""
        await trio.lowlevel.checkpoint()
        self._runs.append(run)

    async def retention_runs(self, *, limit: int = 50) -> list[RetentionRun]:
        """See :meth:`storage.erasure.Erasing.retention_runs`."""
        await trio.lowlevel.checkpoint()
        return sorted(self._runs, key=lambda run: run.ended_at, reverse=True)[:limit]

    def _strip(self, owner: Connection, row: Message, reason: str) -> bool:
        """Take the content of a message away; False: it had none any more."""
        if row.erased is not None:
            return False
        row.erased = reason
        row.content = attrs.evolve(
            row.content,
            text=None,
            raw=b"",
            detail=None,
            media=None,
            reason=None,
            quoted_id=None,
            quoted_author=None,
            mentions=(),
            flags=(),
        )
        file = self._media.pop((owner.name, row.id), None)
        if file is not None and file.state == MediaState.STORED:
            self._give_up(file.blob_sha256)
        return True

    def _give_up(self, sha256: bytes | None) -> None:
        if sha256 is not None:
            self._erased_blobs[sha256] = None


def _contacts(owner: Connection, addresses: cabc.Iterable[str]) -> set[int]:
    found = (owner.contact_at(each) for each in addresses)
    return {each for each in found if each is not None}
