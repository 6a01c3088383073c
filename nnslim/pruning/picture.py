"""The network as layers and what flows between them, with widths before and after a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from nnslim.network.graph import Node, TensorInfo, TensorRef, refs
from nnslim.network.operators import LAYERS
from nnslim.surgery.edit import ResolvedEdit, resolve_edit

if TYPE_CHECKING:
    from nnslim.channels import ChannelMap
    from nnslim.channels.labels import Labels
    from nnslim.pruning.plans.plan import Plan

__all__ = ["picture_json"]

_WEIGHTED = LAYERS | {"embedding"}
_PRODUCTS = ("matmul", "attention", "lstm")
_JOINTS = ("add", "mul", "sub", "cat", "stack")


def picture_json(channels: ChannelMap, plan: Plan) -> list[dict[str, object]]:
    """Return the layers and joints of a network in the order in which they run.

    Layers have weights or multiply activations; joints are sums, products and
    concatenations of several values. Everything else only passes values on.

    Returns:
        For each: ``name``, ``kind``, ``module``, ``before`` and ``after`` (channels of its result),
        ``group`` (of its first channel, None where that must stay) and ``inputs`` (names of where
        its values come from).
    """
    cut = resolve_edit(channels, plan.edit)
    group_of = {
        int(component): group.name for group in channels.prunable for component in group.components
    }
    sources: dict[str, tuple[str, ...]] = {entry.name: () for entry in channels.graph.inputs}
    result: list[dict[str, object]] = []
    for node in channels.graph.nodes:
        feeding = dict.fromkeys(
            source for ref in refs(node.arguments) for source in sources.get(ref.name, ())
        )
        if not _is_shown(node, len(feeding)):
            sources[node.name] = tuple(feeding)
            continue
        sources[node.name] = (node.name,)
        before, after, group = _widths(cut, group_of, node)
        result.append(
            {
                "name": node.name,
                "kind": node.op.split(".")[1].rstrip("_"),
                "module": node.module,
                "before": before,
                "after": after,
                "group": group,
                "inputs": list(feeding),
            }
        )
    return result


def _is_shown(node: Node, n_sources: int) -> bool:
    if not isinstance(node.value, TensorInfo) or not node.value.dtype.is_floating_point:
        return False
    if node.family in _JOINTS:
        values = list(refs(node.arguments))
        return n_sources > 1 and len(values) > 1
    if node.family in _WEIGHTED:
        return any(isinstance(arg, TensorRef) for arg in node.arguments)
    return node.family in _PRODUCTS and n_sources > 0


def _widths(
    cut: ResolvedEdit, group_of: Mapping[int, str], node: Node
) -> tuple[int, int, str | None]:
    """Channels of a node's value before and after, and the group of the first."""
    shape = cast("TensorInfo", node.value).shape
    labels = cast("Labels", cut.channels.values[node.name])
    before, after, group = 1, 1, None
    for dim in _channel_dims(node, len(shape)):
        along = labels[dim]
        before, after = before * shape[dim], after * cut.size(along, shape[dim])
        if along is not None and group is None:
            group = group_of.get(int(cut.channels.component[along[0]]))
    return before, after, group


def _channel_dims(node: Node, rank: int) -> tuple[int, ...]:
    """Where the channels of a result stand: for attention, its heads and the places in each."""
    if node.family == "attention" and rank == 4:
        return (1, 3)
    if "convolution" in node.family or rank == 4:
        return (min(1, rank - 1),)
    return (rank - 1,) if rank else ()
