"""All connections of the daemon: one one-child supervisor each, started and stopped by name."""

import collections.abc as cabc
import typing as t

import structlog
import trio

from actors.adoption import ADOPTED, Adoption, NotAdoptedError
from actors.errors import ActorError, AlreadyPairedError, StillRunningError, UnknownConnectionError
from actors.forgetting import KeysKeptError, delete_keys
from actors.incidents import Incident
from actors.line import Line, NotOnlineError
from actors.member import SHUTDOWN, ConnectionStatus, FleetSettings, Member
from actors.messages import Replay
from actors.pairing import PairingView
from actors.recovery import check_stale, renew_keys
from actors.sender import Sender
from actors.settings import Tools
from storage.api import Envelope, Outcome
from storage.errors import StorageError, StorageUnavailableError
from supervisor.errors import NotRunningError
from whatsapp.iq import core
from whatsapp.iq.session import logout_request
from whatsapp.jid import Jid
from whatsapp.pairing_code import phone_digits
from whatsapp.peer import PRIORITY
from whatsapp.sending import message_id

__all__ = ["ConnectionStatus", "Fleet", "FleetSettings", "Member"]

BEGINNING: t.Final = 1.0  # seconds a life may take to begin, before the answer does not wait for it
LOGGED_OUT: t.Final = (
    "logged_out_by_operator",
    "logged out by an operator; its keys are deleted, its conversations stay",
)

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleet")


class Fleet:
    """Starts, stops and shows connections; knows them by the names of the configuration."""

    def __init__(self, members: cabc.Sequence[Member], tools: Tools) -> None:
        self._members = {member.name: member for member in members}
        self._tools = tools
        self._nursery: trio.Nursery | None = None
        tools.admission.outage.wake = self._wake

    @property
    def names(self) -> tuple[str, ...]:
        """All connections, in the order of the configuration."""
        return tuple(self._members)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the supervisors of all connections; start those that were not stopped."""
        try:
            async with trio.open_nursery() as self._nursery:
                await self._nursery.start(self._tools.journal.run)
                await self._nursery.start(self._tools.admission.run)
                for member in self._members.values():
                    await self._nursery.start(member.supervisor.run)
                    await self._take_up(member)
                task_status.started()
                await trio.sleep_forever()  # a fleet without a connection may get one
        finally:
            self._nursery = None
            await self._tools.journal.finish()

    def _wake(self) -> None:
        """Let whoever waits for its next try come now."""
        for member in self._members.values():
            member.come()

    def incidents(self) -> list[Incident]:
        """What concerns many connections at once, just now."""
        return self._tools.admission.incidents()

    def committed(
        self, envelopes: cabc.Sequence[Envelope], outcomes: cabc.Sequence[Outcome]
    ) -> None:
        """Count what the writer committed: from sockets, from the history, of our own."""
        at = self._tools.wall_clock()
        for envelope, outcome in zip(envelopes, outcomes, strict=True):
            member = self._members.get(envelope.connection)
            if member is None:
                continue
            if envelope.message is not None:
                member.counts.take(envelope.message, outcome, at)
            member.counts.quarantined -= outcome.resolved

    @property
    def tools(self) -> Tools:
        """What new members are to be made with."""
        return self._tools

    async def add(self, member: Member) -> None:
        """Take up one more connection, as at the start of the daemon."""
        if self._nursery is None:
            raise NotRunningError("the fleet is not running")
        self._members[member.name] = member
        await self._nursery.start(member.supervisor.run)
        await self._take_up(member)

    async def remove(self, name: str, reason: tuple[str, str]) -> None:
        """Stop a connection and forget it; what is stored of it stays."""
        member = self._member(name)
        await self._end(member, reason)
        member.report("stopped", *reason)
        member.supervisor.stop()
        del self._members[name]

    async def _take_up(self, member: Member) -> None:
        if member.paired:
            await member.connection.outages.resume()
        if not member.paired:
            sentence = f"no phone is linked; run: zapvisor pair {member.name}"
            member.report("stopped", "not_paired", sentence)
        elif not member.wanted:
            member.report("stopped", "stopped", "stopped by an operator, or autostart is off")
        elif member.restore():
            await self._begin(member)

    def status(self, name: str | None = None) -> list[ConnectionStatus]:
        """One connection, or all."""
        members = self._members.values() if name is None else [self._member(name)]
        return [member.status() for member in members]

    async def start(self, name: str) -> None:
        """Run a connection, now and after a restart of the daemon."""
        member = self._member(name)
        async with member.turn:
            await self._want(member, True)
            member.wish()
            await self._begin(member)

    async def stop(self, name: str) -> None:
        """Stop a connection, now and after a restart of the daemon."""
        member = self._member(name)
        await self._want(member, False)
        await self._end(member, ("stopped", "stopped by an operator"))

    async def restart(self, name: str) -> None:
        """Stop a connection if it runs, then start it."""
        member = self._member(name)
        await self._want(member, True)
        await self._in_full(self._start_anew, member, ("restart", "stopped to be started again"))

    async def pair(self, name: str, *, force: bool = False, phone: str | None = None) -> None:
        """Begin to pair; follow it with :meth:`wait_pairing`.

        With ``phone``, a number in international form, there is a code to type on that phone
        instead of one to scan.

        Raises:
            AlreadyPairedError: it is linked to a phone, as far as is known, and ``force`` is
                not set.
            LocalProtocolError: ``phone`` is no phone number.
        """
        member = self._member(name)
        if member.linked and not force:
            raise AlreadyPairedError(name)
        member.code_for = None if phone is None else phone_digits(phone)
        await self._want(member, True)
        await self._in_full(self._start_anew, member, ("pairing", "stopped to be paired"))

    def line(self, name: str) -> Line:
        """The way to WhatsApp of one connection; there at all times, useful while online."""
        return self._member(name).connection.line

    def own_addresses(self, name: str) -> tuple[Jid, ...]:
        """The bare addresses of a connection's account, the phone number first; empty: nobody's."""
        return self._member(name).own_addresses

    def sender(self, name: str) -> Sender[t.Any] | None:
        """Who sends for a connection, while it is alive."""
        return self._member(name).connection.sender

    async def replay(self, name: str, replay: Replay) -> None:
        """Have a live connection read a stanza again.

        Raises:
            NotOnlineError: there is none.
        """
        await self._member(name).connection.replay(replay)

    async def release_records(self, names: cabc.Iterable[str]) -> None:
        """Hold nothing in memory of sessions that were erased, on these connections."""
        for name in names:
            if (member := self._members.get(name)) is not None:  # others have none
                await member.connection.release_records()

    async def logout(self, name: str) -> None:
        """Unlink the device from its phone, then forget its keys; conversations stay.

        Raises:
            NotOnlineError: WhatsApp can be told only over a live connection; nothing changed.
            IqError: WhatsApp refused; nothing changed.
        """
        member = self._member(name)
        device = member.connection.device_jid
        if device is None:
            raise NotOnlineError(f"{name} is not online; start it before logging it out")
        line = member.connection.line
        member.leaving = True  # the server may end the stream before it answers
        try:
            try:
                core.require_result(await line.request(lambda iq_id: logout_request(iq_id, device)))
            except NotOnlineError:
                if not await member.was_logged_out():
                    raise
            await self._want(member, False)
            await self._in_full(self._forget, member, LOGGED_OUT)
        finally:
            member.leaving = False

    async def _forget(self, member: Member, reason: tuple[str, str]) -> None:
        """Stop a connection that WhatsApp has unlinked, and delete its keys."""
        await self._end(member, reason)
        try:
            await delete_keys(self._tools.writer, member.name)
        except KeysKeptError as error:  # WhatsApp refuses them from now on
            log.error("connection.keys_kept", connection=member.name, error=str(error))
        else:
            member.forgotten(*reason)

    async def adopt(self, name: str, adoption: Adoption, *, force: bool = False) -> None:
        """Give a connection the device of another program, in one transaction; it stays stopped.

        Raises:
            AlreadyPairedError: it has a device of its own, and ``force`` is not set.
            StillRunningError: it is not stopped.
            NotAdoptedError: the database refuses the keys; nothing was changed.
            StorageUnavailableError: it is away; to be asked again, which does no harm.
        """
        member = self._member(name)
        if member.linked and not force:
            raise AlreadyPairedError(name)
        if not member.rests:
            raise StillRunningError(name, member.status().state)
        await self._want(member, False)
        refusals: list[StorageError] = []

        async def carry_out(member: Member, reason: tuple[str, str]) -> None:
            await self._end(member, reason)  # somebody may have started it just now
            try:
                await adoption.store(member.name, self._tools.storage, self._tools.writer)
            except StorageError as error:
                refusals.append(error)
            else:
                member.adopted(adoption.device.jid, *reason)

        await self._in_full(carry_out, member, ADOPTED)
        for refusal in refusals:
            if isinstance(refusal, StorageUnavailableError):
                raise refusal
            raise NotAdoptedError(f"the database refuses the keys of {name}: {refusal}")

    async def recover(self, name: str) -> None:
        """Accept that the keys of a connection are older than what was seen of them: what could be
        used twice is forgotten, and it is started; see ``actors.recovery``.

        Raises:
            NotStaleError: they are not.
            NoDeviceError: it has none.
            StorageError: nothing was changed, as far as is known; to be asked again.
        """
        member = self._member(name)
        await check_stale(name, self._tools.storage)
        await self._want(member, True)
        refusals: list[Exception] = []

        async def carry_out(member: Member, reason: tuple[str, str]) -> None:
            await self._end(member, reason)
            try:
                await renew_keys(member.name, self._tools.storage, self._tools.writer)
            except (ActorError, StorageError) as error:
                refusals.append(error)
            member.wish()
            await self._begin(member)

        await self._in_full(carry_out, member, ("recovery", "stopped to have its keys renewed"))
        for refusal in refusals:
            raise refusal

    def pairing(self, name: str) -> PairingView:
        """The pairing of a connection now."""
        return self._member(name).board.view()

    async def ask_phone(self, name: str) -> None:
        """Ask a connection's phone for something that shows that it is there.

        Raises:
            NotOnlineError: it cannot be asked now.
        """
        connection, own = self._member(name).connection, self.own_addresses(name)
        if not own:
            raise NotOnlineError(f"{name} is linked to no phone")
        random, now = self._tools.random, int(self._tools.wall_clock())
        stanza_id = message_id(own[0], now, random(16))
        question = connection.hearing.question(own[0], stanza_id)
        await connection.line.send_peer(question, priority=PRIORITY, stanza_id=stanza_id)

    async def wait_pairing(self, name: str, after: int) -> PairingView:
        """Wait for a version of the pairing above ``after``; the caller sets the deadline."""
        return await self._member(name).board.wait(after)

    async def _want(self, member: Member, wanted: bool) -> None:
        """Remember whether it shall run, for the next start of the fleet or of the daemon."""
        await self._tools.storage.set_wanted(member.name, wanted)
        member.wanted = wanted

    async def _end(self, member: Member, reason: tuple[str, str]) -> None:
        member.stop_reason = reason
        try:
            await member.supervisor.stop_child(member.name)
        finally:
            member.stop_reason = SHUTDOWN

    async def _start_anew(self, member: Member, reason: tuple[str, str]) -> None:
        await self._end(member, reason)
        if reason[0] == "pairing":
            member.board.request(member.code_for)
        else:
            member.wish()
        await self._begin(member)

    async def _in_full(
        self,
        order: cabc.Callable[[Member, tuple[str, str]], cabc.Awaitable[None]],
        member: Member,
        reason: tuple[str, str],
    ) -> None:
        """Carry an order out to its end, even if whoever gave it goes away meanwhile."""
        if self._nursery is None:
            raise NotRunningError("the fleet is not running")
        done = trio.Event()

        async def carry_out() -> None:
            try:
                async with member.turn:
                    await order(member, reason)
            except NotRunningError:
                log.info("connection.order_dropped", connection=member.name, order=reason[0])
            finally:
                done.set()

        self._nursery.start_soon(carry_out)
        await done.wait()

    async def _begin(self, member: Member) -> None:
        """Start now, and follow it in the background: how it goes is shown in the status, which
        tells of the new life already when this returns."""
        if self._nursery is None:
            raise NotRunningError("the fleet is not running")
        begun = member.begun
        await self._nursery.start(self._start_child, member)
        with trio.move_on_after(BEGINNING):
            await begun.wait()

    async def _start_child(self, member: Member, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()  # the next line launches the child before it first waits
        try:
            await member.supervisor.start_child(member.name)
        except NotRunningError:
            log.info("connection.start_dropped", connection=member.name, reason="shutting down")

    def _member(self, name: str) -> Member:
        try:
            return self._members[name]
        except KeyError:
            raise UnknownConnectionError(name, self._members) from None
