"""What each operator does to channel labels; one file per family, one function per behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nnslim.channels.rules import (
    elementwise,
    joining,
    layers,
    norms,
    picking,
    products,
    reductions,
    reshaping,
)
from nnslim.channels.walk import Rule

__all__ = ["DEFAULT_RULES"]

DEFAULT_RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **elementwise.RULES,
        **layers.RULES,
        **norms.RULES,
        **products.RULES,
        **reductions.RULES,
        **joining.RULES,
        **picking.RULES,
        **reshaping.RULES,
    }
)
