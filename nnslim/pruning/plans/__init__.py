"""Which channels go: ranked by score, within budgets and constraints."""

from __future__ import annotations
