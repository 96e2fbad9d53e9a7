"""What people do with the devices of their account: link and unlink them, or begin anew."""

import trio

from simulator import adv, directory
from simulator.code_pairing import TypedCode
from simulator.composing import Composer
from simulator.errors import ScanRefusedError, UnknownNameError
from simulator.faults import ending
from simulator.handset import Handset
from simulator.keyring import Keyring
from simulator.model import Account, Device
from whatsapp.jid import Jid
from whatsapp.node import Node


class DeviceScripts(Handset):
    """Companions come and go, phones are replaced."""

    def sign_companion(self, code: adv.QrCode, key_index: int) -> adv.Link:
        """Accept a scanned companion."""
        return adv.sign_companion(
            self._keyring.identity,
            code,
            raw_id=self._raw_id,
            key_index=key_index,
            now=int(self._world.now()),
            random=self._entropy,
            forge=self._world.faults.forged_pairing,
        )

    async def enter_code(self, text: str) -> Device:
        """Type the code that a companion shows for this number; the companion that is linked.

        Raises:
            ScanRefusedError: nobody shows one, expired, or another one.
        """
        await trio.lowlevel.checkpoint()
        typed = TypedCode(text, self._keyring.identity, self._entropy)
        if (attempt := self._world.attempts.get(self._account.pn)) is None:
            raise ScanRefusedError("no companion shows a code for this number")
        return await attempt.linking.pair_by_code(self._account, attempt, typed)

    def key_index_list(self) -> bytes:
        """The signed list of the account's companions."""
        return adv.key_index_list(
            self._keyring.identity,
            raw_id=self._raw_id,
            indexes=[device.key_index for device in self._account.companions],
            now=int(self._world.now()),
            random=self._entropy,
        )

    async def unlink(self, companion: Device | Jid | int) -> None:
        """Log a companion out: its connection ends, and it is refused from then on.

        Raises:
            UnknownNameError: no such companion.
        """
        await trio.lowlevel.checkpoint()
        device = self._companion(companion)
        session = device.session
        directory.unlink(self._world, device)
        self._world.settle()
        if session is not None:
            await session.end(ending("removed"))

    async def reinstall(self) -> None:
        """Register the number anew, on a phone that knows nothing: another identity, no
        companions, no messages. Contacts are told."""
        for device in self._account.companions:
            await self.unlink(device)
        self._entropy = self._entropy.fork("reinstalled")
        self._keyring = Keyring(self._entropy, self._world.settings.phone_prekeys)
        self._composer = Composer(self._world, self.device, self._keyring)
        self._raw_id = self._entropy.below(2**31)
        self.device.keys = self._keyring.public
        self._reset()
        for other in self._world.accounts:
            if other is not self._account:
                other.phone.forget(self._account)
        changed = Node("identity")
        for watcher in self._contacts():
            self._world.notify(watcher, "encrypt", self._account.pn, changed)
        self._world.settle()

    def forget(self, account: Account) -> None:
        """Somebody else registered anew: nothing is encrypted for their old keys."""
        self._keyring.forget({device.lid for device in account.devices.values()})

    def _contacts(self) -> tuple[Device, ...]:
        """The companions of people that have to do with this account."""
        known = dict(self._account.watchers)
        for group in self._world.groups.values():
            if self._account.lid in group.members:
                for member in group.members.values():
                    known |= {device.lid: device for device in member.companions}
        return tuple(device for device in known.values() if device.account is not self._account)

    def _companion(self, named: Device | Jid | int) -> Device:
        if isinstance(named, int):
            named = self._account.pn.with_device(named)
        device = named if isinstance(named, Device) else self._world.device(named)
        if device.account is not self._account or device.is_phone:
            raise UnknownNameError(f"{device.pn} is no companion of {self._account.pn}")
        return device
