"""From a request in the outbox to the plaintext that is encrypted.

The plaintext is made once, kept in the outbox, and sent as it is every time.
"""

import collections.abc as cabc
import typing as t

import attrs

from actors import drafts
from actors.devices import Person
from actors.errors import ActorError
from storage.inbox import ChatDetail, StoredMessage
from whatsapp import addons, compose
from whatsapp.compose_parts import Context
from whatsapp.content import TargetKey, message_secret
from whatsapp.errors import LocalProtocolError, RemoteProtocolError
from whatsapp.iq.groups import Group
from whatsapp.jid import Jid
from whatsapp.media_source import MediaSource

EDIT_WINDOW: t.Final = 20 * 60.0  # seconds; later edits are ignored by everybody
SECRET_LENGTH: t.Final = 32


class UnsendableError(ActorError):
    """The request can never be sent; the text says why, for the person who wanted it."""


Upload: t.TypeAlias = cabc.Callable[[str, str], cabc.Awaitable[MediaSource]]
"""Puts a file (as the request names it, and its kind) on WhatsApp's servers; tells where it lies
now and what opens it. Raises ``UnsendableError`` when it never will, ``MediaUnavailableError`` or
``NotOnlineError`` when it may later."""


class ContentStorage(t.Protocol):
    """What storage knows of the messages that requests refer to."""

    async def find_message(
        self, connection: str, chat: str | None, external_id: str, *, author: str | None = None
    ) -> StoredMessage | None:
        """The message with that id."""
        ...

    async def chat(self, connection: str, address: str) -> ChatDetail | None:
        """A chat under any of its addresses."""
        ...


@attrs.frozen(kw_only=True)
class Destination:
    """The chat that a message goes to, as its stanza and its keys name it."""

    jid: Jid  # a group, or a person in the chat's address family
    own: Jid  # the own account in the same family, bare
    person: Person | None = None  # direct chats
    group: Group | None = None  # groups
    admin: bool = False  # in groups: whether this account is an administrator

    @property
    def lid(self) -> bool:
        """Whether people are named by hidden address here."""
        return self.own.is_lid


class Composer:
    """Composes the messages of one connection."""

    def __init__(
        self,
        name: str,
        storage: ContentStorage,
        upload: Upload,
        *,
        person: cabc.Callable[[Jid], cabc.Awaitable[Person]],
        wall_clock: cabc.Callable[[], float],
        random: cabc.Callable[[int], bytes],
    ) -> None:
        """``person`` finds both addresses of somebody who is mentioned."""
        self._name = name
        self._storage = storage
        self._upload = upload
        self._person = person
        self._wall_clock = wall_clock
        self._random = random

    async def compose(self, body: drafts.Body, to: Destination) -> bytes:
        """The plaintext of a message, unpadded.

        Raises:
            UnsendableError: it refers to something that is not there or not allowed.
        """
        try:
            return await self._compose(body, to)
        except LocalProtocolError as error:
            raise UnsendableError(str(error)) from error

    async def _compose(self, body: drafts.Body, to: Destination) -> bytes:
        match body:
            case drafts.Text():
                return await self._text(body, to)
            case drafts.Reaction():
                key = _key(await self._target(body.target, to), to)
                return compose.reaction(key, body.emoji, self._now_ms())
            case drafts.Edit():
                return await self._edit(body, to)
            case drafts.Revoke():
                return await self._revoke(body, to)
            case drafts.Media():
                return await self._media(body, to)
            case drafts.Location():
                return compose.location(
                    body.latitude,
                    body.longitude,
                    name=body.name,
                    address=body.address,
                    context=await self._context(to, body.quoted),
                )
            case drafts.Contact():
                cards = [(card.name, card.vcard) for card in body.cards]
                return compose.contact(cards, await self._context(to, body.quoted))
            case drafts.Poll():
                return compose.poll(
                    body.name,
                    body.options,
                    selectable=body.selectable,
                    secret=self._random(SECRET_LENGTH),
                    context=await self._context(to, body.quoted),
                )
            case drafts.PollVote():
                return await self._vote(body, to)
            case drafts.Read():
                raise UnsendableError("a read receipt is no message")
            case other:
                t.assert_never(other)

    async def _text(self, body: drafts.Text, to: Destination) -> bytes:
        context = await self._context(to, body.quoted)
        text, mentions = body.text, []
        for address in body.mentions:
            asked, named = await self._mentioned(address, to)
            mentions.append(str(named))
            text = text.replace(f"@{asked.user}", f"@{named.user}")
        return compose.text(text, attrs.evolve(context, mentions=tuple(mentions)))

    async def _edit(self, body: drafts.Edit, to: Destination) -> bytes:
        target = await self._target(body.target, to)
        if not target.from_me:
            raise UnsendableError("only messages of this account can be edited")
        if self._wall_clock() - target.sent_at.timestamp() > EDIT_WINDOW:
            raise UnsendableError("only messages of the last 20 minutes can be edited")
        context = Context(expiration=await self._expiration(to))
        return compose.edit(
            _key(target, to), body.text, self._now_ms(), original=target.raw, context=context
        )

    async def _revoke(self, body: drafts.Revoke, to: Destination) -> bytes:
        target = await self._target(body.target, to)
        if not target.from_me and to.group is None:
            raise UnsendableError("only messages of this account can be deleted for everyone")
        if not target.from_me and not to.admin:
            raise UnsendableError("only administrators delete messages of others in a group")
        return compose.revoke(_key(target, to))

    async def _media(self, body: drafts.Media, to: Destination) -> bytes:
        context = await self._context(to, body.quoted)
        mentions = [str((await self._mentioned(item, to))[1]) for item in body.mentions]
        source = await self._upload(body.file, body.kind)
        source = attrs.evolve(
            source,
            kind=body.kind,
            mimetype=body.mimetype or source.mimetype,
            file_name=(body.name or source.file_name) if body.kind == "document" else None,
        )
        traits = compose.Traits(
            width=body.width,
            height=body.height,
            seconds=body.seconds,
            voice=body.voice,
            gif=body.gif,
            video_note=body.video_note,
            animated=body.animated,
            key_at=int(self._wall_clock()),
        )
        context = attrs.evolve(context, mentions=tuple(mentions))
        return compose.media(source, body.caption or None, traits=traits, context=context)

    async def _vote(self, body: drafts.PollVote, to: Destination) -> bytes:
        poll = await self._target(body.target, to)
        try:
            secret = message_secret(poll.raw)
        except RemoteProtocolError:
            secret = None
        if poll.kind != "poll" or secret is None:
            raise UnsendableError("that message is no poll that can be voted on")
        known = {str(item) for item in poll.detail.get("options", ())}
        if unknown := [option for option in body.options if option not in known]:
            raise UnsendableError(f"the poll has no option {unknown[0]!r}")
        parent = addons.Parent(
            id=poll.external_id,
            raw=poll.raw,
            authors=(str(_author(poll, to)),),
        )
        vote = addons.encrypt_vote(
            body.options, parent, str(to.own), self._random(addons.IV_LENGTH)
        )
        return compose.poll_vote(_key(poll, to), vote, self._now_ms())

    # ---- what messages refer to

    async def _target(self, external_id: str, to: Destination) -> StoredMessage:
        found = await self._storage.find_message(self._name, str(to.jid), external_id)
        if found is None:
            raise UnsendableError("the message that this refers to is not stored in this chat")
        return found

    async def _context(self, to: Destination, quoted_id: str | None) -> Context:
        quoted = None
        if quoted_id is not None:
            found = await self._target(quoted_id, to)
            quoted = compose.Quote(
                id=found.external_id, author=str(_author(found, to)), message=found.raw
            )
        return Context(quoted=quoted, expiration=await self._expiration(to))

    async def _expiration(self, to: Destination) -> int | None:
        """Seconds after which messages disappear in this chat."""
        if to.group is not None:
            return to.group.expiration or None
        chat = await self._storage.chat(self._name, str(to.jid))
        return None if chat is None else chat.expiration or None

    async def _mentioned(self, address: str, to: Destination) -> tuple[Jid, Jid]:
        """Somebody as they were asked for, and as they are named in this chat."""
        try:
            asked = Jid.parse(address).bare
        except RemoteProtocolError as error:
            raise UnsendableError(f"no address of a person to mention: {error}") from error
        if not (asked.is_person and asked.user):
            raise UnsendableError("only people can be mentioned")
        return asked, (await self._person(asked)).form(to.lid)

    def _now_ms(self) -> int:
        return int(self._wall_clock() * 1000)


def _key(target: StoredMessage, to: Destination) -> TargetKey:
    """A message as we name it to the others of a chat. Source: docs/protocol.md#message-keys"""
    theirs_in_group = to.group is not None and not target.from_me
    return TargetKey(
        remote_jid=str(to.jid),
        from_me=target.from_me,
        id=target.external_id,
        participant=str(_author(target, to)) if theirs_in_group else None,
    )


def _author(message: StoredMessage, to: Destination) -> Jid:
    """Who wrote a message, in the address family of the chat where that is known."""
    if message.from_me:
        return to.own
    if to.person is not None:
        return to.jid
    known = [Jid.parse(address) for address in message.senders]
    if not known:
        raise UnsendableError("it is not known who wrote the message that this refers to")
    return next((jid for jid in known if jid.is_lid == to.lid), known[0])
