"""Makes, changes and deletes connections on order, under all the others.

An order is carried to its end, whoever stops waiting for it; one at a time, and never together
with a reload.
"""

import collections.abc as cabc
import typing as t

import attrs
import structlog
import trio

from actors.assembly import conversation_rules
from actors.errors import UnknownConnectionError
from actors.fleet import Fleet
from actors.forgetting import KeysKeptError, delete_keys
from actors.writer_inbox import Inbox
from api.ports_daemon import SettingsFacts
from api.problems import ProblemError
from config.connections import effective_settings, own_settings, read_connection, written
from config.errors import ConfigError
from config.model import ConnectionConfig
from daemon.made import Made, with_made
from daemon.reload import Reloader
from storage.api import ConnectionRow, Storage
from storage.errors import StorageUnavailableError

DELETED: t.Final = ("deleted", "deleted by an operator; its conversations stay")
WAITING: t.Final = 16  # orders
KEYS_DEADLINE: t.Final = 20.0  # seconds for the keys of a deleted connection to go

log: structlog.stdlib.BoundLogger = structlog.get_logger("daemon")


@attrs.define
class _Order:
    work: cabc.Callable[[], cabc.Awaitable[None]]
    done: trio.Event = attrs.field(factory=trio.Event)
    error: Exception | None = None
    finished: bool = False


class Registrar:
    """See ``api.ports_daemon.RegistrarPort``."""

    def __init__(self, reloader: Reloader, fleet: Fleet, storage: Storage, writer: Inbox) -> None:
        self._reloader = reloader
        self._fleet = fleet
        self._storage = storage
        self._writer = writer
        self._send, self._orders = trio.open_memory_channel[_Order](WAITING)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        task_status.started()
        async for order in self._orders:
            try:
                async with self._reloader.lock:
                    await order.work()
                order.finished = True
            except (ProblemError, StorageUnavailableError) as error:
                order.error = error
            finally:
                order.done.set()

    def settings(self, name: str) -> SettingsFacts:
        """See ``api.ports_daemon.RegistrarPort``."""
        config = self._reloader.config
        own = config.connection(name)
        if own is None:
            raise UnknownConnectionError(name, [each.name for each in config.connections])
        return SettingsFacts(
            origin="api" if self._is_made(name) else "file",
            own=own_settings(own),
            effective=effective_settings(config, name),
        )

    async def create(self, values: cabc.Mapping[str, t.Any]) -> str:
        """See ``api.ports_daemon.RegistrarPort``."""
        connection = _read(values)

        async def work() -> None:
            name = connection.name
            if self._reloader.config.connection(name) is not None:  # else: half made, at most
                detail = f"there is a connection called {name!r} already; choose another name"
                raise ProblemError("connection-exists", 409, detail)
            await self._keep(connection)
            log.info("connection.created", connection=name)

        await self._carry_out(work)
        return connection.name

    async def change(self, name: str, values: cabc.Mapping[str, t.Any]) -> None:
        """See ``api.ports_daemon.RegistrarPort``."""
        if values.get("name", name) != name:
            detail = "name: a connection keeps its name; create another one instead"
            raise ProblemError("bad-connection", 422, detail)

        async def work() -> None:
            if not self._is_made(name):
                raise self._not_made(name, "change it there")
            await self._keep(_read({**written(self._made[name]), **values}))
            log.info("connection.changed", connection=name, keys=sorted(values))

        await self._carry_out(work)

    async def delete(self, name: str, *, force: bool = False) -> None:
        """See ``api.ports_daemon.RegistrarPort``."""

        async def work() -> None:
            if not self._is_made(name):
                raise self._not_made(name, "remove it there")
            rows = {row.name: row for row in await self._storage.connections()}
            if self._linked(name, rows.get(name)) and not force:
                raise _still_linked(name)
            await self._apply({key: own for key, own in self._made.items() if key != name})
            await self._delete_keys(name)
            await self._storage.forget_made(name)
            del self._made[name]
            log.info("connection.deleted", connection=name, forced=force)

        await self._carry_out(work)

    @property
    def _made(self) -> Made:
        return self._reloader.made

    async def _carry_out(self, work: cabc.Callable[[], cabc.Awaitable[None]]) -> None:
        order = _Order(work)
        await self._send.send(order)
        await order.done.wait()
        if order.error is not None:
            raise order.error
        if not order.finished:
            raise ProblemError("internal", 500, "it was cut off; the daemon's log tells more")

    async def _keep(self, connection: ConnectionConfig) -> None:
        """Store the settings, then put them in force."""
        name, made = connection.name, {**self._made, connection.name: connection}
        rules = conversation_rules(with_made(self._reloader.file, made), name)
        await self._storage.ensure_connection(name, rules)
        await self._storage.save_made(name, written(connection))
        self._made[name] = connection
        await self._apply(made)

    async def _apply(self, made: cabc.Mapping[str, ConnectionConfig]) -> None:
        facts = await self._reloader.put(with_made(self._reloader.file, made), removed=DELETED)
        if facts.problems:
            raise StorageUnavailableError("; ".join(facts.problems))

    async def _delete_keys(self, name: str) -> None:
        """What is left of its device: nobody could use it any more."""
        why = "the database did not answer in time"
        with trio.move_on_after(KEYS_DEADLINE):
            try:
                await delete_keys(self._writer, name)
            except KeysKeptError as error:
                why = str(error)
            else:
                return
        raise StorageUnavailableError(
            f"{name} is stopped, but its keys are not deleted: {why}; delete it once more"
        )

    def _is_made(self, name: str) -> bool:
        """Whether it is one of ours; what the file names as well is the file's."""
        return name in self._made and self._reloader.file.connection(name) is None

    def _linked(self, name: str, row: ConnectionRow | None) -> bool:
        """Whether a phone may still have it among its linked devices."""
        if name in self._fleet.names:
            [status] = self._fleet.status(name)
            return status.paired and status.state != "logged_out"
        return row is not None and row.paired and row.state != "logged_out"

    def _not_made(self, name: str, advice: str) -> Exception:
        config = self._reloader.config
        if config.connection(name) is None:
            return ProblemError(
                "unknown-connection", 404, f"no connection is called {name!r}; nothing was done"
            )
        place = config.path or "the environment"
        detail = f"connection {name!r} is from {place}; {advice}, then: zapvisor reload"
        return ProblemError("from-file", 409, detail)


def _read(values: cabc.Mapping[str, t.Any]) -> ConnectionConfig:
    try:
        return read_connection(values)
    except ConfigError as error:
        detail = "\n".join(str(problem).removeprefix("request: ") for problem in error.problems)
        raise ProblemError("bad-connection", 422, detail) from error


def _still_linked(name: str) -> ProblemError:
    return ProblemError(
        "still-linked",
        409,
        f"{name} is linked to a phone, and its keys are deleted only after a confirmed logout:"
        f" first run: zapvisor logout {name}. If that cannot be, delete it by force: then its keys"
        " are gone here, and the phone lists the device until it is removed there",
    )
