"""EmbeddedPostgres: a private PostgreSQL as our child, reached through a unix socket.

Theory of operation. The cluster lives in its *home*: below the data directory, or, when root
runs us and the unprivileged user of the database cannot get there, below ``/var/lib/zapvisor``.
A lock on the data directory and one on the home keep other daemons out, so whatever still works
in the cluster at start is an orphan of a daemon that was killed; it is ended before its pid file
is removed. The cluster is made aside and renamed into place, so it exists whole or not at all.
Only cluster and sockets belong to the database's user; the home itself stays ours.
"""

import collections.abc as cabc
import contextlib
import hashlib
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import tempfile
import typing as t
import urllib.parse

import structlog
import trio

from storage.accounts import Account, current_account, owner, reachable, unprivileged_account
from storage.binaries import Binaries, find_binaries, readable_copy
from storage.errors import StorageRejectedError, StorageUnavailableError
from storage.lock import DirectoryLock
from storage.processes import end, end_orphans, spawn, wait_exit
from storage.trust import is_ours

_log = structlog.get_logger()

STATE_ROOT: t.Final = pathlib.Path("/var/lib/zapvisor")
SUPERUSER: t.Final = "zapvisor"
DATABASE: t.Final = "postgres"

_PORT: t.Final = 5432  # names the socket; nothing listens on TCP
_SOCKET_LIMIT: t.Final = 103  # bytes of a socket's path on every system
_READY_INTERVAL: t.Final = 0.01  # seconds between looks at the pid file
_LOG_LIMIT: t.Final = 4 * 1024 * 1024  # bytes; a longer log is put aside at start
_LOCATION: t.Final = "postgres.location"

# No statement or value may reach the log: they hold messages.
_SETTINGS: t.Final[cabc.Mapping[str, str]] = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "50",
    "autovacuum_naptime": "10s",  # a new database gets its statistics soon
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_statement": "none",
}


class EmbeddedPostgres:
    """``async with EmbeddedPostgres(data_dir) as server``: then ``server.dsn`` answers.

    Start it in a task on the thread that lives longest, the main one: on Linux the database
    stops when that thread ends. ``temporary`` clusters are deleted at the end. Not ``durable``:
    a crash of the machine may ruin the cluster, one of the server may not; for tests, whose many
    databases have some hundred files each, which every checkpoint would force to the disk.
    """

    def __init__(
        self,
        data_dir: pathlib.Path,
        *,
        start_timeout: float = 120.0,  # seconds, crash recovery included
        stop_timeout: float = 15.0,  # seconds for a clean end
        temporary: bool = False,
        durable: bool = True,
        at_least: int = 0,  # major version of a new cluster
        state_root: pathlib.Path = STATE_ROOT,
    ) -> None:
        self._data_dir = data_dir.absolute()
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._temporary = temporary
        self._durable = durable
        self._at_least = at_least
        self._state_root = state_root
        self._locks = contextlib.ExitStack()
        self._held = False  # the home is ours
        self._process: subprocess.Popen[bytes] | None = None
        self._account: Account | None = None
        self._home = self._data_dir / "postgres"
        self._sockets = self._home / "run"
        self._binaries: Binaries | None = None

    async def __aenter__(self) -> t.Self:
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.stop()

    @property
    def dsn(self) -> str:
        """The address for a client, which must run as the same user or as root."""
        return self.dsn_of(SUPERUSER)

    def dsn_of(self, role: str) -> str:
        """The same as another role of the database."""
        return _dsn(self._sockets, role)

    @property
    def pid(self) -> int | None:
        """The server's process id while it should be running."""
        return None if self._process is None else self._process.pid

    @property
    def home(self) -> pathlib.Path:
        """Where cluster, sockets and log are."""
        return self._home

    async def start(self) -> None:
        """Take the data directory, make the cluster if there is none, and wait for the server.

        Raises:
            StorageLockedError: another daemon has the data directory.
            StorageRejectedError: no usable programs, user or directory.
            StorageUnavailableError: the server does not start.
        """
        try:
            self._take_directories()
            await self._find_binaries()
            if not (self._cluster / "PG_VERSION").exists():
                await self._create_cluster()
            await self.launch()
        except BaseException:
            if self._temporary and self._held:
                self._delete()
            self._locks.close()
            raise

    async def launch(self) -> None:
        """Start the server on the cluster and wait until it is ready; again after it died.

        Raises:
            StorageUnavailableError: it ended at once, or is not ready in time.
        """
        await self._clear_orphans(self._cluster)
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)
        for leftover in self._sockets.glob(".s.PGSQL.*"):
            leftover.unlink()
        settings = {**_SETTINGS, "unix_socket_directories": str(self._sockets)}
        if not self._durable:
            settings["fsync"] = "off"
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log_file() as log:
            self._process = self._spawn(
                log, signal.SIGINT, "postgres", "-D", str(self._cluster), *options
            )
        try:
            with trio.fail_after(self._start_timeout):
                await self._wait_ready(self._process)
        except trio.TooSlowError:
            await self._end_server()
            raise StorageUnavailableError(
                f"the embedded PostgreSQL was not ready within {self._start_timeout:g} s"
            ) from None
        except BaseException:
            await self._end_server()
            raise
        _log.info("storage.postgres_started", pid=self._process.pid, home=str(self._home))

    async def wait_died(self) -> int:
        """Wait until the server ends without having been stopped; its exit status."""
        if self._process is None:
            raise StorageUnavailableError("the embedded PostgreSQL is not running")
        return await wait_exit(self._process)

    async def stop(self) -> None:
        """End the server cleanly within the timeout, else at once, and give the directory back.

        Not cancelled: it takes a little more than the timeout at most.
        """
        try:
            await self._end_server()
        finally:
            if self._temporary:
                self._delete()
            self._locks.close()

    async def discard(self) -> None:
        """Delete what a temporary cluster of before has left, whose owner was killed.

        Raises:
            StorageLockedError: it has an owner.
            StorageUnavailableError: its processes do not end.
        """
        try:
            self._take_directories()
            for cluster in (self._cluster, self._draft):
                await self._clear_orphans(cluster)
            self._delete()
            if self._sockets.parent != self._home:
                shutil.rmtree(self._sockets, ignore_errors=True)
        finally:
            self._locks.close()

    def _delete(self) -> None:
        shutil.rmtree(self._home, ignore_errors=True)
        (self._data_dir / _LOCATION).unlink(missing_ok=True)

    @property
    def _cluster(self) -> pathlib.Path:
        return self._home / "data"

    @property
    def _draft(self) -> pathlib.Path:
        return self._home / "data.new"

    def _take_directories(self) -> None:
        self._data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._locks.enter_context(DirectoryLock(self._data_dir))
        self._account = current_account() if os.geteuid() else unprivileged_account()
        self._home = self._choose_home(self._account)
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700 if os.geteuid() else 0o711)
        if (self._cluster / "PG_VERSION").exists() and os.geteuid() == 0:
            self._account = owner(self._cluster)
            if self._account.uid == 0:
                raise StorageRejectedError(f"{self._cluster} belongs to root")
        self._locks.enter_context(DirectoryLock(self._home))
        self._held = True
        self._sockets = self._choose_sockets()

    def _choose_home(self, account: Account) -> pathlib.Path:
        below = self._data_dir / "postgres"
        if os.geteuid() != 0:
            return below
        moved = _moved(self._data_dir, self._state_root)
        if self._temporary:  # its home is deleted in the end: never one that a file names
            told = moved if _told(self._data_dir) == moved else None
        else:
            told = _location(self._data_dir, moved)
        if told is None and reachable(self._data_dir, account):
            return below
        if told is not None and told != moved:
            return told
        home = self._shelf() / moved.name
        if told is not None:
            return home
        pointer = self._data_dir / _LOCATION
        pointer.unlink(missing_ok=True)
        pointer.write_text(f"{home}\n", encoding="utf-8")
        _log.warning(
            "storage.cluster_moved",
            reason=f"PostgreSQL runs as {account.name}, who cannot reach {self._data_dir}",
            home=str(home),
        )
        return home

    def _shelf(self) -> pathlib.Path:
        """The directory beside the data directory's owner that only root may change."""
        try:
            self._state_root.mkdir(parents=True, exist_ok=True, mode=0o755)
            status = self._state_root.stat()
        except OSError as error:
            raise StorageRejectedError(f"cannot make {self._state_root}: {error}") from error
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise StorageRejectedError(f"others than root may change {self._state_root}")
        return self._state_root

    def _choose_sockets(self) -> pathlib.Path:
        sockets = self._home / "run"
        if len(os.fsencode(sockets / f".s.PGSQL.{_PORT}")) > _SOCKET_LIMIT:
            base = os.environ.get("XDG_RUNTIME_DIR") if os.geteuid() else "/run"
            name = hashlib.sha256(os.fsencode(self._home)).hexdigest()[:16]
            sockets = pathlib.Path(base or tempfile.gettempdir(), f"zapvisor-{name}")
        self._make_private(sockets)
        return sockets

    @property
    def _user(self) -> Account:
        if self._account is None:
            raise StorageUnavailableError("the embedded PostgreSQL has not been started")
        return self._account

    def _make_private(self, directory: pathlib.Path) -> None:
        """Make a directory that only the database's user may enter, or check the one there is."""
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            if os.geteuid() == 0:
                os.chown(directory, self._user.uid, self._user.gid, follow_symlinks=False)
        status = directory.lstat()
        private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
        if not private or status.st_uid != self._user.uid:
            raise StorageRejectedError(f"{directory} must belong to {self._user.name} alone")

    async def _find_binaries(self) -> None:
        version = self._cluster / "PG_VERSION"
        major = int(version.read_text(encoding="ascii")) if version.exists() else None
        at_least = self._at_least if major is None else 0
        binaries = await trio.to_thread.run_sync(find_binaries, major, at_least)
        if os.geteuid() == 0 and not reachable(binaries.directory / "postgres", self._user):
            shelf = self._shelf()
            binaries = await trio.to_thread.run_sync(readable_copy, binaries, self._user, shelf)
        self._binaries = binaries

    async def _create_cluster(self) -> None:
        draft = self._draft
        await self._clear_orphans(draft)
        shutil.rmtree(draft, ignore_errors=True)
        self._make_private(draft)
        major = 0 if self._binaries is None else self._binaries.major
        locale = (
            ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
            if major >= 17
            else ("--locale=C.UTF-8",)
        )
        access = ("--auth-local=trust", "--auth-host=reject")  # the sockets' directory is private
        sync = () if self._durable else ("--no-sync",)
        options = ("-U", SUPERUSER, "-E", "UTF8", "--data-checksums", *sync, *access, *locale)
        with self._log_file() as log:
            process = self._spawn(log, signal.SIGKILL, "initdb", "-D", str(draft), *options)
        try:
            with trio.fail_after(self._start_timeout):
                status = await wait_exit(process)
        except BaseException:
            with trio.CancelScope(shield=True):
                await end(process, ())
            raise
        if status != 0:
            raise StorageUnavailableError(f"initdb failed ({status}): {self._log_tail()}")
        draft.rename(self._cluster)
        _sync_directory(self._home)
        _log.info("storage.cluster_created", home=str(self._home), version=major)

    async def _clear_orphans(self, cluster: pathlib.Path) -> None:
        leader = _postmaster(cluster)
        if not await end_orphans(cluster, leader, self._stop_timeout):
            raise StorageUnavailableError(f"processes of an earlier run still work in {cluster}")

    async def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        while not _is_ready(self._cluster, process.pid):
            if (status := process.poll()) is not None:
                self._process = None
                raise StorageUnavailableError(
                    f"the embedded PostgreSQL did not start ({status}): {self._log_tail()}"
                )
            await trio.sleep(_READY_INTERVAL)

    async def _end_server(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        steps = [(signal.SIGINT, self._stop_timeout), (signal.SIGQUIT, 5.0)]
        with trio.CancelScope(shield=True):  # what is deleted anyway need not be written first
            status = await end(process, steps[1:] if self._temporary else steps)
        _log.info("storage.postgres_stopped", status=status)

    def _spawn(
        self, log: int, death_signal: signal.Signals, program: str, *options: str
    ) -> subprocess.Popen[bytes]:
        if self._binaries is None:
            raise StorageUnavailableError("the embedded PostgreSQL has not been started")
        command = [str(self._binaries.directory / program), *options]
        try:
            return spawn(command, account=self._user, log=log, death_signal=death_signal)
        except (OSError, subprocess.SubprocessError) as error:
            raise StorageUnavailableError(f"cannot run {command[0]}: {error}") from error

    @contextlib.contextmanager
    def _log_file(self) -> cabc.Iterator[int]:
        path = self._home / "postgres.log"
        if path.exists() and path.stat().st_size > _LOG_LIMIT:
            path.replace(path.with_suffix(".log.1"))
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _log_tail(self) -> str:
        lines = (self._home / "postgres.log").read_text("utf-8", "replace").splitlines()
        return " / ".join(line.strip() for line in lines[-5:])


def cluster_of(data_dir: pathlib.Path) -> pathlib.Path:
    """Where the cluster of a data directory is, or will be unless root starts it first."""
    home = _location(data_dir, _moved(data_dir.absolute(), STATE_ROOT))
    return (data_dir / "postgres" if home is None else home) / "data"


def _moved(data_dir: pathlib.Path, state_root: pathlib.Path) -> pathlib.Path:
    """The home of a cluster that cannot be below its data directory."""
    return state_root / hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]


def _told(data_dir: pathlib.Path) -> pathlib.Path | None:
    """The home that the data directory says the cluster has, whoever wrote that."""
    try:
        return pathlib.Path((data_dir / _LOCATION).read_text("utf-8", "replace").strip())
    except (FileNotFoundError, NotADirectoryError):
        return None


def _location(data_dir: pathlib.Path, usual: pathlib.Path) -> pathlib.Path | None:
    """The same, if only we, or root, can have written it, or if it is the one we would choose.

    Raises:
        StorageRejectedError: it may be somebody else's word.
    """
    told = _told(data_dir)
    if told in (None, usual) or (
        is_ours(data_dir.stat()) and is_ours((data_dir / _LOCATION).lstat())
    ):
        return told
    raise StorageRejectedError(
        f"others may have written {data_dir / _LOCATION}, which says where the database is; if it"
        " is right, give it and its directory to the user who runs the daemon, and let nobody else"
        " write them (chown, chmod go-w); else delete it"
    )


def running_dsn(data_dir: pathlib.Path) -> str | None:
    """The address of the server that works on the cluster of a data directory now, whoever
    started it; None: none is ready."""
    lines = _pid_file(cluster_of(data_dir))
    if len(lines) < 8 or lines[7] != "ready" or not lines[4]:
        return None
    return _dsn(pathlib.Path(lines[4]))


def _dsn(sockets: pathlib.Path, role: str = SUPERUSER) -> str:
    host = urllib.parse.quote(str(sockets), safe="")
    return f"postgresql://{role}@/{DATABASE}?host={host}&port={_PORT}"


def _postmaster(cluster: pathlib.Path) -> int | None:
    first, *_rest = [*_pid_file(cluster), ""]
    return int(first) if first.isdigit() else None


def _is_ready(cluster: pathlib.Path, pid: int) -> bool:
    """Line 8 of the pid file is the state; the first says whose it is."""
    lines = _pid_file(cluster)
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7] == "ready"


def _pid_file(cluster: pathlib.Path) -> list[str]:
    try:
        text = (cluster / "postmaster.pid").read_text("utf-8", "replace")
    except FileNotFoundError:
        return []
    return [line.strip() for line in text.splitlines()]


def _sync_directory(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
