"""What a plan must respect: budgets, floors and layers that stay whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from nnslim.errors import ConfigError
from nnslim.settings.budget import Limit, Metric

if TYPE_CHECKING:
    from nnslim.channels import ChannelGroup, ChannelMap
    from nnslim.settings.prune import Allocation

__all__ = ["Constraints", "Limits", "why_whole"]

Limits = Mapping[Metric, Limit]


@dataclass(frozen=True)
class Constraints:
    """What a plan must respect.

    Attributes:
        limits: What may remain at most, by metric; all of them hold in the end.
        min_width: Channels that every group keeps at least: a share of its width or a number.
        keep: Layers whose groups stay whole; a name protects everything below it too.
        approximate: Whether groups over which a norm runs may be cut.
        allocation: ``global`` ranks the channels of all groups together; ``even`` takes the same
            share of every group, the lowest scores first.
        per_cost: With ``global``, rank by score per cost in the limited metrics.
        align: Every group that is cut ends at a multiple of so many channels.
        floors: Channels that single groups keep at least, in place of ``min_width``.
        dense_widths: With ``even``, the widths that shares are of, where not the present ones.
        streams: Names of residual streams that stay whole; what else their layers make may go.
    """

    limits: Limits
    _: KW_ONLY
    min_width: Limit = field(default_factory=partial(Limit, 0.1, relative=True))
    keep: tuple[str, ...] = ()
    approximate: bool = False
    allocation: Allocation = "global"
    per_cost: bool = True
    align: int = 1
    floors: Mapping[str, int] = field(default_factory=dict)
    dense_widths: Mapping[str, int] = field(default_factory=dict)
    streams: frozenset[str] = frozenset()

    def floor_of(self, group: ChannelGroup) -> int:
        """Channels that a group keeps at least."""
        return min(self.floors.get(group.name, self.min_width.of(group.width)), group.width)


def why_whole(channels: ChannelMap, constraints: Constraints) -> dict[str, str | None]:
    """Say of each group why it must stay whole; None where it may be cut.

    Raises:
        ConfigError: A layer to keep does not exist.
    """
    for name in constraints.keep:
        if not any(_protects(name, group) for group in channels.groups):
            layers = ", ".join(g.name for g in channels.prunable[:4])
            raise ConfigError(
                f"[[keep={name}]]: no such layer", hint=f"layers are named like {layers}"
            )
    return {group.name: _reason(group, constraints) for group in channels.groups}


def _reason(group: ChannelGroup, constraints: Constraints) -> str | None:
    if group.status == "frozen" or (group.status == "approximate" and not constraints.approximate):
        return group.reason
    if any(_protects(name, group) for name in constraints.keep):
        return "kept on request"
    return "residual stream, kept on request" if group.name in constraints.streams else None


def _protects(name: str, group: ChannelGroup) -> bool:
    below = (f"{name}.", f"{name}#")
    return any(layer == name or layer.startswith(below) for layer in (group.name, *group.layers))
