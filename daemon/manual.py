"""The manual page, made from the commands themselves; ``scripts/make_man.py`` writes it."""

import collections.abc as cabc
import inspect
import re
import textwrap
import typing as t

from cyclopts import App

REVISED: t.Final = "November 27, 2026"  # of the page as a whole
WIDTH: t.Final = 70  # characters of a line of the source, before what is escaped
COMMON: t.Final = ("--json", "--config", "--help", "--version")
"""Options of (nearly) every command, told once."""

_HEAD: t.Final = """\
.\\" Made by scripts/make_man.py from the commands: do not edit.
.Dd {revised}
.Dt ZAPVISOR 1
.Os
.Sh NAME
.Nm zapvisor
.Nd keep WhatsApp connections alive and store every message exactly once
.Sh SYNOPSIS
.Nm
.Ar command
.Op Ar subcommand
.Op Ar argument ...
.Op Fl -json
.Op Fl -config Ar FILE
.Sh DESCRIPTION
.Nm
links WhatsApp accounts as companion devices, keeps their connections alive,
and stores every message exactly once in PostgreSQL.
.Nm
.Cm run
is the daemon; the other commands ask it over its control socket, unless they
say otherwise.
.Pp
These options are common to the commands:
.Bl -tag -width Ds
.It Fl -json
Print JSON, for programs.
.It Fl c , -config Ar FILE
The configuration file; by default
.Ev ZAPVISOR_CONFIG ,
.Pa ./supervisor.toml
or
.Pa /etc/zapvisor/supervisor.toml ,
the first that there is, or none at all.
.It Fl h , -help
What a command takes.
.It Fl -version
The version.
.El
.Sh COMMANDS
.Bl -tag -width Ds
"""

_TAIL: t.Final = """\
.El
.Sh ENVIRONMENT
.Bl -tag -width Ds
.It Ev ZAPVISOR_CONFIG
The configuration file.
.It Ev ZAPVISOR_SECRET_KEY
The key that seals credentials in the database, in hexadecimal digits or base64,
for those who keep it in no file.
.It Ev ZAPVISOR_CONNECTIONS
Names of connections with commas between; replaces the list of the
configuration.
.It Ev ZAPVISOR_SECTION_KEY
Any key of the configuration, such as
.Ev ZAPVISOR_STORAGE_DSN .
.It Ev CREDENTIALS_DIRECTORY
Where systemd puts the key, as
.Pa zapvisor-key .
.El
.Sh FILES
.Bl -tag -width Ds
.It Pa /etc/zapvisor/supervisor.toml
The configuration.
.It Pa /etc/zapvisor/secret.key
The key of a service that
.Nm
.Cm install-systemd
made.
Keep a copy: without it every connection has to be paired again.
.It Pa /var/lib/zapvisor
The data of that service: the embedded database and the files of messages.
.It Pa /run/zapvisor/control.sock
Its control socket.
.El
.Sh EXIT STATUS
.Bl -tag -width Ds
.It 0
It is done; of
.Cm health
and
.Cm upgrade-check :
all is well.
.It 1
It was refused, or failed; nobody answered; of
.Cm health
and
.Cm upgrade-check :
something wants to be looked at.
.It 2
The command line or the configuration is wrong; of
.Cm health :
failing, or no daemon; of
.Cm upgrade-check :
this version would not run.
.El
.Sh EXAMPLES
Link an account, and look after it:
.Bd -literal -offset indent
zapvisor pair sales
zapvisor status
zapvisor health || echo "look at it"
.Ed
"""


def manual(app: App) -> str:
    """The page, in mdoc(7)."""
    parts = [_HEAD.format(revised=REVISED)]
    for path, command in commands(app):
        parts.append(_command(path, command))
    parts.append(_TAIL)
    return "".join(parts)


def commands(app: App, path: tuple[str, ...] = ()) -> cabc.Iterator[tuple[tuple[str, ...], App]]:
    """Every command that does something, by its words, in the order of the alphabet."""
    names = sorted(name for name in app if not name.startswith(("-", "_")))
    for name in names:
        command = app[name]
        if command.default_command is not None:
            yield (*path, name), command
        yield from commands(command, (*path, name))


def _command(path: tuple[str, ...], command: App) -> str:
    arguments = [each for each in command.assemble_argument_collection() if each.show]
    own = [each for each in arguments if each.names[0] not in COMMON]
    words = [f"Cm {_escaped(' '.join(path))}", *(_in_synopsis(each) for each in own)]
    lines = [".It " + " ".join(words), *_sentences(_summary(command))]
    if told := [each for each in own if each.parameter.help]:
        lines.append(".Bl -tag -width Ds")
        for each in told:
            lines += [f".It {_names(each)}", *_sentences(f"{each.parameter.help}{_default(each)}")]
        lines.append(".El")
    return "\n".join(lines) + "\n"


def _in_synopsis(argument: t.Any) -> str:
    many = " ..." if argument.field_info.kind is inspect.Parameter.VAR_POSITIONAL else ""
    text = _names(argument, first_only=True) + many
    return text if argument.required else f"Oo {text} Oc"


def _names(argument: t.Any, *, first_only: bool = False) -> str:
    if not argument.names[0].startswith("-"):
        return f"Ar {_escaped(argument.names[0])}"
    names = argument.names[:1] if first_only else sorted(argument.names, key=len)
    names = [name for name in names if not name.startswith("--no-")]
    text = " , ".join(f"Fl {_escaped(name[1:])}" for name in names)
    if argument.hint is bool:
        return text
    return f"{text} Ar {_value_name(argument)}"


def _value_name(argument: t.Any) -> str:
    choices = argument.get_choices() or ()
    if choices:
        return _escaped("|".join(choices))
    return _escaped(argument.names[0].lstrip("-").upper())


def _default(argument: t.Any) -> str:
    value = argument.field_info.default
    if value in (inspect.Parameter.empty, None, False, True, ""):
        return ""
    return f" By default {value}."


def _summary(command: App) -> str:
    """What the command's own text says, without the part on its parameters."""
    return re.split(r"\n\s*Parameters\s*\n\s*-+", command.help or "")[0]


def _sentences(text: str) -> cabc.Iterator[str]:
    """One line for each sentence, as mdoc wants it, and paragraphs between blank lines."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        if number:
            yield ".Pp"
        joined = " ".join(paragraph.split())
        joined = re.sub(r"``?([^`]+)``?", r"\1", joined)
        for sentence in re.split(r"(?<=[.!?])\s+(?=[^a-z\s])", joined):
            yield from map(_line, textwrap.wrap(sentence, WIDTH, break_on_hyphens=False))


def _line(text: str) -> str:
    text = _escaped(text)
    return f"\\&{text}" if text.startswith((".", "'")) else text


def _escaped(text: str) -> str:
    """Text that means only itself: ASCII, and no macro's escape."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    for sign, escape in (("…", "..."), ("–", "\\(en"), ("→", "\\(->"), ("’", "'")):
        text = text.replace(sign, escape)
    return text
