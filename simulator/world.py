"""Who exists, and how stanzas get from one device to another."""

import base64
import collections
import contextlib
import typing as t

import attrs
import structlog

from simulator.code_pairing import Attempt
from simulator.entropy import Entropy
from simulator.errors import QueueFullError, UnknownNameError
from simulator.faults import Faults
from simulator.ledger import Ledger, Letter, Record
from simulator.media import MediaStore
from simulator.model import Account, Device, Group, KeyBundle, addresses_of, group_jid, phone_of
from simulator.queue import DeviceQueue, Entry
from simulator.replies import Attributes
from simulator.settings import Settings
from whatsapp.e2ee.curve import KeyPair
from whatsapp.jid import Jid
from whatsapp.node import Node, Value

if t.TYPE_CHECKING:
    from simulator.phone import Phone

log = structlog.get_logger(__name__)


class World:
    """The registry and the post office. Synchronous: one call leaves everything consistent.

    Phones are served from `settle`, after the stanza that caused their mail is fully routed.
    """

    def __init__(
        self,
        *,
        now: t.Callable[[], float],
        entropy: Entropy,
        settings: Settings,
        make_phone: t.Callable[["World", Account], "Phone"],
    ) -> None:
        self.now = now
        self.entropy = entropy
        self.settings = settings
        self.faults = Faults()
        self.ledger = Ledger(settings.ledger_limit)
        self.media = MediaStore(entropy.fork("media"), self.faults, settings)
        self._invitations = entropy.fork("invitations")
        self.attempts: dict[Jid, Attempt] = {}  # companions that show a code, by number
        self.groups: dict[Jid, Group] = {}
        self.default_group: str | None = None  # subject of the group that everyone is a member of
        self.overflowed = 0  # stanzas refused because a device's queue was full
        self._make_phone = make_phone
        self._accounts: dict[Jid, Account] = {}
        self._phone_mail: collections.deque[tuple[Device, Node]] = collections.deque()
        self._stanzas = 0

    # -- who exists

    @property
    def accounts(self) -> tuple[Account, ...]:
        """Every account, in order of creation."""
        return tuple(dict.fromkeys(self._accounts.values()))

    def create_account(self, name: str, phone: str | None = None) -> Account:
        """The account of a number (derived from the name when missing), with its phone.

        An existing one is returned as it is, so that scanning again links another device.
        """
        pn, lid = addresses_of(phone or phone_of(name))
        if (known := self._accounts.get(pn)) is not None:
            return known
        account = Account(pn, lid, name)
        self._accounts[pn] = self._accounts[lid] = account
        account.phone = self._make_phone(self, account)
        if self.default_group is not None:
            self._join_default(self.default_group, account)
        return account

    def account(self, jid: Jid) -> Account:
        """The account behind any of its addresses.

        Raises:
            UnknownNameError: nobody has this address.
        """
        try:
            return self._accounts[jid.bare]
        except KeyError:
            raise UnknownNameError(f"no account {jid.bare}") from None

    def find(self, jid: Jid) -> Account | None:
        """The account behind any of its addresses, if there is one."""
        return self._accounts.get(jid.bare)

    def device(self, jid: Jid) -> Device:
        """The device of an address; a bare one means the phone.

        Raises:
            UnknownNameError: no such account or device.
        """
        account = self.account(jid)
        try:
            return account.devices[jid.device]
        except KeyError:
            raise UnknownNameError(f"{account.pn} has no device {jid.device}") from None

    def add_device(self, account: Account, number: int, keys: KeyBundle) -> Device:
        """Register a device with its public keys."""
        device = Device(account, number, keys, DeviceQueue(self.settings.queue_limit))
        account.devices[number] = device
        return device

    def remove_device(self, device: Device) -> None:
        """Unlink a companion; what was owed to it is gone."""
        device.account.devices.pop(device.number, None)
        for account in self.accounts:
            account.watchers.pop(device.lid, None)
            account.subscribers.pop(device.lid, None)

    def offered(self, device: Device, entry: Entry) -> None:
        """A stanza is about to be written to a device."""
        if entry.record is None:
            return
        entry.record.offered += 1
        entry.record.corrupted += entry.broken
        if entry.record.first_offered_at is None:
            entry.record.first_offered_at = self.now()

    def create_group(
        self,
        subject: str,
        creator: Account,
        members: t.Iterable[Account],
        *,
        lid_addressing: bool = True,
    ) -> Group:
        """A group with its creator as administrator; nobody is told yet."""
        group = Group(
            group_jid(len(self.groups) + 1),
            subject,
            creator,
            int(self.now()),
            {account.lid: account for account in (creator, *members)},
            self.invite_code(),
            {creator.lid},
            lid_addressing,
        )
        self.groups[group.jid] = group
        return group

    def invite_code(self) -> str:
        """A fresh invitation to a group."""
        return base64.urlsafe_b64encode(self._invitations(16)).rstrip(b"=").decode()

    def _join_default(self, subject: str, account: Account) -> None:
        for group in self.groups.values():
            if group.subject == subject:
                group.members[account.lid] = account
                return
        self.create_group(subject, account, ())

    def group(self, jid: Jid) -> Group:
        """The group of an address.

        Raises:
            UnknownNameError: no such group.
        """
        try:
            return self.groups[jid]
        except KeyError:
            raise UnknownNameError(f"no group {jid}") from None

    # -- the post office

    def next_id(self, prefix: str = "") -> str:
        """A stanza id of the server's own."""
        self._stanzas += 1
        return f"{prefix}{self._stanzas}"

    def key_pair(self) -> KeyPair:
        """A fresh key pair."""
        return KeyPair.from_private(self.entropy(32))

    def owe(self, device: Device, node: Node, record: Record | None = None) -> None:
        """Deliver a stanza: to a phone at the next `settle`, to a companion through its queue."""
        if device.is_phone:
            self._phone_mail.append((device, node))
            return
        broken = False
        if record is not None:
            record = self.ledger.routed(record)
            if broken := self.faults.take("corrupt", device) is not None:
                node = corrupted(node)
            elif (reason := self.faults.take("withhold", device)) is not None:
                node, broken = withheld(node, reason), True
        try:
            device.queue.append(Entry(node, self.now(), record, broken))
        except QueueFullError as error:
            self.overflowed += 1
            log.warning("simulator.queue_full", device=str(device.pn), detail=str(error))

    def push(self, device: Device, node: Node) -> None:
        """Deliver a stanza that is worth something only now: to who is connected."""
        if device.is_phone:
            self._phone_mail.append((device, node))
        elif device.session is not None:
            with contextlib.suppress(QueueFullError):
                device.queue.append(Entry(node, self.now(), transient=True))

    def settle(self) -> None:
        """Let the phones read their mail, and what that causes, until nothing is left."""
        while self._phone_mail:
            device, node = self._phone_mail.popleft()
            device.account.phone.receive(node)

    def notify(
        self, device: Device, kind: str, sender: Jid, *children: Node, **more: Value | None
    ) -> None:
        """Owe a notification."""
        attributes: Attributes = {
            "type": kind,
            "from": sender,
            "id": self.next_id("N"),
            "t": int(self.now()),
        }
        self.owe(device, Node("notification", {**attributes, **more}, children))


def letter(sender: Account, to: "Account | Group", stanza_id: str) -> Letter:
    """The ledger's name of a message."""
    if isinstance(to, Group):
        return Letter(str(to.jid), sender.pn, stanza_id)
    return Letter(",".join(sorted((sender.pn.user, to.pn.user))), sender.pn, stanza_id)


def corrupted(node: Node) -> Node:
    """The stanza with one bit flipped in the body of every ciphertext."""
    return attrs.evolve(
        node,
        content=tuple(
            attrs.evolve(child, content=_flip(child.data())) if child.tag == "enc" else child
            for child in node.children
        ),
    )


def withheld(node: Node, reason: str) -> Node:
    """The stanza without its ciphertexts: its reader must ask its own phone for the content."""
    absent = Node("unavailable", {"type": reason or None})
    kept = tuple(child for child in node.children if child.tag not in ("enc", "device-identity"))
    return attrs.evolve(node, content=(absent, *kept))


def _flip(body: bytes) -> bytes:
    """Twenty bytes from the end lies ciphertext (or signature) in every kind of message."""
    where = max(0, len(body) - 20)
    return body[:where] + bytes([body[where] ^ 1]) + body[where + 1 :]


def device_hash(account: Account) -> str:
    """A short text that changes with the account's device list."""
    numbers = ",".join(map(str, sorted(account.devices)))
    return "2:" + base64.b64encode(numbers.encode()).decode()[:8]
