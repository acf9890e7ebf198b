"""Sphinx: the documentation, built offline by ``make docs`` with every warning an error."""

from __future__ import annotations

import os
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(DOCS / "_ext"))

# Reading docstrings imports Airflow, which makes itself a home; it gets one that `make clean` removes.
os.environ.setdefault("AIRFLOW_HOME", str(ROOT / "build" / "airflow-for-docs"))
os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "WARNING")

from rollback_budget import __version__  # noqa: E402

project = "Rollback Budget"
author = "The Rollback Budget contributors"
project_copyright = "the Rollback Budget contributors, Apache-2.0"
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx_click",
    "budget_keys",
    "click_help",
    "config_options",
    "import_layers",
]
exclude_patterns = ["_ext", "_static"]
default_role = "code"
smartquotes = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = f"Rollback Budget {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
