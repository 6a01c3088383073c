"""Pooling, resampling and reductions: what happens over pixels leaves channels alone."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nnslim.channels.labels import DimLabels, Labels
from nnslim.channels.walk import Arguments, Rule, RuleResult, Walk
from nnslim.network.graph import Node, dims_of

__all__ = ["RULES"]

_SPATIAL = """
max_pool1d max_pool2d max_pool3d max_pool2d_with_indices avg_pool1d avg_pool2d avg_pool3d
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
adaptive_max_pool2d upsample_nearest2d upsample_nearest2d.vec upsample_bilinear2d
upsample_bilinear2d.vec upsample_bicubic2d upsample_bicubic2d.vec
"""
_MIXING = """
mean.dim mean var.correction var.dim std.correction std.dim amax amin softmax.int
log_softmax.int logsumexp
"""


def spatial(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """Pooling and resampling work on the pixels (dimensions 2 on) of each channel."""
    first = next(iter(args.values()))
    labels = walk.labels(first)
    pixels = 1 if "1d" in node.op else 3 if "3d" in node.op else 2
    for pixel_labels in labels[-pixels:]:
        walk.freeze(pixel_labels, f"pixels are pooled at {node.place}")
    result: Labels = (*labels[:-pixels], *(None,) * pixels)
    return tuple(result for _ in node.value) if isinstance(node.value, tuple) else result


def reduction(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``sum``: a contraction, exact when the removed entries are zero."""
    return _reduce(walk, args, freeze=None)


def mixing_reduction(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``mean``, ``var``, ``amax``, ``softmax``: frozen when they run over channels."""
    reason = f"{node.place} runs over the channels"
    if "softmax" in node.op:
        labels = walk.labels(args["self"])
        for dim in dims_of(args["dim"], len(labels)):
            walk.freeze(labels[dim], reason)
        return labels
    return _reduce(walk, args, freeze=reason)


def _reduce(walk: Walk, args: Arguments, freeze: str | None) -> Labels:
    labels = walk.labels(args["self"])
    dims = dims_of(args.get("dim"), len(labels))
    if freeze is not None:
        for dim in dims:
            walk.freeze(labels[dim], freeze)
    if args.get("keepdim"):
        return tuple(None if d in dims else entry for d, entry in enumerate(labels))
    kept: list[DimLabels] = [entry for d, entry in enumerate(labels) if d not in dims]
    return tuple(kept)


def _table() -> dict[str, Rule]:
    def full(name: str) -> str:
        return f"aten.{name}" if "." in name else f"aten.{name}.default"

    table: dict[str, Rule] = {full(name): spatial for name in _SPATIAL.split()}
    table.update({full(name): mixing_reduction for name in _MIXING.split()})
    table["aten.sum.default"] = table["aten.sum.dim_IntList"] = reduction
    return table


RULES: Mapping[str, Rule] = MappingProxyType(_table())
