"""Weighted fair queueing: many lanes, one consumer, each lane its equal share. Pure: no clock.

Theory of operation
    Each lane is first in, first out. An item weighs at least 1. In an ideal world all lanes
    that hold something would be emptied at the same time, each at an equal rate; an item's
    *tag* is the moment, on a virtual clock that counts the weight served to each lane, at
    which it would be through. The next item is the one with the smallest tag, so that it is
    late by no more than one item (the one that is being served) against the ideal, however much
    the others have queued, and however heavy their items are. A lane that was silent begins at
    the present virtual time: it earns nothing by silence, and loses nothing by it either.
"""

import collections
import collections.abc as cabc
import heapq
import itertools
import typing as t

Item = t.TypeVar("Item")
Lane: t.TypeAlias = cabc.Hashable


class FairQueue(t.Generic[Item]):
    """Lanes served by their shares. A lane may be paused: it is passed over, and fills."""

    def __init__(self) -> None:
        self._lanes: dict[Lane, collections.deque[tuple[Item, int]]] = {}
        self._finished: dict[Lane, float] = {}  # the tag up to which a lane was served
        self._next: list[tuple[float, int, Lane]] = []  # heap: tag of each lane's first item
        self._set_aside: dict[Lane, tuple[float, int]] = {}  # paused, with something to serve
        self._paused: set[Lane] = set()
        self._order = itertools.count()
        self._now = 0.0  # virtual: weight served to each lane
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, lane: Lane, item: Item, weight: int) -> None:
        """Add an item at the end of its lane."""
        if weight < 1:
            raise ValueError("an item weighs at least 1")
        waiting = self._lanes.get(lane)
        if waiting is None:
            waiting = self._lanes[lane] = collections.deque()
            start = max(self._now, self._finished.get(lane, 0.0))
            heapq.heappush(self._next, (start + weight, next(self._order), lane))
        waiting.append((item, weight))
        self._size += 1

    def pop(self) -> tuple[Lane, Item, int] | None:
        """Take the next item, with its lane and weight; None: nothing may be served now."""
        while self._next:
            tag, order, lane = heapq.heappop(self._next)
            if lane in self._paused:
                self._set_aside[lane] = (tag, order)
                continue
            return self._serve(tag, lane)
        return None

    def _serve(self, tag: float, lane: Lane) -> tuple[Lane, Item, int]:
        waiting = self._lanes[lane]
        item, weight = waiting.popleft()
        self._size -= 1
        # The lanes that compete with this one, itself included.
        self._now += weight / (len(self._next) + 1)
        if waiting:
            self._finished[lane] = tag
            heapq.heappush(self._next, (tag + waiting[0][1], next(self._order), lane))
        else:
            del self._lanes[lane]
            self._remember(lane, tag)
        return lane, item, weight

    def _remember(self, lane: Lane, tag: float) -> None:
        """A lane that comes back at once begins where it ended."""
        if not self._size:
            self._begin_anew()
            return
        self._finished[lane] = tag
        if len(self._finished) > 2 * len(self._lanes) + 64:
            self._finished = {k: at for k, at in self._finished.items() if at > self._now}

    def _begin_anew(self) -> None:
        """Nothing waits, so nobody is owed anything."""
        self._now = 0.0
        self._finished.clear()

    def pause(self, lane: Lane) -> None:
        """Pass a lane over until it is resumed; pausing twice is pausing once."""
        self._paused.add(lane)

    def resume(self, lane: Lane) -> None:
        """Serve a lane again, from now on: it is owed nothing for the pause."""
        self._paused.discard(lane)
        if (entry := self._set_aside.pop(lane, None)) is not None:
            tag, order = entry
            weight = self._lanes[lane][0][1]
            heapq.heappush(self._next, (max(tag, self._now + weight), order, lane))
