"""Literal sizes in a graph, recomputed from the new shapes of a node's inputs and outputs.

One function per kind of literal: ``rewrite(edit, node, args) -> (operator, changed arguments)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeAlias, cast

from nnslim.channels.labels import Labels
from nnslim.channels.walk import Arguments
from nnslim.network.graph import Arg, Node, Ref, TensorInfo, Value
from nnslim.network.operators import argument_names
from nnslim.surgery.edit import ResolvedEdit

__all__ = ["rewrite_node"]

Change: TypeAlias = tuple[str, Mapping[str, Arg]]
Rewrite: TypeAlias = Callable[[ResolvedEdit, Node, Arguments], Change]


def rewrite_node(edit: ResolvedEdit, node: Node) -> Node:
    """Return the node with its literals and its value's shape after the edit."""
    value = _new_value(edit, node.value, edit.channels.values[node.name])
    rewrite = _REWRITES.get(node.family)
    if rewrite is None:
        return replace(node, value=value)
    op, changed = rewrite(edit, node, node.named_arguments)
    args, kwargs = _with_arguments(node, op, changed)
    return replace(node, op=op, args=args, kwargs=kwargs, value=value)


def _new_value(edit: ResolvedEdit, value: Value, labels: object) -> Value:
    if isinstance(value, TensorInfo):
        return replace(value, shape=_new_sizes(edit, value.shape, labels))
    if isinstance(value, tuple):
        pairs = zip(value, cast("tuple[Labels, ...]", labels), strict=True)
        return tuple(_new_value(edit, item, along) for item, along in pairs)  # pyright: ignore
    return value


def _with_arguments(
    node: Node, op: str, changed: Mapping[str, Arg]
) -> tuple[tuple[Arg, ...], dict[str, Arg]]:
    names = list(node.named_arguments)
    given = dict(zip(names, node.args, strict=False))
    if op != node.op:  # split, chunk -> split_with_sizes: all positional
        merged = {**given, **node.kwargs, **changed}
        return tuple(merged[name] for name in argument_names(op) if name in merged), {}
    args = tuple(changed.get(name, arg) for name, arg in given.items())
    return args, {**node.kwargs, **{k: arg for k, arg in changed.items() if k not in given}}


def _convolution(edit: ResolvedEdit, node: Node, args: Arguments) -> Change:
    """Convolution groups that were dropped whole; those that keep a part of each stay as many."""
    groups = cast("int", args["groups"])
    weight = edit.channels.labels(args["weight"])
    out, inner = weight[0], weight[1]
    if groups == 1 or out is None or (inner is not None and inner.ndim > 1):
        return node.op, {}
    return node.op, {"groups": edit.whole(out, groups)}


def _group_norm(edit: ResolvedEdit, node: Node, args: Arguments) -> Change:
    groups = cast("int", args["num_groups"])
    channels = edit.channels.labels(args["input"])[1]
    return node.op, {} if channels is None else {"num_groups": edit.whole(channels, groups)}


def _attention(edit: ResolvedEdit, node: Node, args: Arguments) -> Change:
    """Write out the default scale, which depends on the size of a head before the edit."""
    along = edit.channels.labels(args["query"])[-1]
    if args["scale"] is not None or along is None:
        return node.op, {}
    return node.op, {"scale": along.size**-0.5}


def _sizes(edit: ResolvedEdit, node: Node, args: Arguments) -> Change:
    """Sizes of the result's dimensions or of a run of them; computed ones and -1 stay."""
    name, labels = _SIZES[node.family], cast("Labels", edit.channels.values[node.name])
    sizes = cast("tuple[Arg, ...]", args[name])
    first = len(labels) - len(sizes)
    if node.family == "unflatten":
        first = cast("int", args["dim"]) % (first + 1)
    return node.op, {name: _new_sizes(edit, sizes, labels[first : first + len(sizes)])}


def _new_sizes(edit: ResolvedEdit, sizes: tuple[Any, ...], labels: object) -> tuple[Any, ...]:
    pairs = zip(sizes, cast("Labels", labels), strict=True)
    return tuple(
        edit.size(along, size) if isinstance(size, int) and size >= 0 else size
        for size, along in pairs
    )


def _pieces(edit: ResolvedEdit, node: Node, args: Arguments) -> Change:
    labels = edit.channels.labels(args["self"])
    dim = cast("int", args["dim"]) % len(labels)
    if labels[dim] is None:
        return node.op, {}
    value = _new_value(edit, node.value, edit.channels.values[node.name])
    sizes = tuple(info.shape[dim] for info in cast("tuple[TensorInfo, ...]", value))
    return "aten.split_with_sizes.default", {"split_sizes": sizes, "dim": dim}


def _slice(edit: ResolvedEdit, node: Node, args: Arguments) -> Change:
    labels = edit.channels.labels(args["self"])
    dim = cast("int", args["dim"]) % len(labels)
    along = labels[dim]
    computed = isinstance(args["start"], Ref) or isinstance(args["end"], Ref)
    if along is None or args["step"] != 1 or computed:
        return node.op, {}
    start, end, _ = slice(args["start"], args["end"]).indices(along.size)
    before = edit.size(along[:start], start)
    return node.op, {"start": before, "end": before + edit.size(along[start:end], end - start)}


def _pad(edit: ResolvedEdit, node: Node, args: Arguments) -> Change:
    result = cast("Labels", edit.channels.values[node.name])
    new = list(cast("tuple[int, ...]", args["pad"]))
    for pair, (before, after) in enumerate(zip(new[::2], new[1::2], strict=True)):
        along = result[len(result) - 1 - pair]
        if along is not None and (before or after):
            new[2 * pair] = edit.size(along[:before], before)
            new[2 * pair + 1] = edit.size(along[along.size - after :], after)
    return node.op, {"pad": tuple(new)}


_SIZES = {
    "reshape": "shape",
    "expand": "size",
    "unflatten": "sizes",
    "layer_norm": "normalized_shape",
}
_REWRITES: Mapping[str, Rewrite] = MappingProxyType(
    {
        **dict.fromkeys(("convolution", "transposed_convolution"), _convolution),
        **dict.fromkeys(("split", "split_with_sizes", "chunk", "tensor_split"), _pieces),
        **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
        **dict.fromkeys(_SIZES, _sizes),
        "slice": _slice,
        "group_norm": _group_norm,
        "attention": _attention,
    }
)
