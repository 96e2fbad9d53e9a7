"""``zapvisor install-systemd``: what the service needs, written once, never over a change."""

import collections.abc as cabc
import contextlib
import enum
import os
import re
import secrets
import shutil
import sys
import typing as t
from pathlib import Path

import attrs

from daemon.errors import CommandError, UsageError
from daemon.shipped import shipped

UNIT: t.Final = "deploy/systemd/zapvisor.service"
STATE: t.Final = "/var/lib/zapvisor"
RUNTIME: t.Final = "/run/zapvisor"
HIDDEN: t.Final = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - not written to
"""What the hardening of the unit hides from the service."""

_USER: t.Final = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_TABLE_LINE: t.Final = re.compile(r"\[([a-z0-9_.]+)\]")
_KEY_LINE: t.Final = re.compile(r"([a-z][a-z0-9_]*) = ")


class Fate(enum.Enum):
    """What became of a file."""

    WRITTEN = "written"
    SAME = "same"  # it was there and says the same
    KEPT = "kept"  # it was there and differs: left alone
    REPLACED = "replaced"  # the former one is beside it, as .old


@attrs.frozen(kw_only=True)
class Options:
    """Where and as whom."""

    executable: str  # of the program, absolute
    user: str = "zapvisor"
    config: Path = Path("/etc/zapvisor/supervisor.toml")
    root: Path = Path("/")
    unit_directory: Path = Path("/etc/systemd/system")
    force: bool = False
    dry_run: bool = False

    @property
    def key(self) -> Path:
        """The file of the secret key, which systemd hands to the service."""
        return self.config.parent / "secret.key"

    @property
    def environment(self) -> Path:
        """The file of settings that systemd reads for the service, and the service cannot."""
        return self.config.parent / "environment"


@attrs.frozen(kw_only=True)
class Piece:
    """A file to install."""

    path: Path  # without the root
    text: str = attrs.field(repr=False)
    mode: int = 0o644
    once: bool = False  # belongs to the operator once it is there: no force replaces it
    private: bool = False  # what it says is not compared


@attrs.frozen(kw_only=True)
class Installed:
    """What was done with one file."""

    path: str
    fate: Fate


def install(options: Options) -> list[Installed]:
    """Write what is missing; what is there and differs stays unless ``force`` says otherwise.

    Raises:
        UsageError: an option makes no sense.
        CommandError: a file cannot be written; what was written before it stays.
    """
    _check(options)
    return [
        Installed(path=str(piece.path), fate=_place(options, piece)) for piece in pieces(options)
    ]


def pieces(options: Options) -> list[Piece]:
    """All files, in the order in which they are written."""
    directory = options.config.parent
    return [
        Piece(path=options.unit_directory / "zapvisor.service", text=unit(options)),
        Piece(
            path=Path("/etc/sysusers.d/zapvisor.conf"),
            text=f'u {options.user} - "zapvisor" {STATE}\n',
        ),
        Piece(
            path=Path("/etc/tmpfiles.d/zapvisor.conf"),
            text=f"d {directory} 0755 root root\n"
            f"z {options.config} 0640 root {options.user}\n"
            f"z {options.key} 0600 root root\n"
            f"z {options.environment} 0600 root root\n"
            f"d {STATE} 0700 {options.user} {options.user}\n",
        ),
        Piece(path=options.config, text=sample_config(options), mode=0o640, once=True),
        Piece(
            path=options.key,
            text=secrets.token_hex(32) + "\n",
            mode=0o600,
            once=True,
            private=True,
        ),
        Piece(
            path=options.environment,
            text="# What should be in no file that the daemon can read, in single quotes:\n"
            "# ZAPVISOR_STORAGE_DSN='postgresql://zapvisor:...@db.example/zapvisor'\n",
            mode=0o600,
            once=True,
            private=True,
        ),
    ]


def unit(options: Options) -> str:
    """The unit, for this program, user and configuration."""
    text = shipped(UNIT)
    changes = {
        "ExecStart": f"{_quoted(options.executable)} run --config {_quoted(str(options.config))}",
        "User": options.user,
        "Group": options.user,
        "LoadCredential": f"zapvisor-key:{options.key}",
        "EnvironmentFile": f"-{options.environment}",
    }
    if options.config.parent != Path("/etc/zapvisor"):
        text = re.sub(r"(?m)^ConfigurationDirectory.*\n", "", text)
    for name, value in changes.items():
        line = f"{name}={value}"
        text, count = re.subn(rf"(?m)^{name}=.*$", line.replace("\\", r"\\"), text)
        if count != 1:
            raise CommandError(f"the unit that comes with the program has {count} lines {name}=")
    return text


def _quoted(word: str) -> str:
    """A word of ExecStart=; what systemd would read as something else is escaped."""
    word = word.replace("%", "%%")
    if re.fullmatch(r"[A-Za-z0-9/._%+:@=-]+", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$") + '"'


def sample_config(options: Options) -> str:
    """Every key with its meaning and default, commented out, but for the places of a service.

    So a later version's defaults apply, and the file shows what there is.
    """
    places = {
        ("daemon", "data_dir"): STATE,
        ("storage", "key_file"): str(options.key),
        ("control", "socket"): f"{RUNTIME}/control.sock",
    }
    lines, section = [], ""
    for line in shipped("supervisor.toml").splitlines():
        if (head := _TABLE_LINE.fullmatch(line)) is not None:
            section = head[1]
        if (match := _KEY_LINE.match(line)) is None:
            lines.append(line)
        elif place := places.pop((section, match[1]), None):
            lines.append(f'{match[1]} = "{place}"')
        else:
            lines.append(f"# {line}")
    if places:
        raise CommandError(f"supervisor.toml lacks {sorted(places)}")
    return "\n".join(lines) + "\n"


def find_executable() -> str:
    """The program as it was called, as an absolute path.

    Raises:
        UsageError: it is not installed as a program.
    """
    for found in (sys.argv[0], shutil.which("zapvisor")):
        if found and Path(found).name == "zapvisor" and os.access(found, os.X_OK):
            return str(Path(found).absolute())
    raise UsageError("where is the program? name it: --executable /opt/zapvisor/bin/zapvisor")


def warnings(options: Options) -> list[str]:
    """What will not work as it is."""
    found = []
    for place in (options.executable, str(options.config)):
        hidden = next((each for each in HIDDEN if Path(place).is_relative_to(each)), None)
        if hidden is not None:
            found.append(
                f"{place} lies below {hidden}, which the unit hides from the service:"
                " put it elsewhere, such as /opt/zapvisor"
            )
    return found


def next_steps(options: Options) -> list[str]:
    """The commands that follow, in order."""
    return [
        "systemd-sysusers && systemd-tmpfiles --create",
        f"editor {options.config}    # add a [[connections]] table for each account",
        f"zapvisor config check {options.config}",
        "systemctl daemon-reload && systemctl enable --now zapvisor",
        f"usermod --append --groups {options.user} YOU    # who may use the zapvisor command",
        "zapvisor pair NAME",
    ]


def uninstall_steps(options: Options) -> list[str]:
    """The commands that take it away again; data and key stay until the last one."""
    return [
        "systemctl disable --now zapvisor",
        f"rm {options.unit_directory / 'zapvisor.service'} /etc/sysusers.d/zapvisor.conf"
        " /etc/tmpfiles.d/zapvisor.conf && systemctl daemon-reload",
        f"rm -r {STATE} {options.config.parent}    # every message and the key: no way back",
    ]


def _check(options: Options) -> None:
    if not _USER.fullmatch(options.user):
        raise UsageError(f"--user: {options.user!r} cannot be the name of a user")
    places = (options.config, options.unit_directory, Path(options.executable))
    if not all(place.is_absolute() for place in places):
        raise UsageError("--config, --prefix and --executable have to be absolute paths")
    directory = options.config.parent
    if len(directory.parts) < 3 or directory == Path("/usr/local/etc"):
        raise UsageError(
            f"--config: {directory} is not zapvisor's own, and would get its key, its passwords and"
            " their modes; take a directory for it alone, such as /etc/zapvisor"
        )
    for place in (options.config, options.unit_directory):
        if re.search(r"[\s\\\"'%$]", str(place)):
            raise UsageError(f"{place}: a path with spaces, quotes, % or $ is asking for trouble")


def _place(options: Options, piece: Piece) -> Fate:
    target = options.root / piece.path.relative_to("/")
    try:
        present = target.read_bytes() if target.exists() else None
        if present is not None:
            if piece.private or present == piece.text.encode():
                return Fate.SAME
            if piece.once or not options.force:
                return Fate.KEPT
        if not options.dry_run:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            if present is not None:
                shutil.copy2(target, target.with_name(f"{target.name}.old"))
            _write(target, piece)
    except OSError as error:
        raise CommandError(
            f"{target} cannot be written: {error.strerror};"
            " run this as root, or try it out with --root DIRECTORY"
        ) from error
    return Fate.WRITTEN if present is None else Fate.REPLACED


def _write(target: Path, piece: Piece) -> None:
    """Whole, or not at all."""
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(piece.text.encode())
            file.flush()
            os.fchmod(file.fileno(), piece.mode)
            os.fsync(file.fileno())
        draft.replace(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
        raise


def report(options: Options, done: cabc.Sequence[Installed]) -> dict[str, t.Any]:
    """All of it, for programs."""
    return {
        "files": [{"path": each.path, "fate": each.fate.value} for each in done],
        "dry_run": options.dry_run,
        "warnings": warnings(options),
        "next": next_steps(options),
        "uninstall": uninstall_steps(options),
    }
