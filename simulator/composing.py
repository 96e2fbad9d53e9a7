"""How a phone puts its messages into stanzas: whom to encrypt for, and with which session."""

from simulator import keys
from simulator.keyring import Keyring
from simulator.model import Account, Device, Group
from simulator.replies import Attributes
from simulator.world import World
from whatsapp.e2ee import curve
from whatsapp.e2ee.session import PreKeyBundle
from whatsapp.jid import Jid
from whatsapp.node import Node
from whatsapp.proto import wa_pb2


class Composer:
    """Writes for one phone; sessions start by themselves from the server's keys."""

    def __init__(self, world: World, device: Device, keyring: Keyring) -> None:
        self._world = world
        self._device = device
        self._keyring = keyring

    def for_person(self, to: Account, lid: bool, message: bytes, more: Attributes) -> Node:
        """A message for one person's devices, with a copy for each own companion."""
        copy = device_sent(to.address(lid), message)
        targets = [(device, message) for device in to.devices.values()]
        if to is not self._device.account:
            targets += [(device, copy) for device in self._device.account.companions]
        return Node(
            "participants",
            {},
            tuple(
                Node("to", {"jid": device.address(lid)}, (self.enc(device, body, more),))
                for device, body in targets
                if device is not self._device
            ),
        )

    def for_group(self, group: Group, message: bytes, more: Attributes) -> tuple[Node, ...]:
        """A message for a group, and the sender key for the devices that lack it."""
        body = self.sender_key_message(group)
        holders = self._keyring.holders(group.jid)
        lacking = [
            device
            for account in group.members.values()
            for device in account.devices.values()
            if device is not self._device and device.lid not in holders
        ]
        distribution = tuple(
            Node("to", {"jid": device.address(group.lid_addressing)}, (self.enc(device, body),))
            for device in lacking
        )
        holders.update(device.lid for device in lacking)
        secret = self._keyring.encrypt_to_group(group.jid, message)
        skmsg = Node("enc", {"v": 2, "type": "skmsg", **more}, secret)
        return (*((Node("participants", {}, distribution),) if distribution else ()), skmsg)

    def sender_key_message(self, group: Group) -> bytes:
        """The content that hands out our sender key; may be appended to other content."""
        return wa_pb2.Message(
            sender_key_distribution_message=wa_pb2.SenderKeyDistributionMessage(
                group_id=str(group.jid).encode(),
                axolotl_sender_key_distribution_message=self._keyring.distribution(group.jid),
            )
        ).SerializeToString()

    def enc(
        self,
        device: Device,
        message: bytes,
        more: Attributes | None = None,
        count: int | None = None,
    ) -> Node:
        """A message for one device; ``count`` says that it was asked for again."""
        if not self._keyring.has_session(device):
            self._keyring.start(device, self._fetch(device))
        ciphertext = self._keyring.encrypt(device, message)
        told: Attributes = {"v": 2, "type": ciphertext.type, "count": count, **(more or {})}
        return Node("enc", told, ciphertext.body)

    def _fetch(self, device: Device) -> PreKeyBundle:
        one_time = keys.take_one_time(self._world, device)
        number, key = one_time or (None, None)
        return PreKeyBundle(
            registration_id=device.keys.registration_id,
            identity=device.keys.identity,
            signed_prekey_id=device.keys.signed_prekey_id,
            signed_prekey=device.keys.signed_prekey,
            signed_prekey_signature=device.keys.signed_prekey_signature,
            prekey_id=number,
            prekey=key,
        )

    def start_again(self, asking: Device, receipt: Node) -> None:
        """A new session with a device that sent a retry receipt.

        Raises:
            RemoteProtocolError: the keys in the receipt are malformed or wrongly signed.
        """
        self._keyring.start(asking, self._bundle_for(asking, receipt))

    def _bundle_for(self, asking: Device, receipt: Node) -> PreKeyBundle:
        """The keys a retry receipt brings along, or fresh ones from the server."""
        if (brought := receipt.child("keys")) is None:
            return self._fetch(asking)
        identity = brought.required_child("identity").data()
        number, public, signature = keys.read_signed_prekey(
            brought.required_child("skey"), identity
        )
        key = brought.child("key")
        value = None if key is None else key.required_child("value").data()
        if value is not None and len(value) == curve.SERIALISED_LENGTH:
            value = curve.parse_public(value)  # some clients write the type byte here
        key_id = None if key is None else int.from_bytes(key.required_child("id").data(), "big")
        registration = int.from_bytes(receipt.required_child("registration").data(), "big")
        return PreKeyBundle(
            registration_id=registration,
            identity=identity,
            signed_prekey_id=number,
            signed_prekey=public,
            signed_prekey_signature=signature,
            prekey_id=key_id,
            prekey=value,
        )


def conversation(text: str) -> bytes:
    """The content of a text message."""
    # A lone surrogate becomes bytes that are no UTF-8, which real peers do send.
    content = text.encode(errors="surrogatepass")
    return wa_pb2.Message(conversation=content).SerializeToString()


def device_sent(chat: Jid, message: bytes) -> bytes:
    """The copy of a message for the own companions."""
    wrapper = wa_pb2.DeviceSentMessage(destination_jid=str(chat).encode())
    wrapper.message.MergeFromString(message)
    return wa_pb2.Message(device_sent_message=wrapper).SerializeToString()
