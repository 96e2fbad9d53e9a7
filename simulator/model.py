"""Accounts, their devices, groups: what a WhatsApp server knows about its users."""

import hashlib
import typing as t

import attrs

from simulator.queue import DeviceQueue
from whatsapp.jid import GROUP_SERVER, LID_SERVER, SERVER, Jid

if t.TYPE_CHECKING:
    from simulator.app_state import Collection
    from simulator.phone import Phone
    from simulator.session import Session

PHONE: t.Final = 0  # the device number of every account's phone


@attrs.define
class KeyBundle:
    """The public Signal keys of one device, as the key service hands them out."""

    registration_id: int
    identity: bytes
    signed_prekey_id: int
    signed_prekey: bytes
    signed_prekey_signature: bytes
    one_time: dict[int, bytes] = attrs.field(factory=dict)

    def pop_one_time(self) -> tuple[int, bytes] | None:
        """A one-time prekey that nobody will get again; None when they are used up."""
        if not self.one_time:
            return None
        number = next(iter(self.one_time))
        return number, self.one_time.pop(number)


@attrs.define(eq=False)
class Device:
    """One device of an account: the phone (number 0, lives in this process) or a companion."""

    account: "Account"
    number: int
    keys: KeyBundle
    queue: DeviceQueue
    noise_public: bytes = b""
    key_index: int = 0
    identity_blob: bytes = b""  # ADVSignedDeviceIdentity, complete; companions only
    available: bool = False  # in use, as it says itself
    greeted: bool = False  # the phone has sent its keys and history
    session: "Session | None" = None

    @property
    def is_phone(self) -> bool:
        """Whether this is the account's phone."""
        return self.number == PHONE

    @property
    def pn(self) -> Jid:
        """The device's address by phone number."""
        return self.account.pn.with_device(self.number)

    @property
    def lid(self) -> Jid:
        """The device's hidden address."""
        return self.account.lid.with_device(self.number)

    def address(self, lid: bool) -> Jid:
        """The device in one address family."""
        return self.lid if lid else self.pn


@attrs.define(eq=False)
class Account:
    """A person or business: a number, a hidden address and up to a few devices."""

    pn: Jid
    lid: Jid
    name: str
    devices: dict[int, Device] = attrs.field(factory=dict)
    watchers: dict[Jid, Device] = attrs.field(factory=dict)  # devices that asked for our list
    subscribers: dict[Jid, tuple[Device, bool]] = attrs.field(factory=dict)
    """Devices that want to hear whether this account is online, and whether they know its LID."""
    last_seen: int | None = None  # Unix seconds
    collections: "dict[str, Collection]" = attrs.field(factory=dict)  # app state
    may_be_added: bool = True  # to groups, by anybody; else they get an invitation to send

    def address(self, lid: bool) -> Jid:
        """The account in one address family."""
        return self.lid if lid else self.pn

    @property
    def phone(self) -> "Phone":
        """The simulated handset; set when the account is made."""
        if self._phone is None:
            raise AttributeError("the account has no phone yet")
        return self._phone

    @phone.setter
    def phone(self, phone: "Phone") -> None:
        self._phone = phone

    _phone: "Phone | None" = None
    _last_device: int = PHONE

    def next_device(self) -> int:
        """The number of the next companion; none is used twice."""
        self._last_device += 1
        return self._last_device

    @property
    def available(self) -> bool:
        """Whether any device is in use."""
        return any(device.available for device in self.devices.values())

    async def reinstall(self) -> None:
        """Register anew, see the phone's method of that name."""
        await self.phone.reinstall()

    @property
    def companions(self) -> tuple[Device, ...]:
        """The linked devices."""
        return tuple(device for device in self.devices.values() if not device.is_phone)


@attrs.frozen
class Description:
    """What a group says about itself."""

    id: str
    text: str
    by: Account
    at: int  # Unix seconds


@attrs.define(eq=False)
class Group:
    """A group chat; its stanzas name members by hidden address, or in older ones by number."""

    jid: Jid
    subject: str
    creator: Account
    created_at: int
    members: dict[Jid, Account]  # by LID
    invite_code: str
    admins: set[Jid] = attrs.field(factory=set)
    lid_addressing: bool = True
    subject_at: int = attrs.Factory(lambda group: group.created_at, takes_self=True)
    subject_by: Account = attrs.Factory(lambda group: group.creator, takes_self=True)
    description: Description | None = None
    announce: bool = False  # only administrators write
    locked: bool = False  # only administrators edit
    expiration: int = 0  # seconds after which messages disappear; 0: never
    member_add_mode: str = "all_member_add"
    approval: bool = False  # who has the invitation must be let in
    waiting: dict[Jid, Account] = attrs.field(factory=dict)  # by LID
    version: int = 1

    def role(self, account: Account) -> str | None:
        """``superadmin``, ``admin``, or None for everybody else."""
        if account.lid not in self.admins:
            return None
        return "superadmin" if account is self.creator else "admin"


def addresses_of(phone: str) -> tuple[Jid, Jid]:
    """The PN and the unrelated-looking, stable LID of a number."""
    hidden = int.from_bytes(hashlib.sha256(b"lid" + phone.encode()).digest()[:6], "big")
    return Jid(phone, SERVER), Jid(str(10**14 + hidden % 10**14), LID_SERVER)


def phone_of(name: str) -> str:
    """A stable fictitious number for a name."""
    digits = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
    return f"1555{digits % 10**7:07}"


def group_jid(number: int) -> Jid:
    """The address of the n-th group."""
    return Jid(str(120363000000000000 + number), GROUP_SERVER)
