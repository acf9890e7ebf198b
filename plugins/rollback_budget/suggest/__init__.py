"""Suggest: what a rule's own noise says about it, and the rule that it asks for."""

from __future__ import annotations
