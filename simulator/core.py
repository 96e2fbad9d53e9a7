"""The simulator as a whole: what tests, the demo and the command line hold in their hands."""

import contextlib
import time
import typing as t

import trio

from simulator import adv, groups
from simulator.ca import Authority
from simulator.entropy import Entropy
from simulator.faults import Faults, Unheard, ending
from simulator.ledger import Ledger
from simulator.media import MediaStore
from simulator.model import Account, Device, Group, phone_of
from simulator.phone import Phone
from simulator.refs import Refs
from simulator.session import Session, State
from simulator.settings import Settings
from simulator.transport import MemoryTransport, Transport, memory_pair
from simulator.world import World
from whatsapp.e2ee.curve import KeyPair
from whatsapp.jid import Jid
from whatsapp.stream import ServerStream


class Simulator:
    """A WhatsApp server with phones. Its sessions live in the nursery it was opened with."""

    def __init__(
        self,
        nursery: trio.Nursery,
        *,
        now: t.Callable[[], float],
        entropy: Entropy,
        settings: Settings,
    ) -> None:
        self._nursery = nursery
        self._entropy = entropy
        self._settings = settings
        self._refs = Refs()
        self._sessions: dict[Session, None] = {}
        self._authority = Authority(entropy.fork("ca"), int(now()))
        self._address: tuple[str, int] | None = None
        self._certificate = ""
        self.world = World(
            now=now, entropy=entropy.fork("world"), settings=settings, make_phone=Phone
        )

    # -- what a client needs to know

    @property
    def url(self) -> str:
        """Where clients connect; only when it listens."""
        return f"{self.http_url.replace('http', 'ws', 1)}/ws/chat"

    @property
    def http_url(self) -> str:
        """Where the admin endpoints are; only when it listens."""
        if self._address is None:
            raise RuntimeError("the simulator does not listen on a port")
        host, port = self._address
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def listening_on(self, address: tuple[str, int], certificate: str) -> None:
        """The listener is up, with this certificate (PEM) for TLS."""
        self._address = address
        self._certificate = certificate
        self.media.host = self.http_url.removeprefix("http://")

    @property
    def certificate(self) -> str:
        """What clients must trust to speak TLS (PEM, self-signed); only when it listens."""
        if not self._certificate:
            raise RuntimeError("the simulator does not listen on a port")
        return self._certificate

    @property
    def media(self) -> MediaStore:
        """The files on the media host; in memory this is the only way to them."""
        return self.world.media

    @property
    def root_key(self) -> bytes:
        """The root of trust of this server, 32 bytes."""
        return self._authority.root_key

    # -- who is there

    @property
    def accounts(self) -> tuple[Account, ...]:
        """Every account, in order of creation."""
        return self.world.accounts

    @property
    def ledger(self) -> Ledger:
        """What was owed, offered and acknowledged."""
        return self.world.ledger

    @property
    def faults(self) -> Faults:
        """The switches for things that go wrong."""
        return self.world.faults

    def create_account(self, name: str, phone: str | None = None) -> Account:
        """A person with a phone; the number, in digits, follows from the name if missing."""
        return self.world.create_account(name, phone)

    def create_group(
        self, subject: str, members: t.Sequence[Account], *, lid_addressing: bool = True
    ) -> Group:
        """A group made by the first of its members; all are told."""
        group = self.world.create_group(
            subject, members[0], members[1:], lid_addressing=lid_addressing
        )
        groups.tell_of_creation(self.world, group)
        self.world.settle()
        return group

    def group_of_everyone(self, subject: str) -> None:
        """Make every account created from now on a member of one group."""
        self.world.default_group = subject

    # -- connections

    async def connect(self) -> MemoryTransport:
        """Connect inside this process; the client's end of the connection.

        Raises:
            ConnectionRefusedError: a fault refuses connections.
        """
        await trio.lowlevel.checkpoint()
        if self.faults.refuse_connections:
            raise ConnectionRefusedError("the simulator refuses connections")
        ours, theirs = memory_pair()
        self._nursery.start_soon(self.serve, ours, 0.0)
        return theirs

    async def serve(self, transport: Transport, first_stanza_pause: float | None = None) -> None:
        """Serve one accepted connection until it ends."""
        pause = self._settings.first_stanza_pause
        session = Session(
            self.world,
            self._refs,
            transport,
            ServerStream(
                static=self._authority.static,
                ephemeral=KeyPair.from_private(self._entropy(32)),
                cert_chain=self._authority.chain(self.faults.forged_certificate),
            ),
            pause if first_stanza_pause is None else first_stanza_pause,
        )
        self._sessions[session] = None
        try:
            await session.run()
        finally:
            del self._sessions[session]

    async def scan_qr(self, text: str, phone: str | None = None, name: str | None = None) -> Device:
        """Scan a companion's QR text with the phone of an account, which is made if need be.

        Without ``phone`` the number follows from ``name``, or from the companion's own push name.

        Raises:
            ScanRefusedError: not a QR text, an unknown or expired one, or pairing failed.
        """
        code = adv.parse_qr(text)
        linking = self._refs.linking(code.ref)
        chosen = name or linking.push_name or phone or code.ref[-8:]
        account = self.create_account(chosen, phone or phone_of(chosen))
        device = await linking.pair(account, code)
        self.world.settle()
        return device

    async def enter_code(self, text: str, phone: str, name: str | None = None) -> Device:
        """Type a companion's pairing code on the phone of a number; the account is made if need be.

        Raises:
            ScanRefusedError: no companion shows a code for the number, expired, or another one.
        """
        account = self.create_account(name or phone, phone)
        return await account.phone.enter_code(text)

    # -- trouble that takes effect at once

    async def end(self, name: str, target: Jid | None = None) -> int:
        """End the target's live connections with a stanza, see `faults.ENDINGS`; how many.

        Raises:
            UnknownNameError: no such ending.
        """
        last = ending(name)
        sessions = [s for s in self._live(target) if s.state is not State.HALF_OPEN]
        for session in sessions:
            await session.end(last)
        return len(sessions)

    def drop(self, target: Jid | None = None) -> int:
        """Cut the target's live connections without a word; how many."""
        sessions = self._live(target)
        for session in sessions:
            session.drop()
        return len(sessions)

    def half_open(self, target: Jid | None = None) -> int:
        """Lose the target's live connections without telling the clients: what they write is
        taken, nothing ever comes back; how many."""
        sessions = [s for s in self._live(target) if s.state is not State.HALF_OPEN]
        for session in sessions:
            session.half_open()
        return len(sessions)

    def deafen(self, target: Jid | None = None, unheard: Unheard = "everything") -> int:
        """Deliver nothing more (or no messages) on the target's live connections, though pings,
        requests and what they send are answered as before; how many. A new connection gets all.
        """
        sessions = [s for s in self._live(target) if s.state is State.ACTIVE]
        for session in sessions:
            session.deafen(unheard)
        return len(sessions)

    async def say(self, plaintext: bytes, target: Jid | None = None) -> int:
        """Send the target's live connections bytes in the place of a stanza, encrypted; how many.

        The ledger knows nothing of them.
        """
        sessions = self._live(target)
        for session in sessions:
            await session.send_plaintext(plaintext)
        return len(sessions)

    async def scrawl(self, data: bytes, target: Jid | None = None) -> int:
        """Write bytes as they are to the target's live connections; how many."""
        sessions = self._live(target)
        for session in sessions:
            await session.send_bytes(data)
        return len(sessions)

    def expire_qr(self) -> None:
        """Every code on any screen is too old from now on."""
        self._refs.expire()

    def stats(self) -> dict[str, int]:
        """Counts, for people and tests."""
        records = self.ledger.records()
        return {
            "accounts": len(self.accounts),
            "groups": len(self.world.groups),
            "devices": sum(len(account.companions) for account in self.accounts),
            "connections": len(self._sessions),
            "owed": len(records),
            "offered": sum(record.offered > 0 for record in records),
            "acknowledged": sum(record.acknowledged_at is not None for record in records),
            "duplicates_offered": self.ledger.duplicates_offered(),
            "media_files": len(self.media),
            "queue_overflows": self.world.overflowed,
            "forgotten": self.ledger.forgotten,
        }

    def _live(self, target: Jid | None) -> list[Session]:
        if target is not None:
            self.world.account(target)  # an unknown name is an error, an absent client is not
        return [
            session
            for session in self._sessions
            if target is None
            or (
                session.device is not None
                and target.bare in (session.device.account.pn, session.device.account.lid)
                and target.device in (0, session.device.number)
            )
        ]


@contextlib.asynccontextmanager
async def open_simulator(
    *,
    seed: int | str | None = None,
    now: t.Callable[[], float] | None = None,
    listen: tuple[str, int] | None = None,
    settings: Settings | None = None,
) -> t.AsyncIterator[Simulator]:
    """A running simulator; leaving the block ends every connection.

    ``seed`` makes names, keys and ids the same in every run; ``now`` is its clock in Unix
    seconds; ``listen`` is a host and a port (0 for any free one).

    Raises:
        OSError: the address is taken or not ours.
    """
    from simulator.server import serve_port  # which serves what is defined above

    listeners = None if listen is None else await trio.open_tcp_listeners(listen[1], host=listen[0])
    async with trio.open_nursery() as nursery:
        simulator = Simulator(
            nursery,
            now=now or time.time,  # noqa: TID251 - the edge: nobody gave a clock
            entropy=Entropy(seed),
            settings=settings or Settings(),
        )
        if listeners is not None:
            await nursery.start(serve_port, simulator, listeners)
        yield simulator
        nursery.cancel_scope.cancel()
