"""Every setting, written once: type, default, bounds, help and flag. Nothing here imports torch."""

from __future__ import annotations
