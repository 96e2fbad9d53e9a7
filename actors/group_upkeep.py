"""What the groups are and who is in them: asked at login, and when one is new."""

import collections
import collections.abc as cabc
import typing as t

import structlog
import trio

from actors.line import Line, NotOnlineError
from actors.notices import asked_snapshot
from storage.api import Envelope
from whatsapp.errors import RemoteProtocolError
from whatsapp.iq import core
from whatsapp.iq.groups import (
    Group,
    group_request,
    groups_request,
    parse_group_response,
    parse_groups_response,
)
from whatsapp.jid import Jid
from whatsapp.node import Node

MAX_WANTED: t.Final = 256  # groups waiting to be asked for; more are met again by themselves
MAX_KNOWN: t.Final = 4096

log: structlog.stdlib.BoundLogger = structlog.get_logger("groups")


class GroupUpkeep:
    """Asks for groups, one at a time, for as long as the connection lives."""

    def __init__(
        self,
        name: str,
        post: cabc.Callable[[Envelope], cabc.Awaitable[None]],
        line: Line,
        wall_clock: cabc.Callable[[], float],
    ) -> None:
        self._name = name
        self._post = post
        self._line = line
        self._wall_clock = wall_clock
        self._wanted: collections.OrderedDict[Jid, None] = collections.OrderedDict()
        self._known: set[Jid] = set()
        self._rung = trio.Event()

    def met(self, group: Jid) -> None:
        """A message came from a group: ask for it unless it is known."""
        if group not in self._known:
            self.unknown(group)

    def unknown(self, group: Jid) -> None:
        """Ask for a group, known or not."""
        if len(self._wanted) < MAX_WANTED:
            self._wanted[group] = None
            self._rung.set()

    async def run(self) -> t.NoReturn:
        """All groups first, then each that is asked for."""
        await self._all()
        while True:
            await self._rung.wait()
            self._rung = trio.Event()
            while self._wanted:
                group, _ = self._wanted.popitem(last=False)
                await self._one(group)

    async def _all(self) -> None:
        try:
            groups = parse_groups_response(await self._ask(groups_request))
        except (RemoteProtocolError, NotOnlineError) as error:
            log.warning("groups.unknown", connection=self._name, error=str(error))
            return
        for group in groups:
            await self._keep(group)
        log.info("groups.known", connection=self._name, groups=len(groups))

    async def _one(self, group: Jid) -> None:
        try:
            answer = await self._ask(lambda iq_id: group_request(iq_id, group))
            await self._keep(parse_group_response(answer))
        except core.IqError as error:
            self._remember(group)  # not ours to see: asking again would not help
            log.info("groups.refused", connection=self._name, code=error.code)
        except (RemoteProtocolError, NotOnlineError) as error:
            log.warning("groups.unknown", connection=self._name, error=str(error))

    async def _ask(self, build: cabc.Callable[[str], Node]) -> Node:
        return await self._line.request(build)

    async def _keep(self, group: Group) -> None:
        self._remember(group.jid)
        facts = asked_snapshot(group, self._wall_clock())
        await self._post(Envelope(connection=self._name, facts=facts))

    def _remember(self, group: Jid) -> None:
        if len(self._known) < MAX_KNOWN:
            self._known.add(group)
