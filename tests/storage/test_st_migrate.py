"""Which migrations are applied, and in what order."""

import contextlib
import typing as t

import pytest

from storage.errors import StorageRejectedError
from storage.migrate import Migration, load_migrations, migrate, pending

ONE, TWO, THREE = (Migration(number, f"m{number}", f"SQL {number}") for number in (1, 2, 3))


def test_files_are_numbered_without_gaps() -> None:
    """From 1 on."""
    numbers = [migration.number for migration in load_migrations()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_only_what_is_missing_is_pending() -> None:
    """In order; nothing when all is applied."""
    assert pending({}, [ONE, TWO, THREE]) == [ONE, TWO, THREE]
    assert pending({1: ONE.checksum}, [ONE, TWO, THREE]) == [TWO, THREE]
    assert pending({1: ONE.checksum, 2: TWO.checksum}, [ONE, TWO]) == []


def test_the_future_and_the_altered_are_refused() -> None:
    """A newer database, or an old migration with another text."""
    with pytest.raises(StorageRejectedError, match="schema 3"):
        pending({1: ONE.checksum, 2: TWO.checksum, 3: THREE.checksum}, [ONE, TWO])
    with pytest.raises(StorageRejectedError, match=r"1 \(m1\)"):
        pending({1: TWO.checksum}, [ONE, TWO])


class Recorder:
    """A connection that remembers what was asked of it, and may fail at one statement."""

    def __init__(self, fail_at: str = "") -> None:
        self.seen: list[str] = []
        self._fail_at = fail_at

    async def execute(self, statement: str, *arguments: t.Any) -> None:
        self.seen.append(
            statement.split("(")[0].strip() + (f" {arguments[0]}" if arguments else "")
        )
        if statement == self._fail_at:
            raise ValueError(statement)

    async def fetch(self, statement: str, *arguments: t.Any) -> list[t.Any]:
        await self.execute(statement, *arguments)
        return [("UTF8",)] if "encoding" in statement else []

    @contextlib.asynccontextmanager
    async def transaction(self) -> t.AsyncIterator[None]:
        self.seen.append("BEGIN")
        yield
        self.seen.append("COMMIT")


async def test_each_migration_in_its_transaction() -> None:
    """Migrations first, the functions last, all under the lock."""
    recorder = Recorder()
    applied = await migrate(recorder, [ONE, TWO])
    assert [migration.number for migration in applied] == [1, 2, 0]
    begun = [index for index, what in enumerate(recorder.seen) if what == "BEGIN"]
    assert [recorder.seen[index + 1] for index in begun[:2]] == ["SQL 1", "SQL 2"]
    assert recorder.seen[1].endswith("pg_advisory_lock")
    assert recorder.seen[-1].endswith("pg_advisory_unlock")


async def test_a_failing_migration_stops() -> None:
    """What came before stays committed, what comes after is not tried, the lock is given back."""
    recorder = Recorder(fail_at="SQL 2")
    with pytest.raises(ValueError, match="SQL 2"):
        await migrate(recorder, [ONE, TWO, THREE])
    assert recorder.seen.count("COMMIT") == 1
    assert "SQL 3" not in recorder.seen
    assert recorder.seen[-1].endswith("pg_advisory_unlock")
