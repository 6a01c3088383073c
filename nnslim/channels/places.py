"""Where nodes read channels: the operands that they sum over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from nnslim.channels.contractions import Contraction, Operand, contractions
from nnslim.network.graph import BATCH, Ref

if TYPE_CHECKING:
    from nnslim.channels.groups import ChannelMap
    from nnslim.channels.labels import IntArray
    from nnslim.network.graph import Node, TensorInfo

__all__ = ["Place", "reading_places"]


@dataclass(frozen=True)
class Place:
    """Where a node sums over channels.

    Attributes:
        node: Name of the node.
        weight: Name of its weight, or None for an operator without one.
        operand: Which operand of the node.
        dim: Dimension of the operand that is summed over.
        components: Channel of every index along it, as ``ChannelMap`` numbers them.
    """

    node: str
    weight: str | None
    operand: Operand
    dim: int
    components: IntArray


def reading_places(channels: ChannelMap) -> tuple[Place, ...]:
    """Return every operand that is summed over and whose summed dimension carries channels."""
    return tuple(
        Place(node.name, node.layer_weight, place.operand, dim, components)
        for node in channels.graph.nodes
        if not _passes_on(channels, node)
        for place in contractions(node, lambda arg: len(channels.labels(arg)))
        for dim, components in _carried(channels, node, place)
    )


def _carried(
    channels: ChannelMap, node: Node, place: Contraction
) -> Iterator[tuple[int, IntArray]]:
    operand = place.operand.of(node)
    if not isinstance(operand, Ref):
        return
    labels, info = channels.labels(operand), channels.graph.info(operand.name)
    for dim in place.dims:
        along = labels[dim]
        if along is not None and cast("TensorInfo", info).shape[dim] % BATCH != 0:
            yield dim, channels.component[along]


def _passes_on(channels: ChannelMap, node: Node) -> bool:
    """Whether a grouped convolution has its inputs tied to its outputs, which are read later."""
    weight = node.layer_weight
    if weight is None or node.family != "convolution":
        return False
    labels = channels.tensors.get(weight)
    return labels is not None and labels[1] is None
