"""How much each channel matters."""

from __future__ import annotations
