"""Linking a new device: codes to scan, or one to type, until a phone accepts it."""

import contextlib
import math
import typing as t

import structlog
import trio

from actors.endings import collapse, ending_of
from actors.errors import ConnectionEndedError, ConnectionStoppedError
from actors.heartbeat import beat
from actors.link import Greeting, Link, open_link
from actors.messages import Commit, Settled
from actors.pairing import PairingBoard
from actors.settings import ConnectionSettings, Tools
from storage.api import Envelope, RecordChange, RecordKind
from storage.crash_points import crash_point
from whatsapp import pairing_code
from whatsapp.device import Device
from whatsapp.e2ee.curve import KeyPair, serialise
from whatsapp.errors import RemoteProtocolError
from whatsapp.iq import core
from whatsapp.lifecycle import parse_end
from whatsapp.node import Node
from whatsapp.pairing import (
    PairingError,
    accept_pair_success,
    account_identity,
    is_secret_rotation,
    parse_pair_device,
    qr_text,
    ref_lifetime,
    rotate_adv_secret,
)
from whatsapp.payload import registration_payload
from whatsapp.stanzas import ack

STORE_TIMEOUT: t.Final = 30.0  # seconds to store the new device, while the phone waits
RESTART_TIMEOUT: t.Final = 10.0  # seconds for WhatsApp to ask for the restart after pairing

log: structlog.stdlib.BoundLogger = structlog.get_logger("pairing")


class PairingFlow:
    """One socket of a device that is nobody's yet."""

    def __init__(
        self, name: str, settings: ConnectionSettings, tools: Tools, board: PairingBoard
    ) -> None:
        self._name = name
        self._settings = settings
        self._tools = tools
        self._board = board
        self._device = Device.generate(tools.random)
        self._refs: tuple[str, ...] = ()
        self._redraw = trio.Event()
        self._by_code: pairing_code.CodePairing | None = None
        self._ref: bytes | None = None  # of the attempt by code
        self._hello_in, self._hello_out = trio.open_memory_channel[Node](1)
        self._scope = trio.CancelScope()

    async def run(self, task_status: "trio.TaskStatus[None]") -> Device:
        """Show codes until one is scanned; the paired device is stored when this returns.

        Raises:
            ConnectionEndedError: nobody scanned, the phone or WhatsApp refused, or the socket
                failed; nothing is stored then.
        """
        limit = self._settings.connect_timeout
        admission = self._tools.admission
        try:
            async with admission.turn(self._name, self._report, pairing=True) as turn:
                with trio.move_on_after(limit) as connecting:
                    async with open_link(self._tools.dial, self._greeting()) as link:
                        connecting.deadline = math.inf
                        admission.let_in(turn)
                        task_status.started()
                        await self._until_paired(link)
                        return self._device
        except BaseException as error:
            if (ending := collapse(error)) is error:
                raise
            # A paired device is stored; however the socket ended, logging in will tell the rest.
            if not (self._device.paired and isinstance(ending, ConnectionEndedError)):
                raise ending from error
            return self._device
        raise ConnectionEndedError("connect_timeout", f"no handshake within {limit:g} s")

    async def _until_paired(self, link: Link) -> None:
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._heartbeat, link)
                if self._board.phone is None:
                    nursery.start_soon(self._show_codes)
                else:
                    nursery.start_soon(self._pair_by_code, link, self._board.phone)
                await self._serve(link)
                nursery.cancel_scope.cancel()

    def _report(self, _state: str, _reason: str, sentence: str) -> None:
        """What it waits for; the state stays that of a pairing."""
        self._board.waits(sentence)

    def _greeting(self) -> Greeting:
        return Greeting(
            noise_key=self._device.noise,
            ephemeral=KeyPair.from_private(self._tools.random(32)),
            client_payload=registration_payload(
                device=self._device,
                version=self._tools.admission.claim(self._name, self._settings.version),
                os_name=self._settings.device_name,
                full_history=self._settings.full_history,
            ),
            root_key=self._settings.root_key,
            now=int(self._tools.wall_clock()),
            id_prefix=self._tools.random(4),
        )

    async def _heartbeat(self, link: Link) -> None:
        await beat(
            link,
            interval=self._settings.heartbeat_interval,
            timeout=self._settings.heartbeat_timeout,
            uniform=self._tools.uniform,
            wakefulness=self._tools.wakefulness,
        )

    async def _serve(self, link: Link) -> None:
        """Handle nodes until the device is paired and the server has asked for a restart."""
        while True:
            received = await link.receive()
            if isinstance(received, Node) and await self._handle(link, received):
                return

    async def _handle(self, link: Link, node: Node) -> bool:
        match node.tag:
            case "iq" if node.child("pair-device") is not None:
                self._refs = parse_pair_device(node)
                await link.send(core.result(node))
                self._refresh()
            case "iq" if node.child("pair-success") is not None:
                if not self._device.paired:  # said twice, it is as good as said once
                    await self._accept(link, node)
            case "notification":
                if is_secret_rotation(node) and not self._device.paired:
                    self._device = rotate_adv_secret(self._device, self._tools.random)
                    self._refresh()
                await link.send(ack(node))
                if node.text("type") == pairing_code.TAG:
                    with contextlib.suppress(trio.WouldBlock):  # one at a time is enough
                        self._hello_in.send_nowait(node)
            case _ if (end := parse_end(node)) is not None:
                if self._device.paired:
                    return True
                raise ending_of(end)
            case _:
                pass
        return False

    async def _pair_by_code(self, link: Link, phone: str) -> None:
        """Show a code to type, and answer the phone on which it was typed."""
        while not self._refs:
            await self._redraw.wait()  # the server is ready once it offers QR codes
        with trio.move_on_after(pairing_code.CODE_LIFETIME):
            await self._offer_code(link, phone)
            for _hello in range(pairing_code.MAX_PRIMARY_HELLOS):
                node = await self._hello_out.receive()
                if pairing_code.needs_new_code(node):
                    await self._offer_code(link, phone)
                else:
                    await self._finish_code(link, node)
            await trio.sleep_forever()  # the pair-success that follows, or the deadline
        if not self._device.paired:
            raise ConnectionStoppedError(
                "pairing_timeout", "nobody typed the code in time; pair again", state="stopped"
            )

    async def _offer_code(self, link: Link, phone: str) -> None:
        pairing = pairing_code.CodePairing.begin(phone, self._tools.random)
        # The key derivation takes about a tenth of a second, once per attempt.
        hello = pairing.hello(link.ids.next(), self._device, self._tools.random)
        answer = await link.request(hello, self._settings.request_timeout)
        try:
            self._ref = pairing_code.parse_hello_answer(answer)
        except RemoteProtocolError as error:
            raise ConnectionStoppedError(
                "pairing_refused",
                f"WhatsApp refuses a code for this number: {error}",
                state="stopped",
            ) from error
        self._by_code = pairing
        self._board.show_typed_code(pairing_code.shown(pairing.code), pairing_code.CODE_LIFETIME)

    async def _finish_code(self, link: Link, node: Node) -> None:
        """Answer the phone's part; whether it had the right code shows in what follows."""
        try:
            hello = pairing_code.parse_primary_hello(node)
            if hello is None or self._by_code is None or hello.ref != self._ref:
                return
            device, finish = self._by_code.finish(
                link.ids.next(), self._device, hello, self._tools.random
            )
            self._device = device
            core.require_result(await link.request(finish, self._settings.request_timeout))
        except RemoteProtocolError as error:
            log.warning("pairing.code_refused", connection=self._name, error=str(error))

    async def _accept(self, link: Link, node: Node) -> None:
        """Check the phone's signatures, store the device, then tell WhatsApp that it stands."""
        try:
            device, reply = accept_pair_success(self._device, node, self._tools.random)
        except PairingError as error:
            await link.send(error.reply)
            raise ConnectionStoppedError(
                "pairing_refused", f"the phone's answer is not genuine: {error}", state="stopped"
            ) from error
        crash_point("pairing.accepted")
        await self._store(device)
        crash_point("pairing.stored")
        self._device = device
        self._scope.deadline = trio.current_time() + RESTART_TIMEOUT
        await link.send(reply)
        crash_point("pairing.confirmed")

    async def _store(self, device: Device) -> None:
        reply, answer = trio.open_memory_channel[Settled](1)
        records = [RecordChange(RecordKind.DEVICE, "", device.to_bytes())]
        if device.lid is not None:
            phone = serialise(account_identity(device.account))
            address = device.lid.with_device(0).signal_address
            records.append(RecordChange(RecordKind.IDENTITY, address, phone))
        envelope = Envelope(connection=self._name, records=tuple(records), reset_records=True)
        with trio.move_on_after(STORE_TIMEOUT):
            await self._tools.writer.post(Commit(envelope, 0, reply))
            settled = await answer.receive()
            if settled.outcome is not None:
                return
        raise ConnectionEndedError("unstorable", "the new device could not be stored")

    def _refresh(self) -> None:
        redraw, self._redraw = self._redraw, trio.Event()
        redraw.set()

    async def _show_codes(self) -> None:
        """Draw each code for its lifetime; a new secret redraws the current one."""
        while not self._refs:
            await self._redraw.wait()
        for index, ref in enumerate(self._refs):
            expires_at = trio.current_time() + ref_lifetime(index)
            while (left := expires_at - trio.current_time()) > 0 and not self._device.paired:
                self._board.show_code(qr_text(ref, self._device), left)
                with trio.move_on_at(expires_at):
                    await self._redraw.wait()
        if not self._device.paired:
            raise ConnectionStoppedError(
                "pairing_timeout", "nobody scanned a code in time; pair again", state="stopped"
            )


async def pair(
    name: str,
    settings: ConnectionSettings,
    tools: Tools,
    board: PairingBoard,
    task_status: "trio.TaskStatus[None]",
) -> Device:
    """Link a new device; see :meth:`PairingFlow.run`."""
    return await PairingFlow(name, settings, tools, board).run(task_status)
