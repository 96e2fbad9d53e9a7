"""The stored form of sessions: `SessionRecord` and its row, with a version in front.

A record is one current state and up to 40 archived ones. The archived states stay packed until
a message asks for them, so that the usual message costs one small state to load and store.
"""

import typing as t

import attrs
from google.protobuf.message import DecodeError

from whatsapp.e2ee.chain import SKIPPED_ENTRY, Chain
from whatsapp.e2ee.curve import KEY_LENGTH, KeyPair
from whatsapp.e2ee.ratchet import PendingPreKey, ReceivingChain, SessionState
from whatsapp.errors import LocalProtocolError
from whatsapp.proto import records_pb2

RECORD_VERSION: t.Final = 1
MAX_ARCHIVED: t.Final = 40
MAX_ARCHIVED_BYTES: t.Final = 1024 * 1024
"""A state is about 400 bytes, but up to 360 KiB if its peer leaves gaps on purpose."""


@attrs.frozen
class SessionRecord:
    """All sessions with one device; opaque to everybody but `whatsapp.e2ee`."""

    current: SessionState
    archived: tuple[bytes, ...] = attrs.field(default=(), repr=False)  # packed, newest first

    def to_bytes(self) -> bytes:
        """The row to store."""
        record = records_pb2.SessionRecord(version=RECORD_VERSION, archived=self.archived)
        _write_state(self.current, record.current)
        return record.SerializeToString()

    @classmethod
    def from_bytes(cls, row: bytes) -> "SessionRecord":
        """Read a stored row; archived states are read when a message needs them.

        Raises:
            LocalProtocolError: corrupt, or of an unknown version.
        """
        try:
            record = records_pb2.SessionRecord.FromString(row)
        except DecodeError as error:
            raise LocalProtocolError("corrupt session record") from error
        if record.version != RECORD_VERSION:
            raise LocalProtocolError(f"session record of version {record.version}")
        return cls(_read_state(record.current), tuple(record.archived))

    def archived_states(self) -> tuple[SessionState, ...]:
        """The archived states, newest first.

        Raises:
            LocalProtocolError: one of them is corrupt.
        """
        return tuple(_unpack(state) for state in self.archived)

    def with_new(self, state: SessionState) -> "SessionRecord":
        """The record after a new session took the current one's place."""
        return SessionRecord(state, _bounded((_pack(self.current), *self.archived)))

    def with_promoted(self, position: int, state: SessionState) -> "SessionRecord":
        """The record after the archived state at ``position``, now ``state``, became current."""
        rest = self.archived[:position] + self.archived[position + 1 :]
        return SessionRecord(state, _bounded((_pack(self.current), *rest)))


def write_chain(chain: Chain, row: records_pb2.ChainRecord) -> None:
    """Fill the stored form of a chain."""
    row.key = chain.key
    row.counter = chain.counter
    if chain.skipped:
        row.skipped = chain.skipped
    if chain.floor:
        row.skipped_floor = chain.floor


def read_chain(row: records_pb2.ChainRecord) -> Chain:
    """Read the stored form of a chain.

    Raises:
        LocalProtocolError: corrupt.
    """
    skipped = row.skipped
    if len(skipped) % SKIPPED_ENTRY:
        raise LocalProtocolError("corrupt chain record")
    return Chain(stored_key(row.key), row.counter, skipped, row.skipped_floor)


def stored_key(key: bytes) -> bytes:
    """A key out of a row.

    Raises:
        LocalProtocolError: not 32 bytes.
    """
    if len(key) != KEY_LENGTH:
        raise LocalProtocolError(f"stored key of {len(key)} bytes")
    return key


def _bounded(archived: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The newest of them, as many as may be kept."""
    room = MAX_ARCHIVED_BYTES
    for position, state in enumerate(archived[:MAX_ARCHIVED]):
        room -= len(state)
        if room < 0:
            return archived[:position]
    return archived[:MAX_ARCHIVED]


def _pack(state: SessionState) -> bytes:
    row = records_pb2.SessionState()
    _write_state(state, row)
    return row.SerializeToString()


def _unpack(data: bytes) -> SessionState:
    try:
        return _read_state(records_pb2.SessionState.FromString(data))
    except DecodeError as error:
        raise LocalProtocolError("corrupt archived session") from error


def _write_state(state: SessionState, row: records_pb2.SessionState) -> None:
    row.remote_identity = state.remote_identity
    row.remote_registration_id = state.remote_registration_id
    row.base_key = state.base_key
    row.root_key = state.root_key
    row.ratchet_private = state.ratchet.private
    row.ratchet_public = state.ratchet.public
    row.previous_counter = state.previous_counter
    write_chain(state.sending, row.sending)
    for entry in state.receiving:
        chain_row = row.receiving.add()
        chain_row.ratchet_public = entry.ratchet
        write_chain(entry.chain, chain_row.chain)
    if state.pending is not None:
        row.pending.signed_prekey_id = state.pending.signed_prekey_id
        if state.pending.prekey_id is not None:
            row.pending.prekey_id = state.pending.prekey_id


def _read_state(row: records_pb2.SessionState) -> SessionState:
    pending = None
    if row.HasField("pending"):
        prekey_id = row.pending.prekey_id if row.pending.HasField("prekey_id") else None
        pending = PendingPreKey(prekey_id, row.pending.signed_prekey_id)
    return SessionState(
        remote_identity=stored_key(row.remote_identity),
        remote_registration_id=row.remote_registration_id,
        base_key=stored_key(row.base_key),
        root_key=stored_key(row.root_key),
        ratchet=KeyPair(stored_key(row.ratchet_private), stored_key(row.ratchet_public)),
        sending=read_chain(row.sending),
        previous_counter=row.previous_counter,
        receiving=tuple(
            ReceivingChain(stored_key(entry.ratchet_public), read_chain(entry.chain))
            for entry in row.receiving
        ),
        pending=pending,
    )
