"""The composition root: which parts there are, who gets whom, who starts and stops when.

    storage → writer → connections → services → api

Each starts once the one before it is ready, and stops before the one before it stops.
"""

import collections.abc as cabc
import contextlib
import secrets
import typing as t

import attrs
import trio

from actors.actions import Actions, Reprocessor
from actors.assembly import make_actions, make_fleet, make_services, make_writer
from actors.fleet import Fleet
from actors.messages import Drain
from actors.services import Services
from actors.writer import Writer
from api.views import WriterView
from config.model import Config
from storage.api import Storage
from storage.open import open_storage
from storage.seal import load_or_create_key
from supervisor.backoff import Backoff
from supervisor.spec import ChildSpec, RestartIntensity, RestartPolicy
from supervisor.tree import Supervisor

ROOT_POLICY: t.Final = RestartPolicy(
    intensity=RestartIntensity(limit=10, window=60.0),
    backoff=Backoff(initial=0.1, maximum=5.0),
    stable_after=60.0,
)
DRAIN_SHARE: t.Final = 0.6  # of the shutdown timeout, for the writer


@attrs.frozen(kw_only=True)
class Core:
    """The parts that every way of running the daemon has."""

    config: Config
    storage: Storage
    writer: Writer
    fleet: Fleet
    services: Services
    actions: Actions
    reprocessor: Reprocessor

    async def aclose(self) -> None:
        """Close what is open towards the network."""
        await self.services.http.aclose()

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
        )


def storage_of(
    config: Config, *, temporary: bool = False
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
    )


async def build_core(config: Config, storage: Storage) -> Core:
    """Make the parts, and bring the rows of the connections up to date; nothing runs yet."""
    writer = make_writer(config, storage)
    services = make_services(config, storage, writer)
    fleet = await make_fleet(config, storage, writer, services)
    services.bind(fleet)
    return Core(
        config=config,
        storage=storage,
        writer=writer,
        fleet=fleet,
        services=services,
        actions=make_actions(fleet, services, storage),
        reprocessor=Reprocessor(storage),
    )


def supervise(core: Core, children: cabc.Iterable[ChildSpec] = ()) -> Supervisor:
    """The tree of the core, with more children after it."""
    writer = ChildSpec(
        id="writer",
        start=core.writer.run,
        stop=lambda: core.writer.inbox.post_nowait(Drain()),  # there is always room for it
        shutdown_timeout=core.config.daemon.shutdown_timeout * DRAIN_SHARE,
    )
    connections = ChildSpec(id="connections", start=core.fleet.run)
    reprocess = ChildSpec(id="reprocess", start=core.reprocessor.run)
    return Supervisor(
        "daemon",
        [writer, connections, *core.services.children(), reprocess, *children],
        ROOT_POLICY,
        uniform=secrets.SystemRandom().random,
    )
