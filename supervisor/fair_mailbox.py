"""A bounded mailbox in lanes: who floods it waits, and nobody waits for who floods it.

Theory of operation
    Mail takes *places*, more of them the bigger it is, so that one bound holds for number and
    bytes. A lane has ``reserved`` places of its own (or what ``own`` says of it); what it holds
    beyond them comes out of ``capacity`` places shared by all. Whoever finds no place waits in
    line, first come, first served; a lane with reserved places left does not stand in that line.
    So at most ``capacity`` places, plus ``reserved`` for each lane, plus one mail that is bigger
    than all of them (let in when the shared places are empty) are taken.

    Mail is received in the order of ``supervisor.fair_queue``. Mail of no lane (``key`` gives
    None) is a barrier: it is received after all that was posted before it, and before all that
    is posted after it. Barriers take no place, so that there is always a way to end; they are
    for the few who end or wait for everything.
"""

import collections
import collections.abc as cabc
import typing as t

import attrs
import trio

from supervisor.errors import MailboxClosedError, MailboxEmptyError, MailboxFullError
from supervisor.fair_queue import FairQueue, Lane
from supervisor.mailbox import MailboxStatistics

Mail = t.TypeVar("Mail")


@attrs.define(eq=False)
class _Waiting(t.Generic[Mail]):
    mail: Mail
    lane: Lane
    places: int
    task: trio.lowlevel.Task
    refused: bool = False  # the mailbox was closed


@attrs.define(eq=False)
class _Lane(t.Generic[Mail]):
    held: int = 0  # places
    posts: "collections.deque[_Waiting[Mail]]" = attrs.field(factory=collections.deque)


class FairMailbox(t.Generic[Mail]):
    """Lanes of mail for one receiver; see the module. It outlives its actor's restarts.

    Posting is a checkpoint; a cancelled ``post`` has posted nothing.
    """

    def __init__(
        self,
        capacity: int,
        *,
        key: cabc.Callable[[Mail], Lane | None],
        places: cabc.Callable[[Mail], int],
        reserved: int = 4,
        own: cabc.Mapping[Lane, int] | None = None,
    ) -> None:
        """``key`` gives the lane of a mail, ``places`` how many it takes (at least 1)."""
        if capacity < 1:
            raise ValueError("a mailbox holds at least one mail")
        self._capacity = capacity
        self._reserved = reserved
        self._own = dict(own or {})
        self._key = key
        self._places = places
        self._first = self._last = FairQueue[Mail]()
        self._barriers: collections.deque[tuple[Mail, FairQueue[Mail]]] = collections.deque()
        self._lanes: dict[Lane, _Lane[Mail]] = {}
        self._paused: set[Lane] = set()
        self._line: collections.OrderedDict[_Waiting[Mail], None] = collections.OrderedDict()
        self._shared = 0  # places taken out of the shared ones
        self._taken = 0  # places in all
        self._size = 0
        self._peak = self._posted = self._received = self._refused = 0
        self._rings: list[cabc.Callable[[], None]] = []
        self._closed = False

    def __len__(self) -> int:
        return self._size

    def __bool__(self) -> bool:
        return True  # an empty mailbox is still a mailbox

    @property
    def capacity(self) -> int:
        """The places that all lanes share."""
        return self._capacity

    @property
    def places_taken(self) -> int:
        """Places taken now, the reserved ones among them."""
        return self._taken

    # ---- posting -------------------------------------------------------------------------

    async def post(self, mail: Mail) -> None:
        """Leave mail, waiting while there is no place for it.

        Raises:
            MailboxClosedError: the mailbox is closed, or was closed while this waited.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._try_post(mail):
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        lane = self._key(mail)
        assert lane is not None  # noqa: S101 - barriers are let in at once
        waiting = _Waiting(mail, lane, self._places(mail), trio.lowlevel.current_task())
        self._lane(lane).posts.append(waiting)
        self._line[waiting] = None

        def cancelled(_: object) -> trio.lowlevel.Abort:
            self._leave_line(waiting)
            self._admit()  # it may have been the one that nobody passes
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(cancelled)
        if waiting.refused:
            raise MailboxClosedError("the mailbox is closed")

    def post_nowait(self, mail: Mail) -> None:
        """Leave mail without waiting.

        Raises:
            MailboxFullError: there is no place for it.
            MailboxClosedError: the mailbox is closed.
        """
        if not self._try_post(mail):
            self._refused += 1
            raise MailboxFullError(f"{self._taken} of {self._capacity} places are taken")

    def ring(self, bell: cabc.Callable[[], None]) -> None:
        """Call ``bell`` whenever there is something new to receive."""
        self._rings.append(bell)

    def close(self) -> None:
        """Take no more mail; what is in can still be received. Closing twice is fine."""
        self._closed = True
        for waiting in tuple(self._line):
            waiting.refused = True
            self._leave_line(waiting)
            trio.lowlevel.reschedule(waiting.task)

    # ---- receiving -----------------------------------------------------------------------

    def receive_nowait(self) -> Mail:
        """The next mail.

        Raises:
            MailboxEmptyError: there is none, or none but in paused lanes.
            MailboxClosedError: the mailbox is closed and empty.
        """
        if (found := self._first.pop()) is not None:
            lane, mail, places = found
            self._received += 1
            self._size -= 1
            self._release(lane, places)
            return mail
        if not self._first and self._barriers:
            mail, self._first = self._barriers.popleft()
            self._received += 1
            self._size -= 1
            return mail
        if self._closed and not self._size:
            raise MailboxClosedError("the mailbox is closed")
        raise MailboxEmptyError("the mailbox is empty")

    def pause(self, lane: Lane) -> None:
        """Receive nothing of a lane until it is resumed; barriers behind its mail wait, too."""
        self._paused.add(lane)
        for queue in self._queues():
            queue.pause(lane)

    def resume(self, lane: Lane) -> None:
        """Receive from a lane again."""
        self._paused.discard(lane)
        for queue in self._queues():
            queue.resume(lane)
        self._ring()

    def resume_all(self) -> None:
        """Receive from every lane: the receiver begins anew."""
        for lane in tuple(self._paused):
            self.resume(lane)

    def statistics(self) -> MailboxStatistics:
        """How full the mailbox is and was; mail, not places."""
        return MailboxStatistics(
            capacity=self._capacity,
            depth=self._size,
            peak=self._peak,
            posted=self._posted,
            received=self._received,
            refused=self._refused,
            waiting_posts=len(self._line),
        )

    # ---- places --------------------------------------------------------------------------

    def _try_post(self, mail: Mail) -> bool:
        if self._closed:
            raise MailboxClosedError("the mailbox is closed")
        lane = self._key(mail)
        if lane is None:
            self._last = self._new_queue()
            self._barriers.append((mail, self._last))
            self._note_posted()
            return True
        places = self._places(mail)
        state = self._lanes.get(lane)
        held, posts = (0, False) if state is None else (state.held, bool(state.posts))
        if posts or not self._fits(lane, held, places, first=not self._line):
            return False
        self._put(lane, mail, places)
        return True

    def _fits(self, lane: Lane, held: int, places: int, *, first: bool) -> bool:
        """Whether a lane may take ``places`` more; ``first``: nobody else is before it."""
        more = self._beyond(lane, held + places) - self._beyond(lane, held)
        if more == 0:
            return True
        return first and (self._shared + more <= self._capacity or self._shared == 0)

    def _beyond(self, lane: Lane, held: int) -> int:
        """How many of the places that a lane holds are shared ones."""
        return max(0, held - self._own.get(lane, self._reserved))

    def _put(self, lane: Lane, mail: Mail, places: int) -> None:
        state = self._lane(lane)
        self._shared += self._beyond(lane, state.held + places) - self._beyond(lane, state.held)
        state.held += places
        self._taken += places
        self._last.put(lane, mail, places)
        self._note_posted()

    def _release(self, lane: Lane, places: int) -> None:
        state = self._lanes[lane]
        self._shared -= self._beyond(lane, state.held) - self._beyond(lane, state.held - places)
        state.held -= places
        self._taken -= places
        # Its own next post may fit into its reserved places, whoever stands before it in line.
        while state.posts and self._fits(lane, state.held, state.posts[0].places, first=False):
            self._let_in(state.posts[0])
        self._admit()
        if not state.held and not state.posts:
            del self._lanes[lane]

    def _admit(self) -> None:
        """Let in who stands first in line, for as long as there is a place."""
        while self._line:
            first = next(iter(self._line))
            held = self._lane(first.lane).held
            if not self._fits(first.lane, held, first.places, first=True):
                return
            self._let_in(first)

    def _let_in(self, waiting: "_Waiting[Mail]") -> None:
        self._put(waiting.lane, waiting.mail, waiting.places)
        self._leave_line(waiting)
        trio.lowlevel.reschedule(waiting.task)

    def _leave_line(self, waiting: "_Waiting[Mail]") -> None:
        del self._line[waiting]
        state = self._lane(waiting.lane)
        state.posts.remove(waiting)  # the first one, but for cancellations
        if not state.held and not state.posts:
            del self._lanes[waiting.lane]

    def _lane(self, lane: Lane) -> "_Lane[Mail]":
        return self._lanes.setdefault(lane, _Lane())

    # ---- the rest ------------------------------------------------------------------------

    def _new_queue(self) -> FairQueue[Mail]:
        queue = FairQueue[Mail]()
        for lane in self._paused:
            queue.pause(lane)
        return queue

    def _queues(self) -> list[FairQueue[Mail]]:
        return [self._first, *(queue for _, queue in self._barriers)]

    def _note_posted(self) -> None:
        self._posted += 1
        self._size += 1
        self._peak = max(self._peak, self._size)
        self._ring()

    def _ring(self) -> None:
        for bell in self._rings:
            bell()
