"""Backs a database up and puts it back: all of its schema, as of one moment, or nothing."""

import contextlib
import os
import pathlib
import subprocess
import typing as t

import attrs
import trio

from storage.backup_file import Manifest, read_manifest, verify
from storage.digests import digest_tables
from storage.errors import (
    NoRoomError,
    StorageError,
    StorageRejectedError,
    StorageUnavailableError,
)
from storage.key_age import Age, key_facts, marking
from storage.maintenance import Maintenance
from storage.migrate import load_migrations
from storage.programs import Programs, find_programs, quiet_psql, refuses_commands
from storage.queries import SQL

SCHEMA: t.Final = "public"
"""What is backed up and put back; what others have in schemas of their own is none of ours."""
LOCK_WAIT: t.Final = "60s"  # for a table that a migration holds


@attrs.frozen(kw_only=True)
class Contents:
    """What is in a database that a backup would replace."""

    tables: int
    ours: bool
    connections: int = 0
    paired: int = 0
    messages: int = 0
    quarantined: int = 0
    tokens: int = 0
    made: int = 0  # connections that were made through the API

    @property
    def worthless(self) -> bool:
        """Nothing would be lost with it: nobody was paired, nothing was stored or made."""
        kept = (self.paired, self.messages, self.quarantined, self.tokens, self.made)
        return self.tables == 0 or (self.ours and not any(kept))

    def __str__(self) -> str:
        more = {
            "messages in quarantine": self.quarantined,
            "API tokens": self.tokens,
            "connections made through the API": self.made,
        }
        return ", ".join(
            [
                f"{self.messages:,} messages of {self.connections} connections",
                *(f"{count:,} {what}" for what, count in more.items() if count),
            ]
        )


async def back_up(
    session: Maintenance,
    file: t.IO[bytes],
    *,
    version: str,
    created_at: str,
    key: str | None,
) -> Manifest:
    """Write the whole schema to a file, as of one moment; others may go on writing meanwhile.

    ``key`` is the fingerprint of the key that the credentials in it are sealed with, ``version``
    this program's. The manifest is for the caller to put behind it.

    Raises:
        StorageRejectedError: no pg_dump here can read that server; or there is nothing of ours,
            or not in the schema public.
        StorageUnavailableError: the database or the disk fails.
    """
    facts = await session.fetch_one("database_facts")
    if not facts["ours"]:
        raise StorageRejectedError("this database holds nothing of zapvisor; there is no backup")
    await _check_schema(session)
    programs = await trio.to_thread.run_sync(find_programs, facts["server_major"])
    async with session.frozen():
        snapshot = (await session.fetch_one("export_snapshot"))["snapshot"]
        with programs.start(
            "pg_dump",
            "--format=custom",
            "--no-owner",
            "--no-privileges",
            f"--schema={SCHEMA}",
            f"--snapshot={snapshot}",
            f"--lock-wait-timeout={LOCK_WAIT}",
            dsn=session.host.dsn,
            stdout=file,
        ) as running:
            try:
                found = await digest_tables(session)
                keys = await key_facts(session)
                applied = await session.fetch("applied_migrations")
                status = await running.wait()
            except BaseException:
                await running.stop()
                raise
            if status != 0:
                raise _failed(running.complaint())
    return Manifest(
        version=version,
        created_at=created_at,
        schema=max(row["number"] for row in applied),
        server=facts["server_version"],
        program=programs.major,
        rows={name: each.rows for name, each in found.items()},
        key=key,
        digests={name: each.digest for name, each in found.items()},
        database_bytes=facts["bytes"],
        database=keys.database,
        epoch=keys.epoch,
        keys_at=None if keys.keys_at is None else keys.keys_at.isoformat(),
        live=keys.live,
    )


async def _check_schema(session: Maintenance) -> None:
    [[schema]] = await session.run("SELECT current_schema()")
    if schema != SCHEMA:
        raise StorageRejectedError(
            f"the tables of this user are in the schema {schema}; only {SCHEMA} is backed up and"
            " put back"
        )


def _failed(complaint: str) -> StorageUnavailableError:
    full = "No space left" in complaint or "File too large" in complaint
    kind = NoRoomError if full else StorageUnavailableError
    return kind(f"the backup failed, and nothing was kept: {complaint}")


async def contents(session: Maintenance) -> Contents:
    """What is there now."""
    facts = await session.fetch_one("database_facts")
    if not facts["ours"]:
        return Contents(tables=facts["tables"], ours=False)
    worth = await session.fetch_one("worth_keeping")
    return Contents(
        tables=facts["tables"],
        ours=True,
        connections=worth["connections"],
        paired=worth["paired"],
        messages=worth["messages"],
        quarantined=worth["quarantined"],
        tokens=await _rows(session, "count_tokens") if worth["may_have_tokens"] else 0,
        made=await _rows(session, "count_made") if worth["may_have_made"] else 0,
    )


async def _rows(session: Maintenance, query: str) -> int:
    return int((await session.fetch_one(query))["rows"])


def check_backup(path: pathlib.Path) -> Manifest:
    """A backup that is whole, and that this version can use.

    Raises:
        StorageRejectedError: it is not.
    """
    manifest = read_manifest(path)
    newest = len(load_migrations())
    if manifest.schema > newest:
        raise StorageRejectedError(
            f"{path} has schema {manifest.schema}, this version of zapvisor knows only up to"
            f" {newest}: restore it with zapvisor {manifest.version} or newer"
        )
    verify(path, manifest)
    return manifest


async def put_back(
    session: Maintenance, archive: t.IO[bytes], manifest: Manifest, age: Age | None = None
) -> None:
    """Replace all that the schema holds by the backup, in one transaction, which commits only
    if every table has as many rows as the manifest says. ``archive`` is the open file; ``age``
    of its keys is recorded in the same transaction.

    Whoever calls keeps daemons out meanwhile.

    Raises:
        StorageRejectedError: no program here can do it, or the backup does not fit; nothing was
            changed.
        StorageUnavailableError: the database fails; nothing was changed, unless it failed just
            when it was to commit.
    """
    facts = await session.fetch_one("database_facts")
    programs = await trio.to_thread.run_sync(
        lambda: find_programs(facts["server_major"], restoring=True)
    )
    if programs.major < manifest.program:
        raise StorageRejectedError(
            f"the backup was written by pg_dump {manifest.program}; the pg_restore for this server,"
            f" {programs.major}, cannot read it: restore into PostgreSQL {manifest.program} or"
            " newer"
        )
    if not await trio.to_thread.run_sync(refuses_commands, programs):
        raise StorageRejectedError(
            f"the pg_restore in {programs.directory} is too old: it would run commands that a"
            f" backup holds; update it (postgresql-client-{programs.major})"
        )
    await _check_schema(session)
    ending = "" if age is None else marking(age)
    checks = f"{_checks(manifest)}\n{ending}"
    await _stream(programs, session.host.dsn, archive, checks)
    with contextlib.suppress(StorageError):  # all is back; the server does it by itself, later
        await session.run("ANALYZE")


async def _stream(programs: Programs, dsn: str, archive: t.IO[bytes], checks: str) -> None:
    """pg_restore writes the statements straight to psql, between our BEGIN and COMMIT. Without
    the COMMIT, which comes last and only if all went well, nothing has happened."""
    with programs.start("psql", *quiet_psql(), dsn=dsn, stdin=subprocess.PIPE) as psql:
        pipe = psql.process.stdin
        if pipe is None:
            raise AssertionError("a pipe was asked for")
        try:
            complaint = await _feed(programs, pipe, archive, checks)
        except BrokenPipeError:
            complaint = "psql ended early"
        except BaseException:
            await psql.stop()
            raise
        finally:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        if await psql.wait() != 0:
            complaint = psql.complaint()
        if complaint is not None:
            raise StorageUnavailableError(f"nothing was changed: {complaint}")


async def _feed(
    programs: Programs, pipe: t.IO[bytes], archive: t.IO[bytes], checks: str
) -> str | None:
    """All statements; what went wrong instead, if there is no COMMIT at their end."""
    clear = (SQL / "clear.sql").read_text(encoding="utf-8")
    await _write(pipe, f"BEGIN;\nSET LOCAL lock_timeout = '{LOCK_WAIT}';\n{clear}\n")
    os.lseek(archive.fileno(), 0, os.SEEK_SET)
    options = (
        "--no-owner",
        "--no-privileges",
        f"--schema={SCHEMA}",  # a backup by hand may hold more
        "--exit-on-error",
        "--file=-",
    )
    with programs.start("pg_restore", *options, stdin=archive, stdout=pipe) as restore:
        if await restore.wait() != 0:
            return restore.complaint()
    await _write(pipe, f"{checks}\nCOMMIT;\n")
    return None


async def _write(pipe: t.IO[bytes], text: str) -> None:
    def write() -> None:
        pipe.write(text.encode())
        pipe.flush()

    await trio.to_thread.run_sync(write)


def _checks(manifest: Manifest) -> str:
    """Statements that fail unless each table has its rows, whatever it is called."""
    return "\n".join(_check(name, rows) for name, rows in sorted(manifest.rows.items()))


def _check(name: str, rows: int) -> str:
    table = '"' + name.replace('"', '""') + '"'
    message = f"table {name} has not the {rows} rows that the backup should hold"
    body = (
        f"BEGIN IF (SELECT count(*) FROM public.{table}) <> {rows} THEN"  # noqa: S608 - quoted
        f" RAISE EXCEPTION USING MESSAGE = {_literal(message)}; END IF; END"
    )
    return f"DO {_literal(body)};"


def _literal(text: str) -> str:
    """Text as SQL has it, whatever the server makes of backslashes."""
    return " E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
