"""``config-options``: Airflow's options of this provider, from its ``get_provider_info``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import distribution
from typing import Any

from docutils import nodes
from keys_table import keys_table
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def provider_info() -> Mapping[str, Any]:
    """Ask the provider as Airflow does: by its entry point."""
    (entry_point,) = distribution("rollback-budget").entry_points.select(group="apache_airflow_provider")
    info: Mapping[str, Any] = entry_point.load()()
    return info


class ConfigOptions(SphinxDirective):
    """One table for each section of the configuration."""

    def run(self) -> list[nodes.Node]:
        found: list[nodes.Node] = []
        for section, described in provider_info()["config"].items():
            rows = [
                [f"`{name}`", option["description"], _default(option), f"`{_variable(section, name)}`"]
                for name, option in described["options"].items()
            ]
            found.append(
                nodes.paragraph(
                    "", "", *self.parse_inline(f"`[{section}]` in Airflow's configuration file.")[0]
                )
            )
            found.append(keys_table(self, ["option", "meaning", "default", "environment variable"], rows))
        return found


def _default(option: Mapping[str, Any]) -> str:
    value = option.get("default")
    return "empty" if value in (None, "") else f"`{value}`"


def _variable(section: str, option: str) -> str:
    return f"AIRFLOW__{section.upper()}__{option.upper()}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("config-options", ConfigOptions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
