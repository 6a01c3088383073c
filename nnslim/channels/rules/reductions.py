"""Pooling, resampling and reductions: what happens over pixels leaves channels alone."""

from __future__ import annotations

from nnslim.channels.labels import Labels
from nnslim.channels.walk import Arguments, RuleResult, Walk
from nnslim.network.graph import Node, TensorInfo, Value, dims_of

__all__ = ["mixing_reduction", "ordering", "reduction", "softmax", "spatial"]


def spatial(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """Pooling, resampling and mirrored padding work on the pixels (dimensions 2 on)."""
    labels = walk.labels(node.operand)
    pixels = 1 if "1d" in node.op else 3 if "3d" in node.op else 2
    walk.freeze(labels[-pixels:], f"pixels are pooled at {node.place}")
    result = (*labels[:-pixels], *(None,) * pixels)
    return tuple(result for _ in node.value) if isinstance(node.value, tuple) else result


def reduction(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``sum`` and vector norms: exact when the removed entries are zero."""
    order = args.get("ord", args.get("p", 2))
    if isinstance(order, (int, float)) and order <= 0:
        return walk.refuse(node, f"norm of order {order} at {node.place}")
    labels = walk.labels(args["self"])
    return _reduced(node.value, labels, dims_of(args.get("dim"), len(labels)))


def mixing_reduction(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``mean``, ``var``, ``amax``: over channels they run on those that are left: approximate."""
    labels = softmax(walk, node, args)
    return _reduced(node.value, labels, dims_of(args.get("dim"), len(labels)))


def softmax(walk: Walk, node: Node, args: Arguments) -> Labels:
    """``softmax``: over channels it runs on those that are left: approximate."""
    labels = walk.labels(args["self"])
    walk.approximate(tuple(labels[dim] for dim in dims_of(args.get("dim"), len(labels))))
    return labels


def ordering(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``max``, ``topk``, ``sort``, ``cumsum``: the places along ``dim`` matter, so it must stay."""
    labels = walk.labels(args["self"])
    dims = dims_of(args.get("dim"), len(labels))
    walk.freeze(tuple(labels[d] for d in dims), f"{node.place} runs over the channels")
    return _reduced(node.value, labels, dims)


def _reduced(value: Value, labels: Labels, dims: tuple[int, ...]) -> RuleResult:
    """Labels of each result: those of ``dims`` are fixed, and gone where the rank is smaller."""
    if isinstance(value, tuple):
        return tuple(_reduced(item, labels, dims) for item in value)  # pyright: ignore
    assert isinstance(value, TensorInfo)
    if len(value.shape) == len(labels):
        return tuple(None if d in dims else along for d, along in enumerate(labels))
    return tuple(along for d, along in enumerate(labels) if d not in dims)
