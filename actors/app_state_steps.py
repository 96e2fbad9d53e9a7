"""From an answer of the server to committed steps of one collection: fetch, verify, commit."""

import collections.abc as cabc
import typing as t

import attrs
import structlog
import trio

from actors.app_state_facts import actions_to_facts
from actors.errors import ActorError
from actors.records import RecordCache
from actors.settings import Tools
from storage.api import Envelope, Outcome, RecordKind, Verdict
from storage.crash_points import crash_point
from storage.facts import AppStateStep
from whatsapp.appstate import patches, wire
from whatsapp.appstate.keys import KeyRing, secret_of
from whatsapp.appstate.patches import CollectionState, Step
from whatsapp.errors import LocalProtocolError
from whatsapp.iq.app_state import CollectionAnswer
from whatsapp.media_source import MediaSource
from whatsapp.proto import sync_pb2

MUTATIONS_PER_ENVELOPE: t.Final = 500

log: structlog.stdlib.BoundLogger = structlog.get_logger("app_state")

Post: t.TypeAlias = cabc.Callable[[Envelope], cabc.Awaitable[Outcome | None]]
"""Commits an envelope; None: it could not be stored."""
Fetch: t.TypeAlias = cabc.Callable[[str, MediaSource, int], cabc.Awaitable[bytes]]
"""Fetches and opens a small file: connection, source, limit in bytes. Raises ``ActorError`` when
it may work later, ``RemoteProtocolError`` when the file is not what was announced."""


class AppStateRows(t.Protocol):
    """What is read from storage here."""

    async def app_state(self, connection: str, collection: str) -> tuple[int, bytes] | None:
        """Version and hash of a collection; None: never synchronised."""
        ...

    async def app_state_values(
        self, connection: str, collection: str, index_macs: cabc.Sequence[bytes]
    ) -> dict[bytes, bytes]:
        """The value MACs of those index MACs that are known."""
        ...

    async def has_app_state_keys(self, connection: str) -> bool:
        """Whether the phone has ever shared keys with this device."""
        ...


class NotStoredError(ActorError):
    """The database takes everything but this step."""


@attrs.define
class Position:
    """How far a collection is, as committed. Nothing else survives a restart."""

    name: str
    state: CollectionState | None = None  # None: never synchronised

    @property
    def version(self) -> int:
        """The version that is stored; 0 is nothing."""
        return 0 if self.state is None else self.state.version


class Stepper:
    """Moves collections from one committed step to the next; never half a step.

    The facts of a very large step are committed ahead of it, a part at a time: a crash in between
    repeats them, and facts may come twice.
    """

    def __init__(
        self,
        name: str,
        cache: RecordCache,
        post: Post,
        tools: Tools,
        fetch: Fetch,
        own: str | None,
    ) -> None:
        self._name = name
        self._cache = cache
        self._post = post
        self._rows = t.cast(AppStateRows, tools.storage)
        self._wall_clock = tools.wall_clock
        self._fetch = fetch
        self._own = own

    async def load(self, position: Position) -> None:
        """Read how far a collection is."""
        row = await self._rows.app_state(self._name, position.name)
        position.state = None if row is None else CollectionState(*row)

    async def has_keys(self) -> bool:
        """Whether keys are stored. Those that come in this life are told of otherwise."""
        return await self._rows.has_app_state_keys(self._name)

    async def apply(self, position: Position, answer: CollectionAnswer, fresh: bool) -> bool:
        """Verify and commit what came, step by step; whether there was anything new.

        ``fresh``: a snapshot was asked for, so nothing that is stored counts. What was committed
        before an error stays.

        Raises:
            MissingKeyError: a key is needed first.
            RemoteProtocolError: what came cannot be right.
            NotStoredError, StorageError, ActorError: nothing is wrong with it; try later.
        """
        version = position.version
        moved = False
        if answer.snapshot is not None and (fresh or (answer.version or 0) > version):
            await self._snapshot(position, answer.snapshot)
            moved, fresh = True, False
        for data in answer.patches:
            patch = wire.parse_patch(data)
            told = wire.version_of(patch)
            if not fresh and told is not None and told <= position.version:
                continue  # applied already
            await self._patch(position, patch, fresh)
            moved, fresh = True, False
        return moved

    async def recover(self, position: Position, recovery: sync_pb2.SyncRecovery) -> None:
        """Take over the phone's own copy of a collection. Raises as :meth:`apply`."""
        ring = await self._ring(wire.recovery_key_ids(recovery))
        step = await _breathing(patches.read_recovery(recovery, ring))
        await self._commit(position, step)

    async def _snapshot(self, position: Position, reference: bytes) -> None:
        source = wire.parse_reference(reference)
        snapshot = wire.parse_snapshot(await self._fetch(self._name, source, wire.MAX_BLOB))
        ring = await self._ring(wire.key_ids(snapshot))
        await self._commit(
            position, await _breathing(patches.verify_snapshot(position.name, snapshot, ring))
        )

    async def _patch(self, position: Position, patch: sync_pb2.SyncPatch, fresh: bool) -> None:
        if (source := wire.external_mutations(patch)) is not None:
            data = await self._fetch(self._name, source, wire.MAX_BLOB)
            patch = wire.with_mutations(patch, data)
        ring = await self._ring(wire.key_ids(patch))
        before, previous = CollectionState(), dict[bytes, bytes]()
        if not fresh:
            before = position.state or before
            macs = wire.index_macs(patch)
            previous = await self._rows.app_state_values(self._name, position.name, macs)
        verifying = patches.verify_patch(position.name, patch, before, previous, ring)
        step = await _breathing(verifying)
        if step.unknown_removals:
            log.info(
                "app_state.unknown_removals",
                connection=self._name,
                collection=position.name,
                count=step.unknown_removals,
            )
        await self._commit(position, attrs.evolve(step, reset=fresh))

    async def _ring(self, key_ids: cabc.Iterable[bytes]) -> KeyRing:
        """The keys that we have of these; one that does not read counts as absent.

        Raises:
            MissingKeyError: names all that we do not have.
        """
        secrets, wanted = {}, tuple(key_ids)
        for key_id in wanted:
            await self._cache.load(RecordKind.APP_STATE_KEY, [key_id.hex()])
            data = self._cache.get(RecordKind.APP_STATE_KEY, key_id.hex())
            if data is not None:
                try:
                    secrets[key_id] = secret_of(data)
                except LocalProtocolError as error:
                    log.error("app_state.key_damaged", connection=self._name, error=str(error))
        ring = KeyRing(secrets)
        ring.require(wanted)
        return ring

    async def _commit(self, position: Position, step: Step) -> None:
        now, mutations = self._wall_clock(), step.mutations
        last = max(len(mutations) - MUTATIONS_PER_ENVELOPE, 0)
        for start in range(0, last, MUTATIONS_PER_ENVELOPE):
            part = mutations[start : min(start + MUTATIONS_PER_ENVELOPE, last)]
            facts = actions_to_facts(part, now, self._own)
            await self._store(Envelope(connection=self._name, facts=facts))
        committed = AppStateStep(
            collection=position.name,
            version=step.state.version,
            hash=step.state.hash,
            reset=step.reset,
            values=tuple(step.values.items()),
            removed=step.removed,
        )
        facts = actions_to_facts(mutations[last:], now, self._own)
        crash_point("app_state.verified")
        await self._store(Envelope(connection=self._name, facts=(*facts, committed)))
        crash_point("app_state.committed")
        position.state = step.state
        log.info(
            "app_state.synced",
            connection=self._name,
            collection=position.name,
            version=step.state.version,
            mutations=len(mutations),
        )

    async def _store(self, envelope: Envelope) -> None:
        outcome = await self._post(envelope)
        if outcome is None or outcome.verdict is Verdict.QUARANTINED:
            raise NotStoredError("a step of app state cannot be stored; see the log")


async def _breathing(verifying: patches.Verifying) -> Step:
    """Run a verification with pauses for everyone else."""
    while True:
        try:
            next(verifying)
        except StopIteration as done:
            return t.cast(Step, done.value)
        await trio.lowlevel.checkpoint()
