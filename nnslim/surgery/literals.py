"""Literal sizes in a graph, recomputed from the new shapes of a node's inputs and outputs.

One function per kind of literal: ``rewrite(edit, node, args) -> (operator, changed arguments)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeAlias, cast

from nnslim.channels.labels import DimLabels, Labels
from nnslim.channels.walk import Arguments
from nnslim.network.graph import Arg, Node, Ref, TensorInfo, Value
from nnslim.network.operators import argument_names
from nnslim.surgery.edit import ResolvedEdit

__all__ = ["rewrite_node"]

Change: TypeAlias = tuple[str, Mapping[str, Arg]]
Rewrite: TypeAlias = Callable[[ResolvedEdit, Node, Arguments], Change]


def rewrite_node(edit: ResolvedEdit, node: Node) -> Node:
    """Return the node with its literals and its value's shape after the edit."""
    value = _new_value(edit, node)
    rewrite = _REWRITES.get(node.family)
    if rewrite is None:
        return replace(node, value=value)
    op, changed = rewrite(edit, node, node.named_arguments)
    args, kwargs = _with_arguments(node, op, changed)
    return replace(node, op=op, args=args, kwargs=kwargs, value=value)


def _new_value(edit: ResolvedEdit, node: Node) -> Value:
    labels = edit.channels.values[node.name]
    match node.value:
        case TensorInfo():
            return _new_info(edit, node.value, labels)  # pyright: ignore[reportArgumentType]
        case tuple() as infos:
            assert labels is not None
            return tuple(_new_info(edit, i, item) for i, item in zip(infos, labels, strict=True))  # pyright: ignore
        case _:
            return node.value


def _new_info(edit: ResolvedEdit, info: TensorInfo, labels: Labels) -> TensorInfo:
    sizes = tuple(edit.size(along, size) for along, size in zip(labels, info.shape, strict=True))
    return replace(info, shape=sizes)


def _with_arguments(
    node: Node, op: str, changed: Mapping[str, Arg]
) -> tuple[tuple[Arg, ...], dict[str, Arg]]:
    names = list(node.named_arguments)
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    if op != node.op:  # split, chunk -> split_with_sizes: all positional
        merged = given | dict(changed)
        return tuple(merged[name] for name in argument_names(op) if name in merged), {}
    args = tuple(changed.get(name, arg) for name, arg in zip(names, node.args, strict=False))
    kwargs = dict(node.kwargs) | {
        key: arg for key, arg in changed.items() if key not in names[: len(node.args)]
    }
    return args, kwargs


def _convolution(edit: ResolvedEdit, node: Node, args: Arguments) -> Change:
    """Convolution groups that were dropped whole; those that keep a part of each stay as many."""
    groups = int(args["groups"])  # pyright: ignore[reportArgumentType]
    weight = edit.channels.labels(args["weight"])
    out, inner = weight[0], weight[1]
    if groups == 1 or out is None or (inner is not None and inner.ndim > 1):
        return node.op, {}
    return node.op, {"groups": edit.whole(out, groups)}


def _group_norm(edit: ResolvedEdit, node: Node, args: Arguments) -> Change:
    groups = int(args["num_groups"])  # pyright: ignore[reportArgumentType]
    channels = edit.channels.labels(args["input"])[1]
    return node.op, {} if channels is None else {"num_groups": edit.whole(channels, groups)}


def _attention(edit: ResolvedEdit, node: Node, args: Arguments) -> Change:
    """Write out the default scale, which depends on the size of a head before the edit."""
    along = edit.channels.labels(args["query"])[-1]
    if args["scale"] is not None or along is None:
        return node.op, {}
    return node.op, {"scale": along.size**-0.5}


def _sizes(name: str) -> Rewrite:
    """Literal sizes of the node's output; computed sizes and -1 stay as they are."""

    def rewrite(edit: ResolvedEdit, node: Node, args: Arguments) -> Change:
        return node.op, {name: _new_sizes(edit, args[name], edit.channels.values[node.name])}

    return rewrite


def _unflatten(edit: ResolvedEdit, node: Node, args: Arguments) -> Change:
    sizes, labels = args["sizes"], edit.channels.values[node.name]
    assert isinstance(sizes, tuple)
    assert isinstance(labels, tuple)
    rank = len(labels) - len(sizes) + 1
    first = int(args["dim"]) % rank  # pyright: ignore[reportArgumentType]
    return node.op, {"sizes": _new_sizes(edit, sizes, labels[first : first + len(sizes)])}


def _new_sizes(edit: ResolvedEdit, sizes: Arg, labels: object) -> tuple[Arg, ...]:
    pairs = zip(cast("tuple[Arg, ...]", sizes), cast("Labels", labels), strict=True)
    return tuple(
        edit.size(along, size) if isinstance(size, int) and size >= 0 else size
        for size, along in pairs
    )


def _pieces(edit: ResolvedEdit, node: Node, args: Arguments) -> Change:
    labels, pieces = edit.channels.labels(args["self"]), edit.channels.values[node.name]
    dim = int(args["dim"]) % len(labels)  # pyright: ignore[reportArgumentType]
    if labels[dim] is None:
        return node.op, {}
    assert isinstance(pieces, tuple)
    assert isinstance(node.value, tuple)
    sizes = tuple(
        edit.size(piece[dim], info.shape[dim])  # pyright: ignore
        for piece, info in zip(pieces, node.value, strict=True)
    )
    return "aten.split_with_sizes.default", {"split_sizes": sizes, "dim": dim}


def _slice(edit: ResolvedEdit, node: Node, args: Arguments) -> Change:
    labels = edit.channels.labels(args["self"])
    dim = int(args["dim"]) % len(labels)  # pyright: ignore[reportArgumentType]
    along = labels[dim]
    if (
        along is None
        or args["step"] != 1
        or isinstance(args["start"], Ref)
        or isinstance(args["end"], Ref)
    ):
        return node.op, {}
    start, end, _ = slice(args["start"], args["end"]).indices(along.size)
    before = edit.size(along[:start], start)
    return node.op, {"start": before, "end": before + edit.size(along[start:end], end - start)}


def _pad(edit: ResolvedEdit, node: Node, args: Arguments) -> Change:
    source, result = edit.channels.labels(args["self"]), edit.channels.values[node.name]
    amounts = args["pad"]
    assert isinstance(amounts, tuple)
    assert isinstance(result, tuple)
    new = list(amounts)
    for pair in range(len(amounts) // 2):
        dim = len(source) - 1 - pair
        along: DimLabels = result[dim]  # pyright: ignore[reportAssignmentType]
        before, after = int(amounts[2 * pair]), int(amounts[2 * pair + 1])  # pyright: ignore
        if along is not None and (before or after):
            new[2 * pair] = edit.size(along[:before], before)
            new[2 * pair + 1] = edit.size(along[along.size - after :], after)
    return node.op, {"pad": tuple(new)}


def _normalized_shape(edit: ResolvedEdit, node: Node, args: Arguments) -> Change:
    shape = args["normalized_shape"]
    assert isinstance(shape, tuple)
    labels = edit.channels.labels(args["input"])[-len(shape) :]
    return node.op, {"normalized_shape": _new_sizes(edit, shape, labels)}


_REWRITES: Mapping[str, Rewrite] = MappingProxyType(
    {
        **dict.fromkeys(("convolution", "transposed_convolution"), _convolution),
        **dict.fromkeys(("split", "split_with_sizes", "chunk", "tensor_split"), _pieces),
        **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
        "reshape": _sizes("shape"),
        "expand": _sizes("size"),
        "unflatten": _unflatten,
        "slice": _slice,
        "layer_norm": _normalized_shape,
        "group_norm": _group_norm,
        "attention": _attention,
    }
)
