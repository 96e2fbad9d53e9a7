"""What systemd is told, and what it is not told."""

import collections.abc as cabc
import os
import socket
from pathlib import Path

import attrs
import pytest
import trio
import trio.testing

from api.views import LoopView
from daemon.notify import notify_reloading, notify_status, watchdog_interval
from daemon.service_manager import (
    EXTENDED_EVERY,
    START_LIMIT,
    Informer,
    announce_stop,
    extend_start,
    status_sentence,
)

QUIET = LoopView(lag_seconds=0.0, lag_p99_seconds=0.0, lag_max_seconds=0.0, stalls=0)


@attrs.define
class Systemd:
    """The receiving end."""

    receiver: socket.socket

    def told(self) -> list[str]:
        """What has come since the last time."""
        found = []
        while True:
            try:
                found.append(self.receiver.recv(1000).decode())
            except BlockingIOError:
                return found


@pytest.fixture
def systemd(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> cabc.Iterator[Systemd]:
    """A socket in the place of systemd's, which wants a sign of life every 30 s."""
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.setblocking(False)
    receiver.bind(str(short_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(short_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    with receiver:
        yield Systemd(receiver)


@attrs.define
class Part:
    """A vital part."""

    stalled: float = 0.0

    def stalled_for(self) -> float:
        return self.stalled


async def test_no_sign_of_life_while_the_writer_hangs(
    autojump_clock: trio.testing.MockClock, systemd: Systemd
) -> None:
    """At least twice as often as wanted while it makes progress; never while it does not."""
    writer = Part()
    async with trio.open_nursery() as nursery:
        await nursery.start(Informer(writer, 90.0, lambda: "fine").run)
        await trio.sleep(60.5)
        assert systemd.told().count("WATCHDOG=1") >= 4
        writer.stalled = 91.0
        await trio.sleep(300)
        assert systemd.told() == []
        writer.stalled = 0.0
        await trio.sleep(30)
        assert "WATCHDOG=1" in systemd.told()
        nursery.cancel_scope.cancel()


async def test_the_status_is_sent_when_it_changes_and_not_too_often(
    autojump_clock: trio.testing.MockClock, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence every few seconds at most; the same one is not repeated."""
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    sentence = "one"
    told: list[str] = []

    async def listen() -> None:
        while True:
            told.extend(state for state in systemd.told() if state.startswith("STATUS="))
            await trio.sleep(0.5)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await nursery.start(Informer(Part(), 90.0, lambda: sentence).run)
        await trio.sleep(60)
        assert told == ["STATUS=one"]
        for number in range(200):
            sentence = f"number {number}"
            await trio.sleep(0.3)
        assert 15 <= len(told) <= 22
        nursery.cancel_scope.cancel()


async def test_a_long_start_asks_for_more_time_but_not_for_ever(
    autojump_clock: trio.testing.MockClock, systemd: Systemd
) -> None:
    """The extension is longer than the time to the next one."""
    with trio.move_on_after(EXTENDED_EVERY * 4 + 1):
        await extend_start()
    told = systemd.told()
    assert told == ["EXTEND_TIMEOUT_USEC=60000000"] * 4
    with trio.fail_after(START_LIMIT + 1):
        await extend_start()


def test_the_other_words(systemd: Systemd) -> None:
    """Stopping, reloading and status, as the manual has them."""
    announce_stop(20.0)
    assert systemd.told() == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=25000000"]
    notify_reloading()
    [state] = systemd.told()
    first, second = state.split("\n")
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0
    notify_status("two\nlines")
    assert systemd.told() == ["STATUS=two lines"]


def test_the_watchdog_of_another_process_is_none_of_ours(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that inherits the variables does not speak for its parent."""
    assert watchdog_interval() == 30.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_interval() is None
    monkeypatch.delenv("WATCHDOG_PID")
    monkeypatch.setenv("WATCHDOG_USEC", "soon")
    assert watchdog_interval() is None


def test_the_sentence() -> None:
    """Connections that nobody wants are not counted among those that should be online."""
    states = {"online": 5, "backoff": 1, "stopped": 2}
    assert status_sentence(states, 0.003, 12, QUIET) == (
        "5 of 6 online, 2 stopped; last commit under 5 ms, 12 waiting; loop lag under 5 ms"
    )
    assert "0 of 0 online" in status_sentence({}, 1.25, 0, QUIET)
