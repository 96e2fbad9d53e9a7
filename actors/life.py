"""One life of a connection: login, dispatch, decrypt, acknowledge.

Theory of operation. The reader posts nodes to a bounded channel. The dispatcher takes them one
by one (``actors.intake``), decrypts against the records in memory and posts an envelope (message
and changed records) to the writer without waiting for it. The settler takes the writer's answers,
which come after the COMMIT, and only then sends the receipt or the acknowledgement. The parts
(``actors.parts``) send, sync and ask. Heartbeat and monitor judge from outside. The first task to
fail ends them all; what was posted still commits, and what was not acknowledged comes again.
"""

import functools
import math
import typing as t

import trio

from actors.admission import Turn
from actors.app_state import Asked
from actors.backlog import Backlog
from actors.deafness import DeafWatch, Hearing, Probe
from actors.endings import collapse
from actors.errors import ConnectionEndedError, ConnectionHeldError
from actors.gaps import OfflineQueue, Outages
from actors.hearing_words import Load
from actors.heartbeat import beat
from actors.in_flight import InFlight
from actors.inbound import own_addresses
from actors.intake import Intake
from actors.line import ConnectionLine
from actors.link import Greeting, Link, open_link
from actors.messages import Replay
from actors.monitor import Progress, watch
from actors.parts import Parts
from actors.purpose import MAX_RETRY_RECEIPTS, Purpose
from actors.records import RecordCache
from actors.settings import ConnectionSettings, Counts, Report, Tools
from actors.statistics import SyncStatistics
from storage.api import Envelope, Outcome, Verdict
from storage.crash_points import crash_point
from whatsapp.device import Device
from whatsapp.e2ee.curve import KeyPair
from whatsapp.iq.session import active_request
from whatsapp.jid import Jid
from whatsapp.node import Node
from whatsapp.payload import login_payload
from whatsapp.sending import message_id
from whatsapp.stanzas import MessageStanza, ack, delivery_receipt, retry_receipt

SYNC_DEADLINE: t.Final = 60.0  # seconds for the end marker of the offline queue
REPLAY_PATIENCE: t.Final = 20.0  # seconds until a life takes a stanza to be read again


class Life:
    """The tasks around one socket of a paired device."""

    def __init__(
        self,
        name: str,
        device: Device,
        jid: Jid,
        settings: ConnectionSettings,
        tools: Tools,
        report: Report,
        counts: Counts,
        line: ConnectionLine,
        asked: Asked,
        hearing: Hearing,
        outages: Outages,
        *,
        renewing: bool = False,
    ) -> None:
        """``line``, ``asked``, ``hearing`` and ``outages`` go on from life to life; ``renewing``:
        the server is to get fresh prekeys, see ``actors.recovery``."""
        self._name = name
        self._jid = jid
        self._settings = settings
        self._tools = tools
        self._report = report
        cache = self._cache = RecordCache(tools.storage, name)
        self._in_flight = InFlight[Purpose](tools.writer, cache, settings.in_flight)
        self.parts = Parts(name, device, settings, tools, cache, self._in_flight, line, asked)
        self._hearing = hearing
        self._counts = counts
        self._line = line
        self._outages = outages
        self._renewing = renewing
        self._queue = OfflineQueue(name, tools.random(8), outages, self._in_flight)
        self._intake = Intake(
            name,
            device,
            settings,
            tools,
            cache,
            self.parts,
            hearing,
            self._queue,
            counts.phone_seen,
        )
        self._received = Backlog()
        self._replays_in, self._replays = trio.open_memory_channel[Replay](0)
        self._turn = trio.Lock()  # of the dispatcher, or of a replay
        self._online = trio.Event()
        self._entry: Turn
        self._busy_since: float | None = None
        self._statistics = SyncStatistics(name, counts, tools.writer, tools.wall_clock)
        counts.in_flight, counts.lag = self._in_flight.__len__, self._lag

    async def run(self, task_status: "trio.TaskStatus[None]") -> t.NoReturn:
        """Serve until something ends the life.

        Raises:
            ConnectionEndedError: always; cancellation aside.
        """
        admission = self._tools.admission
        try:
            async with admission.turn(self._name, self._report) as self._entry:
                self._report("connecting", "dialling", "connecting to WhatsApp")
                deadline = trio.current_time() + self._settings.connect_timeout
                with trio.CancelScope(deadline=deadline) as connecting:
                    self._entry.dialling = connecting
                    async with open_link(self._tools.dial, self._greeting()) as link:
                        self._entry.dialling = None
                        connecting.deadline = math.inf
                        link.held_back = self._received.held_back
                        self._outages.heard_at = lambda: link.heard_at
                        await self._serve(link, deadline, task_status)
        except BaseException as error:
            if (ending := collapse(error)) is error:
                raise
            raise self._excused(ending) from error
        finally:
            self._hearing.ear.ended()
            self._in_flight.close()
            self._statistics.flush()
            self._counts.lag = lambda: 0.0
        raise self._excused(self._too_slow())

    def _excused(self, ending: BaseException) -> BaseException:
        """The ending; not counted as a failure when the process has just come back from a gap."""
        gap = self._tools.wakefulness.gap(trio.current_time())
        if not gap or not isinstance(ending, ConnectionEndedError) or not ending.counted:
            return ending
        return ConnectionHeldError(
            "slept",
            f"the daemon did not run for {gap:.0f} s, and the connection did not survive that"
            f" ({ending.sentence})",
        )

    async def replay(self, replay: Replay) -> None:
        """Read a quarantined stanza again, in turn with what arrives."""
        with trio.move_on_after(REPLAY_PATIENCE):
            await self._online.wait()
            await self._replays_in.send(replay)

    async def release_records(self) -> None:
        """Hold nothing in memory of what was erased; see :meth:`RecordCache.release`."""
        await self._cache.release()

    async def _serve(
        self, link: Link, deadline: float, task_status: "trio.TaskStatus[None]"
    ) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, link)
            nursery.start_soon(self._settle, link)
            nursery.start_soon(self._log_in, link, deadline, task_status)
            nursery.start_soon(self._heartbeat, link)
            nursery.start_soon(self._monitor, link)
            nursery.start_soon(self._listen)
            nursery.start_soon(self.parts.prekeys.keep, link)
            nursery.start_soon(self._dispatch, link)
            nursery.start_soon(self._replay, link)
            nursery.start_soon(self._work, link)

    def _too_slow(self) -> ConnectionEndedError:
        limit = self._settings.connect_timeout
        return ConnectionEndedError(
            "connect_timeout", f"no login within {limit:g} s: WhatsApp or the network is slow"
        )

    def _greeting(self) -> Greeting:
        device = self.parts.prekeys.device
        return Greeting(
            noise_key=device.noise,
            ephemeral=KeyPair.from_private(self._tools.random(32)),
            client_payload=login_payload(
                jid=self._jid,
                version=self._tools.admission.claim(self._name, self._settings.version),
            ),
            root_key=self._settings.root_key,
            now=int(self._tools.wall_clock()),
            routing_info=device.routing_info,
            id_prefix=self._tools.random(4),
        )

    # ---- the tasks -----------------------------------------------------------------------

    async def _read(self, link: Link) -> None:
        while True:
            await self._received.put(await link.receive())

    async def _log_in(
        self, link: Link, deadline: float, task_status: "trio.TaskStatus[None]"
    ) -> None:
        """What follows ``<success>``: prekeys, then the queue of what was missed."""
        with trio.move_on_at(deadline):
            await self._intake.logged_in.wait()
        if not self._intake.logged_in.is_set():
            raise self._too_slow()
        self._tools.admission.let_in(self._entry)
        self._counts.logins += 1
        self._alive()
        task_status.started()
        self._report("syncing", "logged_in", "logged in; receiving what arrived meanwhile")
        timeout = self._settings.request_timeout
        await self._prepare_prekeys(link)
        await link.request(active_request(link.ids.next()), timeout)
        with trio.move_on_after(SYNC_DEADLINE):
            await self._intake.synced.wait()
        if not self._intake.synced.is_set():
            await self._queue.overdue()
        self._report("online", "online", "receiving messages as they come")
        if (finding := self._hearing.ear.online()) is not None:
            self._counts.deaf += 1
            self._report("online", "deaf", finding)
        self._online.set()
        self._tools.came_online(self._name)
        self._statistics.flush()
        await self.parts.prekeys.verify(link)

    async def _prepare_prekeys(self, link: Link) -> None:
        if not self._renewing:
            await self.parts.prekeys.replenish(link)
        elif await self.parts.prekeys.renew(link):
            await self._tools.storage.keys_renewed(self._name)
            self._renewing = False

    async def _work(self, link: Link) -> None:
        await self._online.wait()
        await self.parts.run(link)

    async def _heartbeat(self, link: Link) -> None:
        timeout = self._settings.heartbeat_timeout
        try:
            await beat(
                link,
                interval=self._settings.heartbeat_interval,
                timeout=timeout,
                uniform=self._tools.uniform,
                wakefulness=self._tools.wakefulness,
                answered=self._alive,
            )
        except ConnectionEndedError as error:
            if self._in_flight.oldest_age() < timeout:
                raise
            # The answer may well be there, behind all that we do not read while nothing commits.
            raise ConnectionHeldError(
                "storage_stalled",
                "nothing was committed while WhatsApp was asked for a sign of life",
            ) from error

    def _alive(self) -> None:
        self._counts.last_heartbeat_at = self._tools.wall_clock()

    def _lag(self) -> float:
        return max(self._busy_for(), self._in_flight.oldest_age())

    def _busy_for(self) -> float:
        return 0.0 if self._busy_since is None else trio.current_time() - self._busy_since

    async def _monitor(self, link: Link) -> None:
        await watch(
            self._name,
            functools.partial(self._progress, link),
            interval=self._settings.monitor_interval,
            limits=self._settings.limits,
            every_time=self._statistics.flush_if_due,
            excused=lambda: self._tools.wakefulness.gap(trio.current_time()),
        )

    async def _listen(self) -> None:
        own = own_addresses(self.parts.prekeys.device)[0]

        def new_id() -> str:
            return message_id(own, int(self._tools.wall_clock()), self._tools.random(16))

        probe = Probe(line=self._line, own=own, new_id=new_id, commit=self._commit_nothing)
        watch = DeafWatch(self._name, self._hearing, probe, self._load)
        await watch.run(self._tools.storage, self._settings.monitor_interval)

    async def _commit_nothing(self) -> Outcome | None:
        return await self._in_flight.commit(Envelope(connection=self._name), Purpose())

    def _load(self, loop_lag: float) -> Load:
        now = trio.current_time()
        return Load(
            loop_lag=max(loop_lag, self._tools.wakefulness.gap(now)),
            backlog=len(self._received),
            held_back=self._received.held_back(0.0),
            busy_for=self._busy_for(),
            oldest_in_flight=self._in_flight.oldest_age(),
        )

    def _progress(self, link: Link) -> Progress:
        now = trio.current_time()
        return Progress(
            silence=0.0 if self._received.held_back(0.0) else now - link.heard_at,
            backlog=len(self._received),
            busy_for=self._busy_for(),
            in_flight=len(self._in_flight),
            oldest_in_flight=self._in_flight.oldest_age(),
        )

    async def _dispatch(self, link: Link) -> None:
        while True:
            received = await self._received.take()
            self._busy_since = trio.current_time()
            async with self._turn:
                await self._intake.take(link, received)
            self._busy_since = None

    async def _replay(self, link: Link) -> None:
        async for replay in self._replays:
            async with self._turn:
                await self._intake.take(link, replay)

    async def _settle(self, link: Link) -> None:
        while True:
            purpose, outcome = await self._in_flight.next_settled()
            if outcome is None:
                raise ConnectionHeldError(
                    "unstorable", "a message can be neither stored nor quarantined; see the log"
                )
            await self._acknowledge(link, purpose, outcome)
            if purpose.replay is not None:
                purpose.replay.done.set()

    # ---- what is answered ----------------------------------------------------------------

    async def _acknowledge(self, link: Link, purpose: Purpose, outcome: Outcome) -> None:
        self._queue.settled(purpose, outcome)
        if purpose.replay is not None and outcome.verdict is Verdict.QUARANTINED:
            return  # counted, and refused to WhatsApp, when it was read for the first time
        if purpose.is_message or outcome.verdict is Verdict.QUARANTINED:
            self._statistics.count(outcome)
        if purpose.node is None:
            return
        if outcome.verdict is Verdict.QUARANTINED or purpose.stanza is None:
            crash_point("stanza.settled")
            await link.answer(ack(purpose.node, error=purpose.error))
            crash_point("stanza.acknowledged")
        elif outcome.verdict is Verdict.PLACEHOLDER:
            crash_point("placeholder.settled")
            if purpose.may_ask_again and outcome.retries <= MAX_RETRY_RECEIPTS:
                await link.answer(self._retry(purpose.stanza, purpose, outcome.retries))
                crash_point("placeholder.asked_again")
            await link.answer(ack(purpose.node))
            crash_point("placeholder.acknowledged")
            self.parts.placeholders.undecryptable(purpose.stanza, outcome)
        else:
            crash_point("message.settled")
            if outcome.filled:
                self.parts.placeholders.filled(purpose.stanza)
            for receipt in purpose.receipts:
                await link.answer(delivery_receipt(purpose.stanza, receipt))
            crash_point("message.confirmed")

    def _retry(self, stanza: MessageStanza, purpose: Purpose, count: int) -> Node:
        return retry_receipt(
            stanza,
            self.parts.prekeys.device,
            count=count,
            error=purpose.failure,
            prekey=purpose.fresh_prekey,
        )
