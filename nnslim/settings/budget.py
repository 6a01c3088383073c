"""Budgets: what a network may have at most, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from nnslim.errors import ConfigError

__all__ = ["LatencyBudget", "Limit", "Metric"]

Metric: TypeAlias = Literal["params", "macs", "size"]


@dataclass(frozen=True)
class Limit:
    """What may remain at most: a share of the input model, or a number of its own.

    Attributes:
        amount: A count, or with ``relative`` a fraction above 0 and up to 1.
        relative: Whether ``amount`` is a fraction of what the input model has.

    Example:
        >>> Limit(0.5, relative=True).of(271)
        135
    """

    amount: float
    relative: bool

    def __str__(self) -> str:
        return f"{100 * self.amount:.10g}%" if self.relative else f"{self.amount:.0f}"

    def of(self, total: int) -> int:
        """Return the largest whole number that keeps to this limit when the input has ``total``."""
        # 0.29 * 100 is 28.999999999999996: the share's own rounding must not cost a unit.
        return int(self.amount * total + 1e-6) if self.relative else int(self.amount)


@dataclass(frozen=True)
class LatencyBudget:
    """How fast the network must be.

    Attributes:
        amount: A share of the input network's latency, above 0 and up to 1, or milliseconds.
        relative: Which of the two.

    Raises:
        ConfigError: An amount out of its range.
    """

    amount: float
    relative: bool

    def __post_init__(self) -> None:
        if not 0 < self.amount <= (1 if self.relative else float("inf")):
            raise ConfigError(
                f"a latency of {self}: must be above 0" + " and at most 100%" * self.relative,
                hint="write a share such as 60% or 1.5ms",
            )

    def __str__(self) -> str:
        return f"{100 * self.amount:.10g}%" if self.relative else f"{self.amount:.10g}ms"

    def share_of(self, parent_ms: Mapping[int, float]) -> float:
        """Return the share of a network's latency that may remain.

        Args:
            parent_ms: Its latency in milliseconds, by batch size.

        Raises:
            ConfigError: Milliseconds at several batch sizes.
        """
        if self.relative:
            return self.amount
        if len(parent_ms) > 1:
            sizes = ", ".join(str(size) for size in parent_ms)
            raise ConfigError(
                f"a latency of {self} at batch sizes {sizes}: milliseconds need one batch size",
                hint="give one batch size, or a share such as 60%",
            )
        return self.amount / next(iter(parent_ms.values()))
