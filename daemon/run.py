"""``zapvisor run``: from an empty process to a running tree, and back."""

import collections.abc as cabc
import contextlib
import functools
import math
import os
import socket
import typing as t
import urllib.parse

import structlog
import trio

from actors.resolver import BoundedResolver
from api.control_socket import control_socket
from api.errors import ApiError
from config.model import Config
from daemon.api_children import api_supervisor
from daemon.channel_wiring import load_checked
from daemon.clocks import Clocks, SteadyClock
from daemon.errors import CommandError, StartError
from daemon.file_limit import raise_file_limit
from daemon.lock import data_directory
from daemon.logs import Logs, configure_logs, flush_logs
from daemon.notify import notify
from daemon.registrar import Registrar
from daemon.reload import Reloader
from daemon.service_manager import Informer, announce_stop, extend_start
from daemon.signals import exit_after, obey_signals
from daemon.waiting import WaitingRoom
from daemon.wiring import Core, build_core, storage_of, supervise
from storage.api import RecordKind, Storage
from storage.errors import SealError, StorageError, StorageUnavailableError
from storage.seal import key_source
from supervisor.crash import leaves
from supervisor.errors import RestartLimitError

log: structlog.stdlib.BoundLogger = structlog.get_logger("daemon")

PATIENCE: t.Final = 15.0  # seconds a database may take to be there when the daemon starts
_PAUSE: t.Final = 1.0  # seconds between the first two tries, up to
_LONGEST_PAUSE: t.Final = 5.0
STALL_FACTOR: t.Final = 2.0
STALL_GRACE: t.Final = 30.0
"""A step of the writer may take so many command timeouts and so many seconds; see
``storage.postgres``, which gives a connection up somewhat earlier."""
_EXPECTED: t.Final = (CommandError, ApiError, StorageError, RestartLimitError)

OpenStorage: t.TypeAlias = cabc.Callable[[Config], contextlib.AbstractAsyncContextManager[Storage]]


def run_daemon(config: Config, *, version: str) -> int:
    """Run until a signal ends it; the exit code.

    Raises:
        CommandError: it could not start, or a part failed for good.
    """
    try:
        logs = configure_logs(
            form=config.daemon.log_format.value, level=config.daemon.log_level.value
        )
    except ValueError as error:
        raise StartError(str(error)) from error
    raise_file_limit()
    try:
        with one_line_errors():
            main = functools.partial(serve, config, version=version, logs=logs)
            trio.run(main, strict_exception_groups=True)
    finally:
        flush_logs()
    return 0


@contextlib.contextmanager
def one_line_errors() -> cabc.Iterator[None]:
    """Turn errors of the expected kinds, however deep in groups, into a ``CommandError``."""
    try:
        yield
    except CommandError:
        raise
    except Exception as error:
        parts = list(leaves(error))
        for kind in _EXPECTED:
            for leaf in parts:
                if isinstance(leaf, kind):
                    raise (
                        leaf if isinstance(leaf, CommandError) else StartError(str(leaf))
                    ) from error
        raise


class _Stopper:
    """Does what a signal asks for, at any point of the daemon's life."""

    def __init__(self, shutdown_timeout: float) -> None:
        self.everything = trio.CancelScope()
        self.stop_tree: cabc.Callable[[], None] | None = None
        """Set while there is something to stop in order; before that, all is cancelled."""
        self.reloader: Reloader | None = None
        self._shutdown_timeout = shutdown_timeout

    def reload(self) -> None:
        if self.reloader is None:
            log.warning("daemon.reload_ignored", reason="the daemon is still starting")
        else:
            self.reloader.ask()

    def stop(self) -> None:
        announce_stop(self._shutdown_timeout)
        exit_after(self._shutdown_timeout)
        (self.stop_tree or self.everything.cancel)()

    def stop_now(self) -> None:
        exit_after(0.5)
        self.everything.cancel()


async def serve(
    config: Config,
    *,
    version: str,
    open_storage: OpenStorage | None = None,
    patience: float | None = None,
    clocks: Clocks | None = None,
    logs: Logs | None = None,
) -> None:
    """The daemon's life, in this order: lock, control socket, storage, and the tree above it.

    ``patience``: seconds to wait for a database that is away. By default it is short for whoever
    looks on, and endless under a service manager, which could do no more than start us again.
    """
    if patience is None:
        patience = math.inf if os.environ.get("NOTIFY_SOCKET") else PATIENCE
    trio.socket.set_custom_hostname_resolver(BoundedResolver())
    with (
        data_directory(config.data_dir),
        control_socket(
            config.control_socket, config.control.mode, config.control.group
        ) as listener,
    ):
        clocks = clocks or Clocks()
        clock = SteadyClock(clocks)
        stopper = _Stopper(config.daemon.shutdown_timeout)
        async with trio.open_nursery() as nursery:
            await nursery.start(
                functools.partial(
                    obey_signals, stopper.stop, stopper.stop_now, reload=stopper.reload
                )
            )
            with stopper.everything:
                starting = await nursery.start(_while_starting)
                waiting = WaitingRoom(listener, nursery, config.http.address)
                opening = _open_patiently(
                    config,
                    open_storage or functools.partial(storage_of, clock=clock),
                    patience,
                    waiting,
                )
                async with opening as storage:
                    core = await build_core(config, storage, clocks, clock)
                    await _run_tree(core, listener, stopper, version, starting, logs)
            nursery.cancel_scope.cancel()
        log.info("daemon.stopped")


async def _while_starting(*, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await extend_start()


async def _run_tree(
    core: Core,
    listener: socket.socket,
    stopper: _Stopper,
    version: str,
    starting: trio.CancelScope,
    logs: Logs | None,
) -> None:
    config = core.config
    limit = STALL_FACTOR * config.storage.command_timeout + STALL_GRACE
    informer = Informer(core.writer, limit, core.sentence)
    await _check_key(config, core.storage)
    reloader = Reloader(
        config,
        functools.partial(load_checked, config.path, os.environ),
        core.fleet,
        core.storage,
        core.writer.inbox,
        wall_clock=core.clock,
        made=core.made,
        applied=core.applied,
    )
    registrar = Registrar(reloader, core.fleet, core.storage, core.writer.inbox)
    async with contextlib.aclosing(core), trio.open_nursery() as nursery:
        branch = api_supervisor(core, listener, version, reloader, logs, registrar)
        tree = supervise(core, [branch.as_child()])
        stopper.reloader = reloader
        stopper.stop_tree = tree.stop

        async def run() -> None:
            """To its end: systemd is kept informed for as long as the tree stops."""
            ready = _Ready(config, version, starting)
            await tree.run(task_status=t.cast("t.Any", ready))
            nursery.cancel_scope.cancel()

        nursery.start_soon(informer.run)
        nursery.start_soon(run)


async def _check_key(config: Config, storage: Storage) -> None:
    """Say it once and clearly when devices were sealed under another key; each connection says it
    for itself, too, and stops, and nothing is changed."""
    closed = []
    for connection in config.connections:
        try:
            await storage.load_records(connection.name, RecordKind.DEVICE, [""])
        except SealError:
            closed.append(connection.name)
    if closed:
        log.error(
            "daemon.wrong_key",
            source=key_source(config.key_file),
            connections=closed,
            advice="the keys of these connections were sealed under another secret key; stop the"
            " daemon and put that key back; only if it is lost for good, pair them again",
        )


class _Ready:
    """Told by the tree that all of it has started."""

    def __init__(self, config: Config, version: str, starting: trio.CancelScope) -> None:
        self._config = config
        self._version = version
        self._starting = starting

    def started(self, _value: object = None) -> None:
        config = self._config
        log.info(
            "daemon.started",
            version=self._version,
            config=str(config.path or "defaults"),
            data_dir=str(config.data_dir),
            control=str(config.control_socket),
            connections=len(config.connections),
        )
        if not config.connections:
            log.warning(
                "daemon.no_connections", advice="add a [[connections]] table, then: zapvisor reload"
            )
        self._starting.cancel()
        notify("READY=1")


@contextlib.asynccontextmanager
async def _open_patiently(
    config: Config, open_storage: OpenStorage, patience: float, waiting: WaitingRoom
) -> cabc.AsyncIterator[Storage]:
    """Storage; a server may take a moment to be there, or die while it starts; meanwhile
    ``waiting`` tells why.

    Raises:
        StartError: it did not come up in time; says which server, and what to do.
    """
    deadline = trio.current_time() + patience
    pause = _PAUSE
    async with contextlib.AsyncExitStack() as stack:
        while True:
            try:
                storage = await stack.enter_async_context(open_storage(config))
            except StorageUnavailableError as error:
                reason = _unreachable(config, error)
                if trio.current_time() + pause > deadline:
                    raise StartError(reason) from error
                log.warning("daemon.waiting_for_database", error=str(error))
                await waiting.tell(f"the daemon waits for its database: {reason}")
                await trio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                break
        await waiting.close()
        yield storage


def _unreachable(config: Config, error: Exception) -> str:
    if config.storage.embedded:
        return f"the embedded PostgreSQL in {config.data_dir} did not start: {error}"
    parts = urllib.parse.urlsplit(config.storage.dsn)
    place = parts.netloc.rpartition("@")[2] or "storage.dsn"
    return (
        f"the database at {place} cannot be reached: {error};"
        " check that it runs and that storage.dsn is right"
    )
