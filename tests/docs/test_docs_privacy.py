"""docs/privacy.md tells of every table."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_every_table_is_in_the_list() -> None:
    """And no other: whoever adds one says what it holds of people."""
    schema = (ROOT / "storage" / "sql" / "schema.sql").read_text()
    tables = set(re.findall(r"^CREATE TABLE (\w+)", schema, re.MULTILINE)) | {"schema_migrations"}
    rows = (ROOT / "docs" / "privacy.md").read_text().partition("| table |")[2].splitlines()[2:]
    listed = [
        name
        for row in rows
        if row.startswith("| `")
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    ]
    assert len(listed) == len(set(listed))
    assert set(listed) == tables
