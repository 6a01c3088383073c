"""Pooling, resampling and reductions: what happens over pixels leaves channels alone."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nnslim.channels.labels import DimLabels, Labels
from nnslim.channels.walk import Arguments, Rule, RuleResult, Walk
from nnslim.network.graph import Node, dims_of
from nnslim.network.operators import ORDERING, POOLING, STATISTICS

__all__ = ["RULES"]


def spatial(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """Pooling, resampling and mirrored padding work on the pixels (dimensions 2 on)."""
    labels = walk.labels(node.operand)
    pixels = 1 if "1d" in node.op else 3 if "3d" in node.op else 2
    for pixel_labels in labels[-pixels:]:
        walk.freeze(pixel_labels, f"pixels are pooled at {node.place}")
    result: Labels = (*labels[:-pixels], *(None,) * pixels)
    return tuple(result for _ in node.value) if isinstance(node.value, tuple) else result


def reduction(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``sum`` and vector norms: exact when the removed entries are zero."""
    order = args.get("ord", args.get("p", 2))
    if isinstance(order, (int, float)) and order <= 0:
        return walk.refuse(node, f"norm of order {order} at {node.place}")
    return _reduce(walk, args)


def mixing_reduction(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``mean``, ``var``, ``amax``: over channels they run on those that are left: approximate."""
    labels = walk.labels(args["self"])
    for dim in dims_of(args.get("dim"), len(labels)):
        walk.approximate(labels[dim])
    result = _reduce(walk, args)
    return tuple(result for _ in node.value) if isinstance(node.value, tuple) else result


def softmax(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``softmax``: over channels it runs on those that are left: approximate."""
    labels = walk.labels(args["self"])
    for dim in dims_of(args["dim"], len(labels)):
        walk.approximate(labels[dim])
    return labels


def ordering(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``max``, ``topk``, ``sort``, ``cumsum``: the places along ``dim`` matter, so it must stay."""
    labels = walk.labels(args["self"])
    dims = dims_of(args.get("dim"), len(labels))
    for dim in dims:
        walk.freeze(labels[dim], f"{node.place} runs over the channels")
    infos = node.value if isinstance(node.value, tuple) else (node.value,)
    rest = tuple(None if dim in dims else along for dim, along in enumerate(labels))
    dropped = tuple(along for dim, along in enumerate(rest) if dim not in dims)
    results = tuple(rest if len(i.shape) == len(rest) else dropped for i in infos)  # pyright: ignore
    return results if isinstance(node.value, tuple) else results[0]


def _reduce(walk: Walk, args: Arguments) -> Labels:
    labels = walk.labels(args["self"])
    dims = dims_of(args.get("dim"), len(labels))
    if args.get("keepdim"):
        return tuple(None if d in dims else entry for d, entry in enumerate(labels))
    kept: list[DimLabels] = [entry for d, entry in enumerate(labels) if d not in dims]
    return tuple(kept)


_SUMS = ("sum.default", "sum.dim_IntList", "linalg_vector_norm.default", "norm.ScalarOpt_dim")

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(POOLING, spatial),
        **dict.fromkeys(STATISTICS, mixing_reduction),
        **dict.fromkeys(ORDERING, ordering),
        **{f"aten.{name}": reduction for name in _SUMS},
        "aten.softmax.int": softmax,
        "aten.log_softmax.int": softmax,
    }
)
