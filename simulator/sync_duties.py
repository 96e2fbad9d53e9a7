"""What a phone owes its companions: keys, history, and what they could not read or find.

Source: docs/protocol.md#peer-messages
"""

import collections
import collections.abc as cabc
import typing as t

import attrs
import trio

from simulator import reading
from simulator.letters import Kept
from simulator.model import Account, Device
from simulator.settings_scripts import SettingsScripts
from simulator.world import World
from whatsapp import content_media, history, media_retry, peer, web_message
from whatsapp.appstate import COLLECTIONS, requests
from whatsapp.content import TargetKey
from whatsapp.history import HistoryConversation, InlineContact
from whatsapp.jid import Jid
from whatsapp.media_retry import RetryResult, RetryVerdict
from whatsapp.node import Node
from whatsapp.peer import Operation, PeerKind, PeerResult
from whatsapp.web_message import HistoryMessage

MAX_OFFERS: t.Final = 1024  # chunks that can be asked for again
PAGE: t.Final = 500  # messages of one on-demand answer, at most

_NO_MORE: t.Final = 1  # end of history: the phone has no older messages


@attrs.frozen(kw_only=True)
class Chunk:
    """One piece of history to be offered to companions."""

    sync_type: str = "recent"
    chunk_order: int = 0
    progress: int = 100
    inline: bool = False
    """Inside the message; otherwise as a file on the media host."""
    conversations: tuple[HistoryConversation, ...] = ()
    status_messages: tuple[HistoryMessage, ...] = ()
    push_names: tuple[tuple[str, str], ...] = ()  # address, name
    address_pairs: tuple[tuple[str, str], ...] = ()  # number, LID
    contacts: tuple[InlineContact, ...] = ()


EMPTY_HISTORY: t.Final = tuple(
    Chunk(sync_type=sync_type, chunk_order=order, inline=True)
    for order, sync_type in enumerate(("initial_bootstrap", "push_name", "recent"))
)
"""A history that is complete, and holds nothing."""


class SyncDuties(SettingsScripts):
    """The part of a phone that keeps its companions up to date."""

    def __init__(self, world: World, account: Account) -> None:
        super().__init__(world, account)
        self.history: tuple[Chunk, ...] = EMPTY_HISTORY
        """What new companions are offered."""
        self.archived: dict[Jid, dict[str, HistoryMessage]] = {}
        """Messages from before: by chat and id, see `remember`."""
        self.asked: collections.Counter[PeerKind] = collections.Counter()
        self._offers: collections.OrderedDict[str, tuple[Chunk, str | None]] = (
            collections.OrderedDict()
        )

    def greet(self, companion: Device) -> None:
        """Send a new companion the app-state keys and a history."""
        self.share_keys(companion)
        for chunk in self.history:
            self._offer(companion, chunk)

    # -- history

    async def push_history(
        self, *chunks: Chunk, companions: cabc.Iterable[Device] | None = None
    ) -> list[str]:
        """Offer pieces of history to the companions (or some of them); the stanzas' ids."""
        await trio.lowlevel.checkpoint()
        chosen = self._account.companions if companions is None else tuple(companions)
        ids = [self._offer(companion, chunk) for chunk in chunks for companion in chosen]
        self._world.settle()
        return ids

    def remember(self, chat: Jid | str, *messages: HistoryMessage) -> None:
        """Have these messages in a chat, from before the simulation began."""
        jid = self._canonical(Jid.parse(chat) if isinstance(chat, str) else chat)
        self.archived.setdefault(jid, {}).update({m.key.id: m for m in messages})

    def conversation(
        self,
        chat: Jid | str,
        *,
        limit: int = PAGE,
        before: tuple[int, str] | None = None,
    ) -> HistoryConversation:
        """A chat as the phone has it: its newest messages, or those before a time and id.

        Messages of one second are ordered by id.
        """
        jid = self._canonical(Jid.parse(chat) if isinstance(chat, str) else chat)
        known = {m.key.id: m for m in self.archived.get(jid, {}).values()}
        known |= {k.id: self._as_history(k) for k in self.kept.values() if k.chat == jid}
        ordered = sorted(known.values(), key=lambda m: (m.timestamp, m.key.id), reverse=True)
        if before is not None:
            ordered = [m for m in ordered if (m.timestamp, m.key.id) < before]
        account = self._world.find(jid)
        group = self._world.groups.get(jid)
        return HistoryConversation(
            chat=str(jid),
            number=None if account is None else str(account.pn),
            lid=None if account is None else str(account.lid),
            name=None if group is None else group.subject,
            last_message_at=ordered[0].timestamp if ordered else 0,
            conversation_at=ordered[0].timestamp if ordered else 0,
            end=_NO_MORE if len(ordered) <= limit else None,
            messages=tuple(ordered[:limit]),
        )

    def chats(self) -> tuple[Jid, ...]:
        """Every chat with a message in it."""
        return tuple(dict.fromkeys((*self.archived, *(k.chat for k in self.kept.values()))))

    def _offer(self, companion: Device, chunk: Chunk, request_id: str | None = None) -> str:
        payload = history.deflate(
            history.build_history(
                sync_type=chunk.sync_type,
                conversations=chunk.conversations,
                status_messages=chunk.status_messages,
                push_names=chunk.push_names,
                address_pairs=chunk.address_pairs,
                contacts=chunk.contacts,
                chunk_order=chunk.chunk_order,
                progress=chunk.progress,
            )
        )
        source = None
        if not chunk.inline:
            source = self._world.media.put_sealed("history", payload)
        notice = history.build_notification(
            sync_type=chunk.sync_type,
            chunk_order=chunk.chunk_order,
            progress=chunk.progress,
            source=source,
            inline=payload if chunk.inline else None,
            request_id=request_id,
        )
        stanza_id = self._tell(companion, notice)
        self._offers[stanza_id] = (chunk, request_id)
        if len(self._offers) > MAX_OFFERS:
            self._offers.popitem(last=False)
        return stanza_id

    def _as_history(self, kept: Kept) -> HistoryMessage:
        return HistoryMessage(
            key=self.key_of(kept),
            timestamp=kept.sent_at,
            push_name=None if kept.sender is self._account else kept.sender.name,
            message=kept.message,
            status="delivered" if kept.sender is self._account else None,
        )

    def key_of(self, kept: Kept) -> TargetKey:
        """How the own devices name a message."""
        mine = kept.sender is self._account
        author = None if mine or not kept.chat.is_group else str(kept.sender.lid)
        return TargetKey(remote_jid=str(kept.chat), from_me=mine, id=kept.id, participant=author)

    # -- addresses

    async def migrate_lids(self, *people: Account) -> None:
        """Tell the companions the hidden addresses of people (of everybody, if none is named)."""
        await trio.lowlevel.checkpoint()
        pairs = [
            peer.LidMapping(number=person.pn, lid=person.lid)
            for person in people or self._world.accounts
        ]
        told = peer.build_lid_mappings(pairs, int(self._world.now()))
        for companion in self._account.companions:
            self._tell(companion, told)
        self._world.settle()

    # -- what companions ask

    def _on_peer(self, companion: Device, stanza_id: str, read: reading.Reading) -> None:
        super()._on_peer(companion, stanza_id, read)
        kind = peer.kind_of(read.content)
        self.asked[kind] += 1
        if kind is PeerKind.KEY_REQUEST:
            self._share(companion, requests.parse_key_request(read.content))
        elif kind is PeerKind.REQUEST:
            self._on_request(companion, stanza_id, peer.parse_request(read.content))

    def _on_request(self, companion: Device, stanza_id: str, wanted: peer.PeerRequest) -> None:
        match wanted.operation:
            case Operation.PLACEHOLDER_RESEND:
                results = [self._resent(key) for key in wanted.keys]
                answer = peer.build_response(wanted.operation, stanza_id, results)
                self._tell(companion, answer)
            case Operation.HISTORY_ON_DEMAND if wanted.on_demand is not None:
                asked = wanted.on_demand
                page = self.conversation(
                    asked.chat,
                    limit=max(1, min(asked.count, PAGE)),
                    before=(_seconds(asked.oldest_at), asked.oldest_id),
                )
                chunk = Chunk(sync_type="on_demand", conversations=(page,))
                self._offer(companion, chunk, stanza_id)
            case Operation.SNAPSHOT_RECOVERY if wanted.collection in COLLECTIONS:
                self._pull(wanted.collection)
                recovery = self.sync.recovery(wanted.collection)
                self._tell(companion, requests.build_recovery_response(stanza_id, recovery))

    def _resent(self, key: TargetKey) -> PeerResult:
        chat = self._canonical(Jid.parse(key.remote_jid))
        found = [kept for kept in self.kept.values() if (kept.chat, kept.id) == (chat, key.id)]
        if found:
            message = self._as_history(found[-1])
        elif (old := self.archived.get(chat, {}).get(key.id)) is not None:
            message = old
        else:
            return PeerResult()
        return PeerResult(web_message=web_message.build_web_message(message))

    # -- files that are gone

    def _on_receipt(self, node: Node) -> None:
        super()._on_receipt(node)
        if not media_retry.is_retry_receipt(node):
            return
        companion = self._world.device(node.required_jid("from"))
        if companion.account is not self._account:
            return
        if node.child("rmr") is not None:
            self._upload_again(companion, node)
        elif (offer := self._offers.get(node.required_text("id"))) is not None:
            self._offer(companion, *offer)

    def _upload_again(self, companion: Device, node: Node) -> None:
        request = media_retry.parse_retry_receipt(node)
        chat = self._canonical(request.media.chat)
        message = next(
            (k for k in self.kept.values() if (k.chat, k.id) == (chat, request.media.id)), None
        )
        source = None if message is None else content_media.media_source(message.message)
        at = int(self._world.now())
        if source is None or not source.media_key:
            refusal = media_retry.refusal_notification(request, own=self._account.pn, timestamp=at)
            self._world.owe(companion, refusal)
            return
        media_retry.verify_request(request, source.media_key)
        stored = self._world.media.revive(source.direct_path)
        verdict = (
            RetryVerdict(result=RetryResult.NOT_FOUND)
            if stored is None
            else RetryVerdict(result=RetryResult.SUCCESS, direct_path=stored.direct_path)
        )
        answer = media_retry.retry_notification(
            request,
            verdict,
            own=self._account.pn,
            timestamp=at,
            media_key=source.media_key,
            iv=self._entropy(media_retry.IV_LENGTH),
        )
        self._world.owe(companion, answer)

    def _reset(self) -> None:
        super()._reset()
        self.archived.clear()
        self._offers.clear()


def _seconds(at: int) -> int:
    """Some clients write seconds, some milliseconds."""
    return at // 1000 if at > 100_000_000_000 else at
