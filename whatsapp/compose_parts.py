"""What goes along with any kind of content that we send: quote, mentions, expiration.

Source: docs/protocol.md#message-content
"""

import typing as t

import attrs

from whatsapp.content import TargetKey
from whatsapp.content_parts import encode, lenient, unwrap
from whatsapp.errors import RemoteProtocolError
from whatsapp.proto import wa_pb2

_QUOTE_LEAVES_OUT: t.Final = (
    "message_context_info",
    "sender_key_distribution_message",
    "fast_ratchet_key_sender_key_distribution_message",
)


class HasContext(t.Protocol):
    """A kind of content with a context."""

    @property
    def context_info(self) -> wa_pb2.ContextInfo:
        """Quote, mentions, expiration."""
        ...


@attrs.frozen(kw_only=True)
class Quote:
    """The message that one of ours answers."""

    id: str
    author: str  # bare JID
    message: bytes = attrs.field(default=b"", repr=False)
    """Its plaintext, of which the receiver sees a copy."""
    chat: str | None = None
    """Where it was written, if not in the chat of the answer."""


@attrs.frozen(kw_only=True)
class Context:
    """What goes along with any kind of content."""

    quoted: Quote | None = None
    mentions: tuple[str, ...] = ()
    """Bare JIDs; the text names each as ``@`` and its user part."""
    expiration: int | None = None
    """Seconds: the chat's setting of disappearing messages."""


PLAIN: t.Final = Context()


def put_context(content: HasContext, context: Context) -> None:
    """Write ``context`` into a kind of content."""
    if context == PLAIN:
        return
    info = content.context_info
    info.mentioned_jid.extend(encode(jid) for jid in context.mentions)
    if context.expiration:
        info.expiration = context.expiration
    if (quote := context.quoted) is not None:
        info.stanza_id = encode(quote.id)
        info.participant = encode(quote.author)
        info.quoted_message = _quotable(quote.message)
        if quote.chat is not None:
            info.remote_jid = encode(quote.chat)


def message_key(key: TargetKey) -> wa_pb2.MessageKey:
    """The key of another message, as written."""
    return wa_pb2.MessageKey(
        remote_jid=encode(key.remote_jid),
        from_me=key.from_me,
        id=encode(key.id),
        participant=None if key.participant is None else encode(key.participant),
    )


def _quotable(plaintext: bytes) -> bytes:
    """A message without wrappers, keys and secrets, and without what it quotes itself."""
    try:
        message = unwrap(lenient(wa_pb2.Message, plaintext)).message or wa_pb2.Message()
    except RemoteProtocolError:
        message = wa_pb2.Message()
    copy = wa_pb2.Message.FromString(message.SerializeToString())
    for name in _QUOTE_LEAVES_OUT:
        copy.ClearField(name)
    for _field, value in copy.ListFields():
        if not isinstance(value, bytes) and "context_info" in value.DESCRIPTOR.fields_by_name:
            value.ClearField("context_info")
    if not copy.ListFields():
        copy.conversation = b""
    return copy.SerializeToString()
