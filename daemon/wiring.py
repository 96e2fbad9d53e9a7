"""The composition root: which parts there are, who gets whom, who starts and stops when.

    storage → pulse → writer → connections → services → api

Each starts once the one before it is ready, and stops before the one before it stops.
"""

import collections
import collections.abc as cabc
import contextlib
import functools
import secrets
import time
import typing as t

import attrs
import trio

from actors.actions import Actions, Reprocessor
from actors.assembly import (
    make_actions,
    make_fleet,
    make_services,
    make_writer,
    media_proxies,
    retention_rules,
)
from actors.epochs import EpochKeeper
from actors.event_services import EventServices
from actors.exporter import Exporter
from actors.fleet import Fleet
from actors.messages import Drain
from actors.notifier import Notifier
from actors.pulse import LAST_WORD, Pulse
from actors.reporter import Reporter
from actors.restoring import Restorer
from actors.services import Services
from actors.writer import Writer
from api.views import WriterView
from config.model import Config
from daemon.branches import ROOT_POLICY, branch
from daemon.channel_wiring import make_notifier
from daemon.clocks import DELETING_HOLD, Clocks, SteadyClock, watch_clocks
from daemon.event_wiring import make_event_services
from daemon.export_wiring import make_exporter
from daemon.made import Made, adopt, load_made, with_made
from daemon.report_wiring import make_reporter, report_children
from daemon.service_manager import status_sentence
from daemon.watchdog import LoopWatch
from storage.api import Storage
from storage.open import open_storage
from storage.seal import load_or_create_key
from supervisor.spec import ChildSpec
from supervisor.tree import Supervisor
from supervisor.wakefulness import Wakefulness

DRAIN_SHARE: t.Final = 0.6  # of the shutdown timeout, for the writer


@attrs.frozen(kw_only=True)
class Core:
    """The parts that every way of running the daemon has."""

    config: Config
    storage: Storage
    clocks: Clocks
    clock: SteadyClock
    wakefulness: Wakefulness
    loop_watch: LoopWatch
    pulse: Pulse
    epochs: EpochKeeper
    writer: Writer
    fleet: Fleet
    services: Services
    actions: Actions
    reprocessor: Reprocessor
    restorer: Restorer
    events: EventServices
    reporter: Reporter
    notifier: Notifier
    background: Supervisor
    """Of the services that work behind the writer."""
    exporter: Exporter
    made: Made = attrs.field(factory=dict)
    """The connections of ``config`` that were made through the API."""
    followers: list[cabc.Callable[[Config], None]] = attrs.field(factory=list)
    """Called with each configuration that comes into force."""

    def applied(self, config: Config) -> None:
        """Another configuration is in force: what is no connection's own follows."""
        self.services.http.use_proxies(media_proxies(config))
        for follower in self.followers:
            follower(config)
        self.services.retention.use(retention_rules(config))

    async def aclose(self) -> None:
        """Close what is open towards the network."""
        await self.services.http.aclose()
        await self.events.aclose()

    def writer_view(self) -> WriterView:
        """How the writer keeps up, now."""
        status, inbox = self.writer.status, self.writer.inbox
        since = status.retrying_since
        return WriterView(
            depth=inbox.places_taken,
            capacity=inbox.capacity,
            batches=status.batches,
            envelopes=status.envelopes,
            last_commit_seconds=status.last_commit_seconds,
            retrying_seconds=None if since is None else trio.current_time() - since,
            last_error=status.last_error,
            stalled_seconds=self.writer.stalled_for(),
        )

    def sentence(self) -> str:
        """How things are, for systemd."""
        states = collections.Counter(status.state for status in self.fleet.status())
        commit, waiting = self.writer.status.last_commit_seconds, len(self.writer.inbox)
        return status_sentence(states, commit, waiting, self.loop_watch.view())


def storage_of(
    config: Config,
    *,
    temporary: bool = False,
    clock: cabc.Callable[[], float] = time.time,  # noqa: TID251 - the edge
) -> contextlib.AbstractAsyncContextManager[Storage]:
    """The storage that the configuration names; its key is made if there is none.

    Raises:
        StorageError: see ``storage.open.open_storage`` and ``storage.seal``.
    """
    return open_storage(
        dsn=config.storage.dsn,
        data_dir=config.data_dir,
        key=load_or_create_key(config.key_file),
        pool_size=config.storage.pool_size,
        command_timeout=config.storage.command_timeout,
        temporary=temporary,
        clock=clock,
    )


async def build_core(
    config: Config,
    storage: Storage,
    clocks: Clocks | None = None,
    clock: SteadyClock | None = None,
) -> Core:
    """Make the parts, and bring the rows of the connections up to date; nothing runs yet."""
    clocks = clocks or Clocks()
    clock = clock or SteadyClock(clocks)
    wakefulness = Wakefulness()
    pulse = Pulse(storage)
    await pulse.begin()
    epochs = EpochKeeper(storage, config.data_dir)
    await epochs.begin()
    made = await load_made(storage)
    await adopt(storage, config, made)
    config = with_made(config, made)
    writer = make_writer(config, storage)
    deleting = SteadyClock(clocks, hold=DELETING_HOLD, tell=False)
    services = make_services(config, storage, writer, clock, deleting)
    fleet = await make_fleet(
        config, storage, writer, services, wall_clock=clock, wakefulness=wakefulness
    )
    services.bind(fleet)
    events = make_event_services(config, storage, fleet, clock)
    writer.listeners.append(events.committed)
    notifier = make_notifier(config, storage, clock)
    await notifier.begin()
    reprocessor = Reprocessor(storage)
    reprocess = ChildSpec(id="reprocess", start=reprocessor.run)
    reporter = make_reporter(config, storage, clock)
    exporter = make_exporter(
        config, storage, services.blobs, wall_clock=clock, deleting_clock=deleting
    )
    exports = ChildSpec(id="exports", start=exporter.run)
    return Core(
        config=config,
        storage=storage,
        clocks=clocks,
        clock=clock,
        wakefulness=wakefulness,
        loop_watch=LoopWatch(),
        pulse=pulse,
        epochs=epochs,
        writer=writer,
        fleet=fleet,
        services=services,
        actions=make_actions(fleet, services, storage, clock),
        reprocessor=reprocessor,
        restorer=Restorer(storage, writer.inbox, fleet),
        events=events,
        reporter=reporter,
        notifier=notifier,
        background=branch(
            "services",
            [*services.children(), reprocess, *report_children(config, reporter), exports],
        ),
        exporter=exporter,
        made=made,
    )


def supervise(core: Core, children: cabc.Iterable[ChildSpec] = ()) -> Supervisor:
    """The tree of the core, with more children after it."""
    pulse = ChildSpec(
        id="pulse",
        start=core.pulse.run,
        stop=core.pulse.stop,
        shutdown_timeout=LAST_WORD + 1.0,
    )
    writer = ChildSpec(
        id="writer",
        start=core.writer.run,
        stop=lambda: core.writer.inbox.post_nowait(Drain()),  # there is always room for it
        shutdown_timeout=core.config.daemon.shutdown_timeout * DRAIN_SHARE,
    )
    clocks = functools.partial(watch_clocks, core.clocks, core.clock, core.wakefulness)
    own_health = [
        ChildSpec(id="clocks", start=clocks),
        ChildSpec(id="watchdog", start=core.loop_watch.run),
    ]
    connections = ChildSpec(id="connections", start=core.fleet.run)
    return Supervisor(
        "daemon",
        [
            *own_health,
            pulse,
            ChildSpec(id="epochs", start=core.epochs.run),
            writer,
            connections,
            core.background.as_child(),
            *core.events.children(),
            *core.notifier.children(),
            *children,
        ],
        ROOT_POLICY,
        uniform=secrets.SystemRandom().random,
    )
