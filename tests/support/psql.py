"""A `psql` that stays, so that a test which looks again and again does not pay for processes."""

import json
import subprocess
import typing as t

import attrs
import trio

from storage.binaries import find_binaries

_END: t.Final = "-- end of the answer --"


class PsqlError(Exception):
    """The query failed, or there is no database; the text is psql's."""


@attrs.define(eq=False)
class Psql:
    """One connection to one database, opened when first asked."""

    dsn: str
    _process: trio.Process | None = None
    _lock: trio.Lock = attrs.field(factory=trio.Lock)

    async def ask(self, sql: str) -> list[dict[str, t.Any]]:
        """The rows of a query.

        A connection that broke since the last one is opened anew.

        Raises:
            PsqlError: see there.
        """
        async with self._lock:
            fresh = self._process is None
            try:
                return await self._ask(sql)
            except PsqlError:
                await self._close()
                if fresh:
                    raise
                return await self._ask(sql)

    async def run(self, sql: str) -> None:
        """Run statements, in a session that goes on.

        Raises:
            PsqlError: one of them failed.
        """
        async with self._lock:
            await self._talk(f"{sql};")

    async def aclose(self) -> None:
        """End the process."""
        async with self._lock:
            await self._close()

    async def _ask(self, sql: str) -> list[dict[str, t.Any]]:
        answer = await self._talk(f"SELECT coalesce(json_agg(q), '[]') FROM ({sql}) q;")
        try:
            rows: list[dict[str, t.Any]] = json.loads(answer)
        except ValueError as error:  # psql lost its server, says so, and goes on without
            raise PsqlError(answer.decode(errors="replace") or "no answer") from error
        return rows

    async def _talk(self, sql: str) -> bytes:
        if self._process is None:
            self._process = await self._open()
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        question = f"{sql}\n\\echo {_END}\n"
        answer, end = b"", f"{_END}\n".encode()
        try:
            await process.stdin.send_all(question.encode())
            while not answer.endswith(end):
                if not (piece := await process.stdout.receive_some()):
                    raise PsqlError(answer.decode(errors="replace"))
                answer += piece
        except trio.BrokenResourceError as error:
            raise PsqlError("psql has ended") from error
        except trio.Cancelled:
            process.kill()  # half an answer is of no use to the next question
            self._process = None
            raise
        return answer.removesuffix(end)

    async def _open(self) -> trio.Process:
        psql = find_binaries().directory / "psql"
        return await trio.lowlevel.open_process(
            [str(psql), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", self.dsn],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    async def _close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                await stream.aclose()
