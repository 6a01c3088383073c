"""The version, and nothing else: everybody may import it, and the build reads it."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
