"""Writes docs/api.md, the reference of the API, from its description.

Run it after a change of a route: python scripts/api_reference.py
"""

import collections
import pathlib
import sys
import typing as t

ROOT: t.Final = pathlib.Path(__file__).parents[1]
TARGET: t.Final = ROOT / "docs" / "api.md"
SCHEMAS: t.Final = "#/components/schemas/"
COMMON: t.Final = frozenset({"400", "401", "403", "421", "429", "500", "503", "504"})
"""Problems that any operation may answer; only others are listed with an operation."""

Json: t.TypeAlias = dict[str, t.Any]


def main() -> int:
    """Write the file."""
    sys.path.insert(0, str(ROOT))
    from api.openapi_static import describe

    TARGET.write_text(reference(describe("")), encoding="utf-8")
    return 0


def reference(description: Json) -> str:
    """The whole text."""
    parts = ["# API\n", "Written by `scripts/api_reference.py`; do not edit.\n"]
    parts += [description["info"]["description"]]
    parts.append(
        "The machine-readable form (OpenAPI 3.1) is what `GET /schema/openapi.json` answers and"
        " `zapvisor openapi` prints.\n"
    )
    by_tag: dict[str, list[str]] = collections.defaultdict(list)
    for path, item in description["paths"].items():
        for method, operation in item.items():
            by_tag[operation["tags"][0]].append(_operation(path, method, operation))
    for tag in description["tags"]:
        if tag["name"] in by_tag:
            parts.append(f"## {tag['name'].capitalize()}\n\n{tag['description']}\n")
            parts += by_tag[tag["name"]]
    parts.append("## Models\n")
    schemas = description["components"]["schemas"]
    parts += [_model(name, schemas[name]) for name in sorted(schemas)]
    return "\n".join(parts)


def _operation(path: str, method: str, operation: Json) -> str:
    lines = [f"### {method.upper()} {path}\n", f"{operation['summary']}.\n"]
    lines.append(operation["description"] + "\n")
    if parameters := operation.get("parameters"):
        lines += ["| parameter | in | type | |", "|---|---|---|---|"]
        lines += [_parameter(each) for each in parameters]
        lines.append("")
    if body := operation.get("requestBody"):
        for content in body["content"].values():
            lines.append(f"Body: {_type(content.get('schema', {}))}.\n")
    for status, answer in operation["responses"].items():
        if int(status) < 300:
            types = [
                f"{_type(content.get('schema', {}))} (`{media}`)"
                for media, content in answer.get("content", {}).items()
            ]
            lines.append(f"{status}: {', '.join(types) or 'no content'}.")
    others = [
        status for status in operation["responses"] if int(status) >= 300 and status not in COMMON
    ]
    if others:
        lines.append(f"Problems besides the common ones: {', '.join(others)}.")
    return "\n".join(lines) + "\n"


def _parameter(each: Json) -> str:
    schema = each.get("schema", {})
    words = [each.get("description", "")]
    if each.get("required"):
        words.append("required")
    elif schema.get("default") is not None:
        words.append(f"default {schema['default']}")
    text = "; ".join(filter(None, words))
    return f"| `{each['name']}` | {each['in']} | {_type(schema)} | {_cell(text)} |"


def _model(name: str, schema: Json) -> str:
    lines = [f"### {name}\n"]
    if text := schema.get("description"):
        lines.append(text + "\n")
    if values := schema.get("enum"):
        lines.append("One of " + ", ".join(f"`{value}`" for value in values) + ".\n")
    if properties := schema.get("properties"):
        lines += ["| field | type | |", "|---|---|---|"]
        lines += [
            f"| `{field}` | {_type(part)} | {_cell(part.get('description', ''))} |"
            for field, part in properties.items()
        ]
        lines.append("")
    return "\n".join(lines)


def _type(schema: Json) -> str:
    if ref := schema.get("$ref"):
        name = ref.removeprefix(SCHEMAS)
        return f"[{name}](#{name.lower()})"
    for key in ("oneOf", "anyOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_type(each) for each in schema[key]))
    kind = schema.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"array of {_type(schema.get('items', {}))}"
    if values := schema.get("enum"):
        return ", ".join(f"`{value}`" for value in values)
    bounds = _bounds(schema)
    return f"{schema.get('format', kind)}{bounds}"


def _bounds(schema: Json) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None or high is None:
        return ""
    return f", {low:g} to {high:g}" if high < 1e9 else f", {low:g} or more"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    raise SystemExit(main())
