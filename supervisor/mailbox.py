"""The bounded mailbox of an actor; it outlives the actor's restarts."""

import collections.abc as cabc
import typing as t

import attrs
import trio

from supervisor.errors import MailboxClosedError, MailboxEmptyError, MailboxFullError


@attrs.frozen(kw_only=True)
class MailboxStatistics:
    """A mailbox at one moment."""

    capacity: int
    depth: int  # mail waiting now
    peak: int  # the most mail that ever waited
    posted: int
    received: int
    refused: int  # post_nowait on a full mailbox
    waiting_posts: int  # tasks held back by a full mailbox now


Mail = t.TypeVar("Mail")
Mail_contra = t.TypeVar("Mail_contra", contravariant=True)


class Postbox(t.Protocol[Mail_contra]):
    """The side of a mailbox for those who post."""

    async def post(self, mail: Mail_contra) -> None:
        """See :meth:`Mailbox.post`."""
        ...

    def post_nowait(self, mail: Mail_contra) -> None:
        """See :meth:`Mailbox.post_nowait`."""
        ...


class Mailbox(t.Generic[Mail]):
    """First in, first out; at most ``capacity`` mails wait.

    The same mailbox is given to the restarted actor, so mail posted meanwhile is kept.
    Posting and receiving are checkpoints; a cancelled ``post`` has posted nothing and a
    cancelled ``receive`` has taken nothing.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError("a mailbox holds at least one mail")
        self._capacity = capacity
        self._send, self._receive = trio.open_memory_channel[Mail](capacity)
        self._peak = self._posted = self._received = self._refused = 0
        self._rings: list[cabc.Callable[[], None]] = []

    def __len__(self) -> int:
        return self._send.statistics().current_buffer_used

    def __bool__(self) -> bool:
        return True  # an empty mailbox is still a mailbox

    @property
    def capacity(self) -> int:
        """The most mail that may wait."""
        return self._capacity

    async def post(self, mail: Mail) -> None:
        """Leave mail, waiting while the mailbox is full.

        Raises:
            MailboxClosedError: the mailbox is closed, or was closed while this waited.
        """
        try:
            await self._send.send(mail)
        except trio.ClosedResourceError:
            raise MailboxClosedError("the mailbox is closed") from None
        self._note_posted()

    def post_nowait(self, mail: Mail) -> None:
        """Leave mail without waiting.

        Raises:
            MailboxFullError: ``capacity`` mails wait already.
            MailboxClosedError: the mailbox is closed.
        """
        try:
            self._send.send_nowait(mail)
        except trio.WouldBlock:
            self._refused += 1
            raise MailboxFullError(f"the mailbox holds {self._capacity} mails already") from None
        except trio.ClosedResourceError:
            raise MailboxClosedError("the mailbox is closed") from None
        self._note_posted()

    def ring(self, bell: cabc.Callable[[], None]) -> None:
        """Call ``bell`` after every post, for actors that watch more than one mailbox."""
        self._rings.append(bell)

    async def receive(self) -> Mail:
        """The oldest mail, waiting for one.

        Raises:
            MailboxClosedError: the mailbox is closed and empty.
        """
        try:
            mail = await self._receive.receive()
        except trio.EndOfChannel:
            raise MailboxClosedError("the mailbox is closed") from None
        self._received += 1
        return mail

    def receive_nowait(self) -> Mail:
        """The oldest mail, without waiting.

        Raises:
            MailboxEmptyError: there is none now.
            MailboxClosedError: the mailbox is closed and empty.
        """
        try:
            mail = self._receive.receive_nowait()
        except trio.WouldBlock:
            raise MailboxEmptyError("the mailbox is empty") from None
        except trio.EndOfChannel:
            raise MailboxClosedError("the mailbox is closed") from None
        self._received += 1
        return mail

    def __aiter__(self) -> cabc.AsyncIterator[Mail]:
        return self

    async def __anext__(self) -> Mail:
        try:
            return await self.receive()
        except MailboxClosedError:
            raise StopAsyncIteration from None

    def close(self) -> None:
        """Take no more mail; what waits can still be received. Closing twice is fine."""
        self._send.close()

    def statistics(self) -> MailboxStatistics:
        """How full the mailbox is and was."""
        channel = self._send.statistics()
        return MailboxStatistics(
            capacity=self._capacity,
            depth=channel.current_buffer_used,
            peak=self._peak,
            posted=self._posted,
            received=self._received,
            refused=self._refused,
            waiting_posts=channel.tasks_waiting_send,
        )

    def _note_posted(self) -> None:
        self._posted += 1
        self._peak = max(self._peak, len(self))
        for bell in self._rings:
            bell()
