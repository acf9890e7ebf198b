"""``budget-keys``: every key of a budget file, from the JSON schema that ``make schema`` writes."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docutils import nodes
from keys_table import keys_table
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

SCHEMA = Path(__file__).resolve().parents[1] / "budget.schema.json"
TYPES = {
    "string": "text",
    "number": "number",
    "integer": "whole number",
    "boolean": "true or false",
    "null": "null",
    "object": "mapping",
    "array": "list",
}

Schema = Mapping[str, Any]


class BudgetKeys:
    """The sections of the schema, each under the shortest path on which a budget file holds it."""

    def __init__(self, schema: Schema) -> None:
        self._definitions: Schema = schema["$defs"]
        self._root = schema
        self._paths: dict[str, str] = {}
        self._visit()

    def sections(self) -> Iterator[tuple[str, str, Schema]]:
        """Yield anchor, title and schema of every mapping with keys, from the top of the file downwards."""
        yield "budget-keys-top", "Top level", self._root
        for name, path in self._paths.items():
            yield _anchor(name), f"`{path}`", self._definitions[name]

    def _visit(self) -> None:
        """Go through the schema breadth first, so that what is near the top comes first."""
        queue: deque[tuple[str, Schema]] = deque([("", self._root)])
        while queue:
            path, section = queue.popleft()
            fields = {**section.get("properties", {}), **section.get("patternProperties", {})}
            for key, field in fields.items():
                for below, name in self._references(f"{path}.{key}".removeprefix("."), field):
                    if name not in self._paths and "properties" in self._definitions[name]:
                        self._paths[name] = below + self._variant(name)
                        queue.append((below, self._definitions[name]))

    def _references(self, path: str, field: Schema) -> Iterator[tuple[str, str]]:
        if "$ref" in field:
            name = field["$ref"].rpartition("/")[2]
            if "properties" in self._definitions[name]:
                yield path, name
            else:
                yield from self._references(path, self._definitions[name])
        for option in [*field.get("anyOf", ()), *field.get("oneOf", ()), *field.get("allOf", ())]:
            yield from self._references(path, option)
        if isinstance(field.get("items"), dict):
            yield from self._references(f"{path}[]", field["items"])
        if isinstance(field.get("additionalProperties"), dict):
            yield from self._references(f"{path}.<name>", field["additionalProperties"])
        if field.get("type") == "object":
            for key, below in field.get("properties", {}).items():
                yield from self._references(f"{path}.{key}", below)

    def _variant(self, name: str) -> str:
        """Return what distinguishes a section from others on the same path, such as ``(type: sql)``."""
        kind = self._definitions[name]["properties"].get("type", {})
        value = kind.get("const", kind.get("default") if "enum" not in kind else None)
        return f" (type: {value})" if value else ""

    def words(self, field: Schema) -> str:
        """Say in Markdown what a value may be."""
        if "$ref" in field:
            return self._referred(field["$ref"].rpartition("/")[2])
        for key in ("anyOf", "oneOf"):
            if key in field:
                kinds = [self.words(each) for each in field[key] if each.get("type") != "null"]
                return " or ".join(dict.fromkeys(kinds))
        if "allOf" in field:
            return self.words(field["allOf"][0])
        if "const" in field:
            return f"`{_yaml(field['const'])}`"
        if "enum" in field:
            return ", ".join(f"`{_yaml(value)}`" for value in field["enum"])
        return self._plain(field)

    def _plain(self, field: Schema) -> str:
        kind = field.get("type")
        if isinstance(kind, list):
            return " or ".join(TYPES[each] for each in kind)
        if kind == "array" and isinstance(field.get("items"), dict):
            return f"list of {self.words(field['items'])}"
        if kind == "object" and isinstance(field.get("additionalProperties"), dict):
            return f"mapping of name to {self.words(field['additionalProperties'])}"
        if kind == "string" and "ms)?" in field.get("pattern", ""):
            return "duration"
        return TYPES.get(kind, "any value") if isinstance(kind, str) else "any value"

    def _referred(self, name: str) -> str:
        if name in self._paths:
            return f"[`{self._paths[name]}`](#{_anchor(name)})"
        return self.words(self._definitions[name])


def _anchor(name: str) -> str:
    return f"budget-keys-{name.lower().replace('_', '-')}"


def _yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _default(field: Schema) -> str:
    if field.get("default") in (None, [], {}):
        return ""
    if isinstance(field["default"], dict):
        return "see there"
    return f"`{_yaml(field['default'])}`" if field["default"] != "" else "empty"


class BudgetKeysDirective(SphinxDirective):
    """A section with a table for each mapping of the budget file."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(SCHEMA))
        keys = BudgetKeys(json.loads(SCHEMA.read_text(encoding="utf-8")))
        return [self._section(keys, *each) for each in keys.sections()]

    def _section(self, keys: BudgetKeys, anchor: str, title: str, schema: Schema) -> nodes.section:
        children, _ = self.parse_inline(title)
        section = nodes.section("", nodes.title(title, "", *children), ids=[anchor])
        self.state.document.note_explicit_target(section)
        if schema.get("description") and anchor != "budget-keys-top":
            section += nodes.paragraph("", "", *self.parse_inline(schema["description"])[0])
        rows = [
            [f"`{key}`", keys.words(field), _default(field), field.get("description", "")]
            for key, field in schema.get("properties", {}).items()
        ]
        for field in schema.get("patternProperties", {}).values():
            rows.insert(0, ["`<metric>_<comparison>`", keys.words(field), "", field.get("description", "")])
        section += keys_table(self, ["key", "value", "default", "meaning"], rows)
        return section


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("budget-keys", BudgetKeysDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
