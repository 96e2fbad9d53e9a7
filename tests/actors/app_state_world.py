"""A phone, a server and a database for app state, as small as can be and scriptable."""

import collections.abc as cabc
import typing as t

import attrs
import trio

from actors.app_state import AppState, Asked
from actors.errors import TransportError
from actors.line import NotOnlineError
from actors.records import RecordCache
from actors.settings import ConnectionSettings, Tools
from storage.api import Envelope, Outcome, RecordChange, RecordKind, Verdict
from storage.errors import StorageUnavailableError
from storage.facts import AppStateStep, Fact
from whatsapp.appstate import COLLECTIONS, patches, requests, wire
from whatsapp.appstate.actions import Action
from whatsapp.appstate.keys import KeyRing, build_key_data
from whatsapp.appstate.mutations import Operation, index_bytes, seal_record
from whatsapp.appstate.patches import CollectionState
from whatsapp.errors import RemoteProtocolError
from whatsapp.iq import app_state as iq
from whatsapp.iq import core
from whatsapp.iq.app_state import CollectionAnswer, CollectionRequest
from whatsapp.media_source import MediaSource
from whatsapp.node import Node
from whatsapp.proto import sync_pb2

NAME: t.Final = "sales"
START: t.Final = 1_790_000_000.0
OWN: t.Final = "15550009999@s.whatsapp.net"


@attrs.define
class Written:
    """A collection as the phone and the server have it."""

    name: str
    state: CollectionState = attrs.field(factory=CollectionState)
    values: dict[bytes, bytes] = attrs.field(factory=dict)
    records: dict[bytes, sync_pb2.SyncRecord] = attrs.field(factory=dict)
    plain: dict[bytes, sync_pb2.SyncActionData] = attrs.field(factory=dict)
    patches: list[bytes] = attrs.field(factory=list)  # that of version n at n-1


class Phone:
    """Writes app state; the server's side is plain storage of what it wrote."""

    def __init__(self) -> None:
        self.secrets = {bytes([0, 0, 0, 0, 0, n]): bytes([n]) * 32 for n in (1, 2, 3)}
        self.key_id = bytes([0, 0, 0, 0, 0, 1])
        self.collections = {name: Written(name) for name in COLLECTIONS}
        self.files: dict[str, bytes] = {}
        self.external = False  # whether mutations go into a file
        self._count = 0

    @property
    def ring(self) -> KeyRing:
        return KeyRing(self.secrets)

    def write(self, *actions: Action, operation: Operation = Operation.SET) -> None:
        """One patch with some actions, all of one collection."""
        written = self.collections[actions[0].collection]
        keys = self.ring[self.key_id]
        sealed = []
        for action in actions:
            self._count += 1
            iv = self._count.to_bytes(16, "big")
            mutation = seal_record(
                operation, action.index, action.value, keys, iv=iv, version=action.version
            )
            sealed.append(mutation)
            mac = mutation.record.index.blob
            if operation is Operation.SET:
                written.records[mac] = mutation.record
                written.plain[mac] = sync_pb2.SyncActionData(
                    index=index_bytes(action.index),
                    value=action.value.SerializeToString(),
                    version=action.version,
                )
            else:
                written.records.pop(mac, None)
                written.plain.pop(mac, None)
        patch, step = patches.build_patch(
            written.name, sealed, written.state, written.values, self.ring, keys
        )
        written.state = step.state
        written.values.update(step.values)
        for mac in step.removed:
            written.values.pop(mac, None)
        patch.version.version = step.state.version
        if self.external:
            blob = sync_pb2.SyncMutations(mutations=patch.mutations).SerializeToString()
            del patch.mutations[:]
            patch.external_mutations.MergeFromString(self.upload(blob))
        written.patches.append(patch.SerializeToString())

    def upload(self, data: bytes) -> bytes:
        """Keep a file; its reference."""
        path = f"/v/{len(self.files)}?x=1"
        self.files[path] = data
        source = MediaSource(kind="app_state", media_key=b"m" * 32, direct_path=path)
        return wire.build_reference(source).SerializeToString()

    def snapshot(self, name: str) -> bytes:
        """The whole of a collection, uploaded; its reference."""
        written = self.collections[name]
        snapshot = patches.build_snapshot(
            name, written.state.version, written.records.values(), self.ring[self.key_id]
        )
        return self.upload(snapshot.SerializeToString())

    def recovery(self, name: str, request_id: str = "1") -> bytes:
        """The phone's copy of a collection, as a message."""
        written = self.collections[name]
        recovery = sync_pb2.SyncRecovery(
            collection_name=name.encode(), collection_lthash=written.state.hash
        )
        recovery.version.version = written.state.version
        for mac, record in written.records.items():
            value = written.plain[mac]
            recovery.records.add(value=value, key_id=record.key_id.id, mac=written.values[mac])
        return requests.build_recovery_response(request_id, recovery)

    def share(self, *key_ids: bytes) -> tuple[RecordChange, ...]:
        """Keys as records to be stored."""
        raw = requests.build_key_share(
            (key_id, build_key_data(self.secrets[key_id], int(START * 1000)))
            for key_id in key_ids or (self.key_id,)
        )
        return tuple(
            RecordChange(RecordKind.APP_STATE_KEY, key, data)
            for key, data in requests.read_key_share(raw)
        )


class Database:
    """What of storage app state needs; an envelope is applied whole or not at all."""

    def __init__(self) -> None:
        self.records: dict[str, bytes] = {}
        self.states: dict[str, tuple[int, bytes]] = {}
        self.values: dict[str, dict[bytes, bytes]] = {}
        self.facts: list[Fact] = []
        self.steps: list[AppStateStep] = []
        self.envelopes: list[Envelope] = []
        self.away = False
        self.refuses = 0  # so many next envelopes are quarantined
        self.crash_at: int | None = None  # the envelope after so many more is never answered

    async def apply(self, envelope: Envelope) -> Outcome | None:
        await trio.lowlevel.checkpoint()
        if self.crash_at == 0:
            await trio.sleep_forever()
        if self.crash_at is not None:
            self.crash_at -= 1
        if self.refuses:
            self.refuses -= 1
            return Outcome(verdict=Verdict.QUARANTINED)
        self.envelopes.append(envelope)
        for fact in envelope.facts:
            if isinstance(fact, AppStateStep):
                self._step(fact)
            else:
                self.facts.append(fact)
        return Outcome(verdict=Verdict.RECORDED)

    def _step(self, step: AppStateStep) -> None:
        self.steps.append(step)
        values = {} if step.reset else self.values.setdefault(step.collection, {})
        values.update(step.values)
        for mac in step.removed:
            values.pop(mac, None)
        self.values[step.collection] = values
        self.states[step.collection] = (step.version, step.hash)

    async def app_state(self, connection: str, collection: str) -> tuple[int, bytes] | None:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise StorageUnavailableError("the database is away")
        return self.states.get(collection)

    async def app_state_values(
        self, connection: str, collection: str, index_macs: cabc.Sequence[bytes]
    ) -> dict[bytes, bytes]:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise StorageUnavailableError("the database is away")
        known = self.values.get(collection, {})
        return {mac: known[mac] for mac in index_macs if mac in known}

    async def load_records(
        self, connection: str, kind: RecordKind, keys: cabc.Sequence[str]
    ) -> dict[str, bytes]:
        await trio.lowlevel.checkpoint()
        return {key: self.records[key] for key in keys if key in self.records}

    async def has_app_state_keys(self, connection: str) -> bool:
        await trio.lowlevel.checkpoint()
        return bool(self.records)


class World:
    """One connection's app state with everything around it."""

    def __init__(self) -> None:
        self.phone = Phone()
        self.database = Database()
        self.asked = Asked()
        self.name = NAME
        self.online = True
        self.page = 100  # patches in one answer
        self.requests: list[tuple[CollectionRequest, ...]] = []
        self.peer: list[tuple[bytes, str | None]] = []  # messages to the phone
        self.refusal: core.IqError | None = None  # of whole requests
        self.refused: dict[str, core.IqError] = {}  # of collections
        self.garbled: set[str] = set()  # collections whose patches arrive damaged
        self.bad_snapshots = 0  # so many next snapshots arrive damaged
        self.files_away = False
        self.phone_away = False
        self.answer: cabc.Callable[[CollectionRequest], CollectionAnswer] = self.honest
        self.on_peer: cabc.Callable[[bytes], None] = lambda message: None
        self.start()

    def start(self) -> None:
        """A new life: nothing in memory survives, except when the phone was asked."""
        self.cache = RecordCache(t.cast(t.Any, self.database), NAME)
        tools = Tools(
            storage=t.cast(t.Any, self.database),
            writer=t.cast(t.Any, None),
            dial=t.cast(t.Any, None),
            wall_clock=lambda: START + trio.current_time(),
            random=bytes,
            uniform=lambda: 1.0,
        )
        self.app_state = AppState(
            NAME,
            self.cache,
            self.database.apply,
            tools,
            ConnectionSettings(version=(2, 3000, 1), root_key=b""),
            self,
            self.fetch,
            own=OWN,
            asked=self.asked,
        )

    def share_keys(self, *key_ids: bytes) -> None:
        """The phone's share was committed."""
        changes = self.phone.share(*key_ids)
        self.cache.put(changes, ticket=0)
        for change in changes:
            assert change.value is not None
            self.database.records[change.key] = change.value
        self.app_state.keys_arrived()

    def state_of(self, name: str) -> str:
        """What a collection waits for."""
        [status] = [each for each in self.app_state.status() if each.name == name]
        return status.state.value

    @property
    def in_step(self) -> bool:
        """Whether the database has what the phone wrote."""
        return all(
            self.database.states.get(name, (0, CollectionState().hash))
            == (written.state.version, written.state.hash)
            and self.database.values.get(name, {}) == written.values
            for name, written in self.phone.collections.items()
        )

    # ---- the line, and the media hosts

    async def request(self, build: cabc.Callable[[str], Node], timeout: float = 30.0) -> Node:
        await trio.lowlevel.checkpoint()
        if not self.online:
            raise NotOnlineError("gone")
        request = build("1")
        wanted = iq.parse_sync_request(request)
        self.requests.append(wanted)
        if self.refusal is not None:
            return core.error(request, self.refusal.code, self.refusal.text)
        return attrs.evolve(
            iq.sync_response(request, [self.answer(each) for each in wanted]), tag="iq"
        )

    async def send(self, node: Node) -> None:
        raise AssertionError("app state sends nothing but requests")

    async def send_peer(
        self, message: bytes, *, priority: str | None = None, stanza_id: str | None = None
    ) -> str:
        await trio.lowlevel.checkpoint()
        if self.phone_away or not self.online:
            raise NotOnlineError("gone")
        self.peer.append((message, priority))
        self.on_peer(message)
        return "1"

    async def fetch(self, connection: str, source: MediaSource, limit: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.files_away:
            raise TransportError("no host answers")
        data = self.phone.files[source.direct_path]
        if len(data) > limit:
            raise RemoteProtocolError("too large")
        return data

    def honest(self, wanted: CollectionRequest) -> CollectionAnswer:
        """What the server says, apart from the faults above."""
        if (error := self.refused.get(wanted.name)) is not None:
            return CollectionAnswer(name=wanted.name, error=error)
        written = self.phone.collections[wanted.name]
        version = written.state.version
        if wanted.snapshot:
            if not version:
                return CollectionAnswer(name=wanted.name, version=0)
            reference = self.phone.snapshot(wanted.name)
            if self.bad_snapshots:
                self.bad_snapshots -= 1
                path = wire.parse_reference(reference).direct_path
                self.phone.files[path] = self.phone.files[path][:-9] + bytes(9)
            return CollectionAnswer(name=wanted.name, version=version, snapshot=reference)
        due = written.patches[wanted.version : wanted.version + self.page]
        if wanted.name in self.garbled:
            due = [_garbled(patch) for patch in due]
        return CollectionAnswer(
            name=wanted.name,
            version=version,
            patches=tuple(due),
            more=wanted.version + len(due) < version,
        )


def _garbled(data: bytes) -> bytes:
    patch = wire.parse_patch(data)
    patch.patch_mac = bytes(32)
    return patch.SerializeToString()
