"""Writes docs/archive.schema.json: the JSON Schema of one line of an archive.

Run it after a change of a record: python scripts/archive_schema.py
"""

import json
import pathlib
import sys
import typing as t

ROOT: t.Final = pathlib.Path(__file__).parents[1]
TARGET: t.Final = ROOT / "docs" / "archive.schema.json"


def main() -> int:
    """Write the file."""
    sys.path.insert(0, str(ROOT))
    from storage.archive_records import schema

    TARGET.write_text(text(schema()), encoding="utf-8")
    return 0


def text(schema: dict[str, t.Any]) -> str:
    """The file as it has to be."""
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(main())
