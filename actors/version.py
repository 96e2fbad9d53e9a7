"""The client version that all connections claim, and the pause when WhatsApp refuses it.

Theory of operation. One refusal (failure 405) holds for the whole fleet, since all claim the same
version. Whoever is online stays; nobody else dials. The current version is looked up on the public
page of WhatsApp Web; a newer one than the refused is used at once. Failing that, one connection at
a time makes a trial now and then, and when it is let in, all others follow.
"""

import collections.abc as cabc
import math
import re
import typing as t

import httpx
import structlog
import trio

from actors.incidents import OUTDATED, Incident
from actors.media_http import MediaTooLargeError, bounded_body
from actors.queueing import WaitingLine
from whatsapp.payload import Version

log: structlog.stdlib.BoundLogger = structlog.get_logger("fleet")

LOOK_UP_TIMEOUT: t.Final = 20.0  # seconds
LOOK_UP_INTERVAL: t.Final = 900.0  # seconds, where no trials set the pace
MAX_PAGE: t.Final = 4 * 1024 * 1024  # bytes that are read of the page
TRIAL_AGAIN: t.Final = 30.0  # seconds after a trial that told nothing
_FAMILY: t.Final = (2, 3000)  # of the versions of WhatsApp Web
_REVISION: t.Final = re.compile(
    rb'client_revision\\{0,4}"\s{0,4}:\s{0,4}([1-9][0-9]{5,9})(?![0-9])'
)
_HEADERS: t.Final = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/131.0.0.0 Safari/537.36",
    "Sec-Fetch-Site": "none",
    "Accept-Encoding": "identity",
}

LookUp: t.TypeAlias = cabc.Callable[[], cabc.Awaitable[Version]]
"""Finds the current version; raises ``VersionUnknownError``."""


class VersionUnknownError(Exception):
    """The current version could not be found out."""


class ClientVersion:
    """What is claimed, whether it was refused, and who may try nevertheless."""

    def __init__(
        self,
        wall_clock: cabc.Callable[[], float],
        *,
        trial_interval: float | None = 900.0,
        look_up: LookUp | None = None,
    ) -> None:
        """``trial_interval`` in seconds; None: no trials but those an operator asks for."""
        self.line: WaitingLine[t.Hashable] = WaitingLine()
        """Those that are held back."""
        self._wall_clock = wall_clock
        self._interval = trial_interval
        self._look_up = look_up
        self._look_up_failed = False  # and told so
        self._found: Version | None = None
        self._refused: Version | None = None
        self._since = 0.0  # unix seconds
        self._trial: t.Hashable | None = None
        self._trial_at = self._look_up_at = math.inf  # trio clock
        self._changed = trio.Event()

    def claimed(self, configured: Version) -> Version:
        """The version to claim: the configured one, or a newer one that was found."""
        return configured if self._found is None else max(configured, self._found)

    def configured(self, version: Version) -> None:
        """A connection is made with this version: a newer one than the refused ends the pause."""
        if self._refused is not None and version > self._refused:
            self._resume("configuration")

    @property
    def holding(self) -> bool:
        """Whether only a trial may dial."""
        return self._refused is not None

    @property
    def sentence(self) -> str:
        """What is wrong, for whoever is held back."""
        next_step = (
            "it is not tried again by itself"
            if self._interval is None
            else f"one connection tries again every {self._interval / 60:.3g} min"
        )
        return (
            f"WhatsApp refuses client version {shown(self._refused)} as outdated: set a newer"
            f" whatsapp.version in the configuration, then run: zapvisor reload; {next_step}"
        )

    def incident(self, when: cabc.Callable[[float], t.Any]) -> Incident | None:
        """The pause, while there is one; ``when`` makes a date of unix seconds."""
        if self._refused is None:
            return None
        return Incident(
            code=OUTDATED,
            since=when(self._since),
            sentence=self.sentence,
            connections=len(self.line) + (self._trial is not None),
        )

    # ---- what happens to connections

    def refused(self, version: Version) -> None:
        """WhatsApp refused this version: the pause begins, or goes on."""
        now = trio.current_time()
        if self._refused is None:
            if self._found is not None and version < self._found:
                return  # a newer one has been found meanwhile
            self._refused, self._since = version, self._wall_clock()
            self._look_up_at = now
            log.error("fleet.outdated", version=shown(version), sentence=self.sentence)
        self._refused = max(self._refused, version)
        self._trial_at = math.inf if self._interval is None else now + self._interval
        self._move()

    def accepted(self, who: t.Hashable) -> None:
        """WhatsApp let somebody in; if it was the trial, the pause is over."""
        if who is self._trial and self._refused is not None:
            self._resume("trial")

    def over(self, who: t.Hashable) -> None:
        """Somebody's attempt has ended, one way or another; the trial passes on."""
        if who is self._trial:
            self._trial = None
            if self._trial_at <= trio.current_time():  # it told nothing: not refused, not let in
                self._trial_at = trio.current_time() + TRIAL_AGAIN
            self._move()

    def is_trial(self, who: t.Hashable) -> bool:
        """Whether this is the one that may dial."""
        return who is self._trial

    def try_now(self) -> None:
        """An operator wants to know: the next trial is due."""
        if self._refused is not None:
            self._trial_at = trio.current_time()
            self._move()

    async def wait(self, who: t.Hashable, *, first: bool = False) -> None:
        """Wait until the pause is over, or until one may make the trial; ``first``: at once."""
        if first:
            self._trial_at = trio.current_time()
        self._move()  # the trial may have waited for somebody
        await self.line.wait(who, first=first)

    # ---- the pause

    async def run(self) -> t.NoReturn:
        """Look up, and grant trials, while there is a pause."""
        while True:
            due = math.inf
            if self._refused is not None:
                if self._look_up is not None and self._look_up_at <= trio.current_time():
                    await self._find(self._look_up)
                    continue
                if self._trial is None and self._trial_at <= trio.current_time() and len(self.line):
                    self._trial = self.line.pick()
                    continue
                due = self._next_due()
            changed = self._changed
            with trio.move_on_at(due):
                await changed.wait()

    def _next_due(self) -> float:
        due = math.inf if self._look_up is None else self._look_up_at
        if self._trial is None and len(self.line):
            due = min(due, self._trial_at)
        return due

    async def _find(self, look_up: LookUp) -> None:
        self._look_up_at = trio.current_time() + (self._interval or LOOK_UP_INTERVAL)
        try:
            found = await look_up()
        except VersionUnknownError as error:
            if not self._look_up_failed:
                self._look_up_failed = True
                log.warning("fleet.version_unknown", error=str(error))
            return
        self._look_up_failed = False
        if self._refused is not None and found > self._refused:
            log.info("fleet.version_found", refused=shown(self._refused), found=shown(found))
            self._found = found
            self._resume("look-up")

    def _resume(self, cause: str) -> None:
        self._refused, self._trial = None, None
        log.info(
            "fleet.outdated_over",
            cause=cause,
            connections=len(self.line),
            seconds=round(self._wall_clock() - self._since, 1),
        )
        self._move()
        self.line.release()

    def _move(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()


def shown(version: Version | None) -> str:
    """A version as it is written in the configuration."""
    return "unknown" if version is None else ".".join(map(str, version))


def web_look_up(
    url: str, transport: cabc.Callable[[], httpx.AsyncBaseTransport | None] = lambda: None
) -> LookUp:
    """Reads the version off WhatsApp's page at ``url``; ``transport`` makes another way there.

    Source: docs/protocol.md#client-version
    """

    async def look_up() -> Version:
        try:
            with trio.fail_after(LOOK_UP_TIMEOUT):
                async with httpx.AsyncClient(
                    transport=transport(), timeout=LOOK_UP_TIMEOUT
                ) as client:
                    return revision_in(await _fetch(client, url))
        except trio.TooSlowError:
            raise VersionUnknownError(f"{url} took longer than {LOOK_UP_TIMEOUT:g} s") from None
        except MediaTooLargeError as error:
            raise VersionUnknownError(f"{url} is larger than {MAX_PAGE} bytes") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            detail = f": {error}" if str(error) else ""
            raise VersionUnknownError(f"{url}: {type(error).__name__}{detail}") from error

    return look_up


async def _fetch(client: httpx.AsyncClient, url: str) -> bytes:
    async with client.stream("GET", url, headers=_HEADERS) as answer:
        if answer.status_code != httpx.codes.OK:
            raise VersionUnknownError(f"{url} answers with {answer.status_code}")
        async with bounded_body(answer, MAX_PAGE) as pieces:
            return b"".join([piece async for piece in pieces])


def revision_in(page: bytes) -> Version:
    """The version that a page of WhatsApp Web names.

    Raises:
        VersionUnknownError: it names none, or several.
    """
    found = {int(match[1]) for match in _REVISION.finditer(page)}
    if len(found) != 1:
        what = "several revisions" if found else "no revision"
        raise VersionUnknownError(f"the page names {what} of the client")
    (revision,) = found
    if revision >= 1 << 32:
        raise VersionUnknownError("the page names an impossible revision of the client")
    return (*_FAMILY, revision)
