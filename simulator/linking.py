"""A connection of a companion that is not linked yet: its codes, and the phone's answer to them."""

import typing as t

import attrs
import structlog
import trio

from simulator import adv, code_pairing, directory
from simulator.admission import Registration
from simulator.errors import ScanRefusedError
from simulator.model import Account, Device
from simulator.refs import Ref, Refs
from simulator.replies import Attributes, error, result
from simulator.world import World
from whatsapp.errors import RemoteProtocolError
from whatsapp.jid import SERVER_JID
from whatsapp.node import Node

if t.TYPE_CHECKING:
    from simulator.session import Session

log = structlog.get_logger(__name__)


@attrs.define(eq=False)
class _Pairing:
    account: Account
    number: int
    link: adv.Link
    iq_id: str
    done: trio.Event = attrs.field(factory=trio.Event)
    device: Device | None = None


class Linking:
    """The part of a session that a phone has to do with."""

    def __init__(
        self, session: "Session", world: World, refs: Refs, registration: Registration, noise: bytes
    ) -> None:
        self._session = session
        self._world = world
        self._refs = refs
        self._registration = registration
        self._noise_public = noise
        self._pairing: _Pairing | None = None

    @property
    def push_name(self) -> str:
        """The name the companion gave itself, if any."""
        return self._registration.push_name

    @property
    def is_waiting(self) -> bool:
        """Whether no phone has answered yet."""
        return self._pairing is None and self._session.is_registering

    async def offer_refs(self) -> float:
        """Send the codes that the companion is to show; when the last of them expires."""
        settings = self._world.settings
        expires_at = trio.current_time() + settings.first_ref_lifetime
        children = []
        for position in range(settings.refs):
            expires_at += settings.ref_lifetime if position else 0
            text = f"2@{self._world.entropy(24).hex()}"
            self._refs.add(text, Ref(self, expires_at))
            children.append(Node("ref", {}, text.encode()))
        offer = Node("pair-device", {}, tuple(children))
        await self._session.send(self._session.request("md", offer))
        return expires_at

    async def pair(self, account: Account, code: adv.QrCode) -> Device:
        """The account's phone scanned this companion: link it and end the connection with 515.

        Raises:
            ScanRefusedError: not the companion that shows the code, or it refused.
        """
        if not self.is_waiting:
            raise ScanRefusedError("this companion is not waiting to be scanned any more")
        keys = self._registration.keys
        if (code.noise_public, code.identity_public) != (self._noise_public, keys.identity):
            raise ScanRefusedError("the QR text names other keys than its companion uses")
        number = account.next_device()
        link = account.phone.sign_companion(code, number)
        request = self._session.request("md", _pair_success(account, number, link))
        self._pairing = pairing = _Pairing(account, number, link, request.required_text("id"))
        with trio.move_on_after(self._world.settings.pairing_deadline):
            await self._session.send(request)
            await pairing.done.wait()
        if pairing.device is None:
            raise ScanRefusedError("the companion did not confirm the pairing")
        return pairing.device

    def on_answer(self, node: Node) -> bool:
        """The companion answers a request; whether that completes the pairing.

        Raises:
            RemoteProtocolError: it refused, or its part of the identity is wrong.
        """
        pairing = self._pairing
        if pairing is None or node.text("id") != pairing.iq_id:
            return False
        try:
            if node.text("type") == "error":
                raise RemoteProtocolError("the companion refused the pairing")
            reply = node.required_child("pair-device-sign").required_child("device-identity")
            blob = adv.complete(pairing.link, reply.data())
        except RemoteProtocolError:
            pairing.done.set()
            raise
        device = self._world.add_device(pairing.account, pairing.number, self._registration.keys)
        device.noise_public = self._noise_public
        device.identity_blob = blob
        device.key_index = pairing.number
        directory.announce(self._world, device)
        pairing.device = device
        pairing.done.set()
        return True

    async def on_code_stage(self, node: Node) -> None:
        """A stage of pairing by a code that is typed on the phone."""
        try:
            answer = self._code_stage(node)
        except RemoteProtocolError as problem:
            log.info("simulator.code_refused", detail=str(problem))
            answer = error(node, 400, "bad-request")
        if answer is not None:
            await self._session.send(answer)

    def _code_stage(self, node: Node) -> Node | None:
        """The answer to a stage; None: the phone has to look at it first."""
        child = node.required_child(code_pairing.TAG)
        match child.text("stage"):
            case "companion_hello" if self.is_waiting:
                ref = self._world.entropy(16)
                attempt = code_pairing.read_hello(self, node, ref, self._noise_public)
                self._world.attempts[attempt.phone] = attempt
                return result(node, code_pairing.hello_answer(attempt))
            case "companion_finish" if self.is_waiting:
                known = self._world.attempts.get(child.required_jid("jid").bare)
                ref = child.required_child("link_code_pairing_ref").data()
                if known is not None and (known.linking, known.ref) == (self, ref):
                    known.finish = node
                    known.answered.set()
                    return None
        raise RemoteProtocolError("this stage of pairing by code is not expected")

    async def pair_by_code(
        self, account: Account, attempt: code_pairing.Attempt, typed: code_pairing.TypedCode
    ) -> Device:
        """A code was typed on the account's phone: exchange keys, then link this companion.

        Raises:
            ScanRefusedError: expired, tried too often, another code, or the companion refused.
        """
        attempt.begin()
        told: Attributes = {
            "from": SERVER_JID,
            "type": code_pairing.TAG,
            "id": self._world.next_id("N"),
            "t": int(self._world.now()),
        }
        with trio.move_on_after(self._world.settings.pairing_deadline):
            await self._session.send(Node("notification", told, (typed.hello(attempt),)))
            await attempt.answered.wait()
        if attempt.finish is None:
            raise ScanRefusedError("the companion did not go on with the pairing")
        try:
            code = typed.accept(attempt, attempt.finish)
        except (ScanRefusedError, RemoteProtocolError) as problem:
            await self._session.send(error(attempt.finish, 400, "bad-request"))
            raise ScanRefusedError(str(problem)) from problem
        await self._session.send(result(attempt.finish))
        return await self.pair(account, code)

    def end(self) -> None:
        """The connection is gone: nobody can scan or type anything any more."""
        if self._pairing is not None:
            self._pairing.done.set()
        for phone, attempt in tuple(self._world.attempts.items()):
            if attempt.linking is self:
                del self._world.attempts[phone]
                attempt.answered.set()
        self._refs.expire(self)


def _pair_success(account: Account, number: int, link: adv.Link) -> Node:
    return Node(
        "pair-success",
        {},
        (
            Node("device-identity", {}, link.container),
            Node(
                "device",
                {"jid": account.pn.with_device(number), "lid": account.lid.with_device(number)},
            ),
            Node("platform", {"name": "android"}),
        ),
    )
