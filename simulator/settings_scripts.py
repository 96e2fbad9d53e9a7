"""What people set on their phones: names, chats, labels. Companions learn it as app state.

Source: docs/protocol.md#app-state
"""

import collections
import typing as t

import trio

from simulator.errors import SimulatorError
from simulator.group_scripts import Who
from simulator.handset import Handset
from simulator.model import Account, Device, Group
from simulator.sync_keys import SyncKey, SyncStore
from simulator.world import World
from whatsapp.appstate import actions, requests, wire
from whatsapp.appstate.actions import Action
from whatsapp.appstate.mutations import Mutation, Operation
from whatsapp.iq import app_state
from whatsapp.jid import SERVER_JID, Jid
from whatsapp.node import Node

Chat: t.TypeAlias = Account | Group | Jid | str

_TRIES: t.Final = 4  # of a push that others overtake


class SettingsScripts(Handset):
    """The phone's app state. Every call raises ``SimulatorError`` when the server refuses."""

    def __init__(self, world: World, account: Account) -> None:
        super().__init__(world, account)
        self.shares_keys = True
        """Off: companions get no app-state keys, whether they are new or ask."""
        self.sync = SyncStore(self._entropy.fork("app state"))
        self.sync.new_key(self._milliseconds())

    # -- names

    async def set_contact_name(self, who: Who, full_name: str, first_name: str = "") -> None:
        """Save somebody in the address book, with both addresses where there is an account."""
        jid, number, lid = self._person(who)
        at = self._milliseconds()
        await self.set_app_state(
            actions.contact(
                jid,
                at=at,
                full_name=full_name,
                first_name=first_name,
                lid=None if jid.is_lid else lid,
                number=number if jid.is_lid else None,
            )
        )

    async def remove_contact(self, who: Who) -> None:
        """Take somebody out of the address book."""
        jid, _, _ = self._person(who)
        await self.unset_app_state(actions.contact(jid, at=self._milliseconds()))

    async def set_lid_contact_name(self, lid: Jid, full_name: str) -> None:
        """Save somebody who is known by hidden address only."""
        at = self._milliseconds()
        await self.set_app_state(actions.lid_contact(lid, at=at, full_name=full_name))

    async def set_push_name(self, name: str) -> None:
        """Go by another name from now on."""
        self._account.name = name
        await self.set_app_state(actions.push_name(name, at=self._milliseconds()))

    async def link_number(self, who: Account) -> None:
        """Tell the companions whose number is behind a hidden address."""
        at = self._milliseconds()
        await self.set_app_state(actions.number_of_lid(who.lid, who.pn, at=at))

    # -- chats

    async def mute(self, chat: Chat, until: int | None = actions.FOR_EVER) -> None:
        """Mute a chat until then (Unix milliseconds), for ever, or (None) no longer."""
        await self.set_app_state(actions.mute(_chat(chat), until, at=self._milliseconds()))

    async def archive(self, chat: Chat, on: bool = True) -> None:
        """Archive a chat, which unpins it; or take it out again."""
        jid, at = _chat(chat), self._milliseconds()
        unpinned = (actions.pin(jid, False, at=at),) if on else ()
        await self.set_app_state(
            actions.archive(jid, on, at=at, last_message=self._newest(jid)), *unpinned
        )

    async def pin(self, chat: Chat, on: bool = True) -> None:
        """Keep a chat at the top, or no longer."""
        await self.set_app_state(actions.pin(_chat(chat), on, at=self._milliseconds()))

    async def mark_read(self, chat: Chat, on: bool = True) -> None:
        """Mark a chat as read, or as unread."""
        jid, at = _chat(chat), self._milliseconds()
        newest = self._newest(jid)
        await self.set_app_state(actions.mark_read(jid, on, at=at, last_message=newest))

    async def delete_chat(self, chat: Chat) -> None:
        """Delete a chat on all devices."""
        jid = _chat(chat)
        await self.set_app_state(actions.delete_chat(jid, at=self._milliseconds()))

    # -- labels

    async def edit_label(self, label: str, name: str, color: int = 0) -> None:
        """Make or rename a label."""
        at = self._milliseconds()
        await self.set_app_state(actions.label_edit(label, name, at=at, color=color))

    async def delete_label(self, label: str) -> None:
        """Delete a label."""
        at = self._milliseconds()
        await self.set_app_state(actions.label_edit(label, "", at=at, deleted=True))

    async def label(self, label: str, chat: Chat, on: bool = True) -> None:
        """Put a label on a chat, or take it off."""
        at = self._milliseconds()
        await self.set_app_state(actions.label_chat(label, _chat(chat), on, at=at))

    async def label_message(self, label: str, chat: Chat, message_id: str, on: bool = True) -> None:
        """Put a label on a message, or take it off."""
        at, jid = self._milliseconds(), _chat(chat)
        await self.set_app_state(actions.label_message(label, jid, message_id, on, at=at))

    # -- any of them

    async def set_app_state(self, *wanted: Action) -> None:
        """Set anything: one patch per collection."""
        await self._push(wanted, Operation.SET)

    async def unset_app_state(self, *wanted: Action) -> None:
        """Remove settings; only their indexes matter."""
        await self._push(wanted, Operation.REMOVE)

    def setting(self, *index: str) -> Mutation | None:
        """What the phone knows of one setting, by its index; its companions may have set it."""
        for replica in self.sync.replicas.values():
            if (found := replica.settings.get(index)) is not None:
                return found
        return None

    async def _push(self, wanted: t.Sequence[Action], operation: Operation) -> None:
        await trio.lowlevel.checkpoint()
        by_collection: dict[str, list[Action]] = collections.defaultdict(list)
        for action in wanted:
            by_collection[action.collection].append(action)
        for name, some in by_collection.items():
            for _ in range(_TRIES):
                self._pull(name)
                patch = self.sync.make_patch(name, some, operation)
                if self._ask(name, patch).error is None:
                    break
            else:
                raise SimulatorError(f"the server does not take the patch of {name}")
            self._pull(name)
        self._world.settle()

    def _pull(self, name: str) -> None:
        """Take over what others changed, until nothing is left."""
        while True:
            answer = self._ask(name)
            if answer.snapshot is not None:
                source = wire.parse_reference(answer.snapshot)
                self.sync.apply_snapshot(name, self._world.media.open(source))
            for patch in answer.patches:
                self.sync.apply_patch(name, patch)
            if not answer.more:
                return

    def _ask(self, name: str, patch: bytes | None = None) -> app_state.CollectionAnswer:
        version = self.sync.replica(name).state.version
        request = app_state.CollectionRequest(name=name, version=version, patch=patch)
        (sync,) = app_state.sync_request("", (request,)).children
        answer = self._request(app_state.XMLNS, "set", SERVER_JID, sync)
        return app_state.parse_sync_response(answer)[0]

    def _on_notification(self, node: Node) -> None:
        super()._on_notification(node)
        for name, _ in app_state.parse_server_sync(node) or ():
            self._pull(name)

    # -- keys

    async def rotate_sync_key(self, *, share: bool = True) -> SyncKey:
        """Encrypt with another key from now on; ``share``: and tell the companions at once."""
        await trio.lowlevel.checkpoint()
        key = self.sync.new_key(self._milliseconds())
        if share:
            for companion in self._account.companions:
                self._share(companion, (key.id,))
        self._world.settle()
        return key

    def share_keys(self, companion: Device) -> None:
        """Tell one companion every key."""
        self._share(companion, tuple(self.sync.keys))

    def _share(self, companion: Device, key_ids: t.Iterable[bytes]) -> None:
        if self.shares_keys:
            known = ((key_id, self.sync.keys.get(key_id)) for key_id in key_ids)
            told = [(key_id, None if key is None else key.data) for key_id, key in known]
            self._tell(companion, requests.build_key_share(told))

    def _reset(self) -> None:
        super()._reset()
        self.sync = SyncStore(self._entropy.fork("app state"))
        self.sync.new_key(self._milliseconds())
        self._account.collections.clear()

    def _milliseconds(self) -> int:
        return int(self._world.now() * 1000)

    def _newest(self, jid: Jid) -> int | None:
        chat = self._canonical(jid)
        times = [kept.sent_at for kept in self.kept.values() if kept.chat == chat]
        return max(times, default=None)

    def _person(self, who: Who) -> tuple[Jid, Jid | None, Jid | None]:
        """The address to save, and both of them where the account is known."""
        if isinstance(who, Account):
            return who.pn, who.pn, who.lid
        jid = Jid.parse(who) if isinstance(who, str) else who
        account = self._world.find(jid)
        return (jid, None, None) if account is None else (jid, account.pn, account.lid)


def _chat(chat: Chat) -> Jid:
    match chat:
        case Account():
            return chat.pn
        case Group():
            return chat.jid
        case Jid():
            return chat
        case _:
            return Jid.parse(chat)
