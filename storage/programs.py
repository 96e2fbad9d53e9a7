"""PostgreSQL's own programs as children: pg_dump, pg_restore, psql.

The password of the database goes to them in their environment, never on the command line, where
every user of the machine could read it.
"""

import collections.abc as cabc
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import typing as t

import attrs
import trio

from storage.binaries import INSTALLED, carried
from storage.errors import StorageRejectedError, StorageUnavailableError
from storage.hosts import split_password
from storage.processes import die_with_parent, end, wait_exit
from storage.sqlstates import hide_values, quotes_values

STRICT: t.Final = 17
"""pg_restore from this version on says what older servers do not understand."""

_VERSION: t.Final = re.compile(r"\(PostgreSQL\) (\d+)")
_PASSED: t.Final = ("HOME", "PATH", "USER", "LOGNAME", "TMPDIR")
_SECONDS: t.Final = 5.0  # for a child to end when it is asked to
_STATE: t.Final = re.compile(r"ERROR:\s+([0-9A-Z]{5}): ")
_NOISE: t.Final = (
    *("DETAIL:", "CONTEXT:", "HINT:", "QUERY:", "STATEMENT:", "LOCATION:", "SCHEMA NAME:"),
    *("TABLE NAME:", "COLUMN NAME:", "DATATYPE NAME:", "CONSTRAINT NAME:", "LINE "),
)
"""Lines of an error that may repeat what messages say."""


@attrs.frozen
class Programs:
    """One set of client programs."""

    directory: pathlib.Path
    major: int

    def start(
        self,
        program: str,
        *arguments: str,
        dsn: str | None = None,
        stdin: int | t.IO[bytes] = subprocess.DEVNULL,
        stdout: int | t.IO[bytes] = subprocess.DEVNULL,
    ) -> "Running":
        """Run a program; it ends with us.

        Raises:
            StorageUnavailableError: it cannot be run.
        """
        command = [str(self.directory / program), *arguments]
        environment = {key: os.environ[key] for key in _PASSED if key in os.environ}
        environment |= {"LC_ALL": "C", "TZ": "UTC", "PGCONNECT_TIMEOUT": "10"}
        if dsn is not None:
            environment |= {key: os.environ[key] for key in os.environ if key.startswith("PG")}
            shown, password = split_password(dsn)
            command.append(f"--dbname={shown}")
            if password is not None:
                environment["PGPASSWORD"] = password
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        try:
            process = subprocess.Popen(  # noqa: S603 - a program we found ourselves
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=errors,
                cwd="/",
                env=environment,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise StorageUnavailableError(f"cannot run {command[0]}: {error}") from error
        return Running(program, process, errors)


@attrs.frozen
class Running:
    """A program that runs; to be used as a context, and waited for or stopped within it."""

    name: str
    process: subprocess.Popen[bytes]
    _errors: t.IO[bytes] = attrs.field(repr=False)

    def __enter__(self) -> t.Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._errors.close()

    async def wait(self) -> int:
        """Its exit status; cancelled, it is ended."""
        try:
            return await wait_exit(self.process)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End it, if it has not ended."""
        with trio.CancelScope(shield=True):
            if self.process.poll() is None:
                await end(self.process, [(signal.SIGTERM, _SECONDS)])

    def complaint(self) -> str:
        """What it says went wrong, in a line, without what may repeat a message."""
        self._errors.seek(0)
        text = self._errors.read(64 * 1024).decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines()]
        told = [line for line in lines if line and not line.startswith(_NOISE)]
        errors = [line for line in told if "error:" in line or "ERROR:" in line]
        line = (errors or told or [f"it ended with status {self.process.poll()}"])[0]
        return _without_value(line)[:500]


def _without_value(line: str) -> str:
    """The line of an error that is about a value, without the value, which may go on in lines
    that are not shown."""
    found = _STATE.search(line)
    if found is None or not quotes_values(found[1]) or not re.search("[\"']", line):
        return line
    return hide_values(f'{line}"')


def find_programs(server: int, *, restoring: bool = False) -> Programs:
    """Programs for a server of this major version: its own, else the next newer ones.

    Raises:
        StorageRejectedError: none here can do it; says what to install.
    """
    found = installed_programs()
    fitting = sorted((each for each in found if each.major >= server), key=lambda each: each.major)
    if restoring:
        fitting = [each for each in fitting if each.major == server or server >= STRICT]
    if fitting:
        return fitting[0]
    have = ", ".join(sorted({str(each.major) for each in found})) or "none"
    what = "psql and pg_restore" if restoring else "pg_dump"
    raise StorageRejectedError(
        f"the server is PostgreSQL {server}, for which no {what} is here (found: {have});"
        f" install that version's client programs, such as postgresql-client-{server}"
    )


def installed_programs() -> list[Programs]:
    """All sets of client programs, those of the wheel first."""
    places = [directory for directory in carried() if (directory / "pg_dump").exists()]
    places += sorted(each.parent for each in INSTALLED.glob("*/bin/pg_dump"))
    if (program := shutil.which("pg_dump")) is not None:
        places.append(pathlib.Path(program).resolve().parent)
    found: dict[pathlib.Path, Programs] = {}
    for place in places:
        if place not in found and (major := _major(place / "pg_dump")) is not None:
            found[place] = Programs(place, major)
    return list(found.values())


def refuses_commands(programs: Programs) -> bool:
    """Whether what pg_restore writes for psql is SQL to it and no more: older ones let commands
    through that the archive holds (CVE-2025-8714), and psql runs them as us."""
    try:
        answer = subprocess.run(  # noqa: S603 - a program we found ourselves
            [programs.directory / "pg_restore", "--help"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return "--restrict-key" in answer.stdout


def _major(program: pathlib.Path) -> int | None:
    try:
        answer = subprocess.run(  # noqa: S603 - a program we found ourselves
            [program, "--version"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None  # Debian's wrapper without any client behind it, say
    match = _VERSION.search(answer.stdout)
    return int(match[1]) if match else None


def quiet_psql() -> cabc.Sequence[str]:
    """Options with which psql stops at the first error, and says its SQLSTATE: by that we know
    whether the error repeats data."""
    variables = ("ON_ERROR_STOP=1", "VERBOSITY=verbose", "SHOW_CONTEXT=never")
    return ("-X", "-q", "-o", os.devnull, *(f"--set={each}" for each in variables))
