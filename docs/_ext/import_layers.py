"""``import-layers``: the picture of the architecture, drawn from the import contracts in ``pyproject.toml``.

A row is a layer, the highest first; a module may import what stands in a row below its own. Colours follow
the theme of the page, light or dark (``_static/site.css``).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"
WIDTH, BOX_HEIGHT, ROW_GAP, LINE_GAP, BOX_GAP, MARGIN = 760, 28, 20, 8, 12, 16
#: Width of a letter of the monospace font, and the space on both sides of a name.
LETTER, PADDING = 8.0, 12

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Contracts:
    """What import-linter holds the package to.

    ``layers`` are rows of module names, the highest first, without the package; ``free_of_airflow`` are those
    that a contract forbids to import Airflow.
    """

    package: str
    layers: tuple[tuple[str, ...], ...]
    free_of_airflow: frozenset[str]
    others: tuple[Mapping[str, Any], ...]


def read_contracts(path: Path = PYPROJECT) -> Contracts:
    """Read the contracts; the one of type ``layers`` becomes the picture."""
    settings = tomllib.loads(path.read_text(encoding="utf-8"))["tool"]["importlinter"]
    package = settings.get("root_package") or settings["root_packages"][0]
    layers = next(each for each in settings["contracts"] if each["type"] == "layers")
    others = tuple(each for each in settings["contracts"] if each is not layers)
    free = {
        name.removeprefix(f"{package}.")
        for contract in others
        if contract["type"] == "forbidden" and "airflow" in contract["forbidden_modules"]
        for name in contract["source_modules"]
    }
    rows = tuple(tuple(_names(row, package)) for row in layers["layers"])
    return Contracts(package, rows, frozenset(free), others)


def _names(row: str | Sequence[str], package: str) -> Iterator[str]:
    """Yield the modules of one layer: ``a | b`` are independent of each other, ``a : b`` are not."""
    parts = row.replace("|", " ").replace(":", " ").split() if isinstance(row, str) else row
    for part in parts:
        yield part.strip("()").removeprefix(f"{package}.")


def draw(contracts: Contracts) -> str:
    """Return the picture as SVG."""
    shapes: list[str] = []
    top = MARGIN
    for index, row in enumerate(contracts.layers):
        if index:
            shapes.append(_arrow(top))
            top += ROW_GAP
        for line in _wrapped(row):
            shapes.extend(_boxes(line, top, contracts.free_of_airflow))
            top += BOX_HEIGHT + LINE_GAP
        top -= LINE_GAP
    top += ROW_GAP
    shapes.extend(_legend(top))
    height = top + BOX_HEIGHT + MARGIN
    title = f"The layers of {contracts.package}: each imports only from layers below it"
    return (
        f'<svg class="import-layers" role="img" aria-label="{escape(title)}" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title>'
        f"{''.join(shapes)}</svg>"
    )


def _box_width(name: str) -> float:
    return len(name) * LETTER + 2 * PADDING


def _wrapped(row: Sequence[str]) -> Iterator[list[str]]:
    """Cut a layer into lines that fit the picture."""
    line: list[str] = []
    for name in row:
        if line and _line_width([*line, name]) > WIDTH - 2 * MARGIN:
            yield line
            line = []
        line.append(name)
    yield line


def _line_width(line: Sequence[str]) -> float:
    return sum(_box_width(name) for name in line) + BOX_GAP * (len(line) - 1)


def _boxes(line: Sequence[str], top: float, free: frozenset[str]) -> Iterator[str]:
    left = (WIDTH - _line_width(line)) / 2
    for name in line:
        yield _box(left, top, _box_width(name), name, free=name in free)
        left += _box_width(name) + BOX_GAP


def _box(left: float, top: float, width: float, name: str, *, free: bool) -> str:
    kind = "box free" if free else "box"
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{top}" width="{width:.1f}" height="{BOX_HEIGHT}" rx="5"/>'
        f'<text x="{left + width / 2:.1f}" y="{top + BOX_HEIGHT / 2 + 4.5:.1f}" text-anchor="middle">'
        f"{escape(name)}</text>"
    )


def _arrow(top: float) -> str:
    middle, end = WIDTH / 2, top + ROW_GAP
    return (
        f'<path class="arrow" d="M{middle} {top + 4}V{end - 9}"/>'
        f'<path class="head" d="M{middle - 4} {end - 10}h8l-4 6z"/>'
    )


def _legend(top: float) -> Iterator[str]:
    left: float = MARGIN
    for free, note in ((True, "a contract forbids it to import Airflow"), (False, "may import Airflow")):
        kind = "box free" if free else "box"
        yield f'<rect class="{kind}" x="{left}" y="{top + 7}" width="24" height="16" rx="4"/>'
        yield f'<text class="note" x="{left + 32}" y="{top + 19.5}">{note}</text>'
        left += 32 + len(note) * 6.5 + 24
    yield f'<path class="arrow" d="M{left + 6} {top + 7}v9"/>'
    yield f'<path class="head" d="M{left + 2} {top + 15}h8l-4 6z"/>'
    yield f'<text class="note" x="{left + 20}" y="{top + 19.5}">imports</text>'


def rules(contracts: Contracts) -> Iterator[tuple[str, str]]:
    """Yield name and meaning of every contract but the one that is drawn."""
    for each in contracts.others:
        match each["type"]:
            case "forbidden":
                yield (
                    each["name"],
                    f"{_listed(each['source_modules'])} never import {_listed(each['forbidden_modules'])}",
                )
            case "independence":
                yield each["name"], f"{_listed(each['modules'])} do not import each other"
            case kind:
                yield each["name"], f"a contract of type `{kind}`; see `pyproject.toml`"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


class ImportLayers(SphinxDirective):
    """Draw the layers, and list the other contracts below them.

    Warns of a layer that the page does not explain, that is: names nowhere as code, as a folder or a module.
    """

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(PYPROJECT))
        contracts = read_contracts()
        self._warn_of_unexplained(contracts)
        picture = nodes.raw("", draw(contracts), format="html")
        items = nodes.bullet_list()
        for name, meaning in rules(contracts):
            children, _ = self.parse_inline(f"{name}: {meaning}.")
            items += nodes.list_item("", nodes.paragraph("", "", *children))
        return [picture, *([items] if items.children else [])]

    def _warn_of_unexplained(self, contracts: Contracts) -> None:
        page = Path(self.env.doc2path(self.env.docname)).read_text(encoding="utf-8")
        for name in (name for row in contracts.layers for name in row):
            if f"`{name}/`" not in page and f"`{name}.py`" not in page:
                log.warning("the page does not say what `%s` is for", name, location=self.get_location())


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("import-layers", ImportLayers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
