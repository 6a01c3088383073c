"""Where layers produce and read channels: slices of weights, and operands that are summed over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from nnslim.channels.contractions import Contraction, Operand, contractions
from nnslim.network.graph import BATCH, Ref, TensorInfo, TensorRef

if TYPE_CHECKING:
    from nnslim.channels.footprints import ChannelGroup, Member
    from nnslim.channels.groups import ChannelMap
    from nnslim.channels.labels import IntArray, Labels
    from nnslim.network.graph import Arg, Node
    from nnslim.network.network import Network

__all__ = ["Place", "incoming_slices", "outgoing_slices", "reading_places"]


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


def incoming_slices(network: Network, group: ChannelGroup) -> tuple[Member, ...]:
    """The slices of a group by which layers read its channels: input dimensions of weights."""
    return _slices(network, group, reads=True)


def outgoing_slices(network: Network, group: ChannelGroup) -> tuple[Member, ...]:
    """The slices of a group by which layers produce its channels: output dimensions of weights."""
    return _slices(network, group, reads=False)


def _slices(network: Network, group: ChannelGroup, *, reads: bool) -> tuple[Member, ...]:
    transposed = network.graph.layer_weights
    return tuple(
        m
        for m in group.members
        if m.tensor in transposed and m.dim == int(transposed[m.tensor] != reads)
    )


def reading_places(network: Network, channels: ChannelMap) -> tuple[Place, ...]:
    """Return every operand that is summed over and whose summed dimension carries channels."""
    return tuple(
        Place(node.name, node.layer_weight, place.operand, dim, components)
        for node in network.graph.nodes
        if not _passes_on(channels, node)
        for place in contractions(node, lambda arg: _shape(network, arg))
        for dim, components in _carried(network, channels, node, place)
    )


def _carried(
    network: Network, channels: ChannelMap, node: Node, place: Contraction
) -> Iterator[tuple[int, IntArray]]:
    operand = place.operand.of(node)
    if not isinstance(operand, Ref):
        return
    labels = cast("Labels", channels.values[operand.name])
    for dim in place.dims:
        along = labels[dim]
        if along is not None and _shape(network, operand)[dim] % BATCH != 0:
            yield dim, channels.component[along]


def _shape(network: Network, arg: Arg) -> tuple[int, ...]:
    if isinstance(arg, TensorRef):
        return tuple(network.tensor(arg.name).shape)
    assert isinstance(arg, Ref)
    return cast("TensorInfo", network.graph.info(arg.name)).shape


def _passes_on(channels: ChannelMap, node: Node) -> bool:
    """Whether a grouped convolution has its inputs tied to its outputs, which are read later."""
    weight = node.layer_weight
    if weight is None or node.family != "convolution":
        return False
    labels = channels.tensors.get(weight)
    return labels is not None and labels[1] is None
