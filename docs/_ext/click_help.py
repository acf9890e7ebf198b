"""Help texts of the command line are read as they are meant: a name that ends in ``_`` is no link."""

from __future__ import annotations

import re

import click
from sphinx.application import Sphinx

_TRAILING = re.compile(r"(?<=\w)_(?=[^\w`]|$)")


def escape_underscores(app: Sphinx, context: click.Context, lines: list[str]) -> None:  # noqa: ARG001
    """Escape in place what reStructuredText would take for a reference, such as ``AIRFLOW_CONN_<ID>``."""
    lines[:] = [_TRAILING.sub(r"\\_", line) for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    """Listen to sphinx-click, which has to be loaded before."""
    app.connect("sphinx-click-process-description", escape_underscores)
    app.connect("sphinx-click-process-options", escape_underscores)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
