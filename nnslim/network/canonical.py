"""Rewrites of a fresh trace that change no value: fewer operator forms for everything that follows.

1. ``view`` becomes ``reshape``, which also accepts ``channels_last`` memory, a ``squeeze`` of
   whatever has size 1 names its dimensions, so that a width cut to 1 is not squeezed away, and
   second names of an operator become the first.
2. A channel shuffle, also as a view, permute, view that only permutes one dimension, becomes one
   ``index_select`` with a constant index, so that its channels can be followed one by one.
3. An index by a list names its constant, so that an edit can rewrite it.
4. Nodes without users and without effect are dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias, cast

import torch
from torch import Tensor

from nnslim.network.graph import BATCH, Arg, Graph, Node, Ref, TensorInfo, TensorRef, dims_of, refs
from nnslim.network.operators import is_in_place

__all__ = ["canonicalise"]

_RESHAPES = ("reshape", "flatten")
_PERMUTES = ("permute", "transpose")
_SHUFFLES = ("channel_shuffle", "native_channel_shuffle")
_COPIES = ("contiguous", "clone")


def canonicalise(graph: Graph) -> tuple[Graph, Mapping[str, Tensor]]:
    """Return the rewritten graph and the constant tensors that it newly uses."""
    graph = graph.with_nodes(tuple(_one_form(graph, node) for node in graph.nodes))
    graph = _name_constant_indices(graph)
    graph, constants = _rewrite_shuffles(graph)
    return _drop_dead(graph), constants


def _one_form(graph: Graph, node: Node) -> Node:
    if node.op == "aten.view.default":
        return replace(node, op="aten.reshape.default")
    if node.op == "aten.true_divide.Tensor":
        return replace(node, op="aten.div.Tensor")
    source = node.operand
    if node.op == "aten.mT.default":
        return replace(node, op="aten.transpose.int", args=(source, -2, -1))
    if node.family == "squeeze" and isinstance(source, Ref):
        info = graph.info(source.name)
        assert isinstance(info, TensorInfo)
        asked = dims_of(node.named_arguments.get("dim"), len(info.shape))
        dims = tuple(dim for dim in asked if info.shape[dim] == 1)
        return replace(node, op="aten.squeeze.dims", args=(source, dims), kwargs={})
    return node


def _name_constant_indices(graph: Graph) -> Graph:
    """Let ``x[:, [2, 0, 1]]`` refer to its constant itself, not to a fresh copy of it."""
    copies: dict[str, TensorRef] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.family == "lift_fresh_copy" and isinstance(node.operand, TensorRef):
            copies[node.name] = node.operand
        if node.family == "index":
            named = (
                copies.get(entry.name, entry) if isinstance(entry, Ref) else entry
                for entry in cast("tuple[Arg, ...]", node.argument("indices"))
            )
            nodes.append(replace(node, args=(node.operand, tuple(named))))
            continue
        if is_in_place(node.op):
            copies = {n: ref for n, ref in copies.items() if Ref(n) not in refs(node.arguments)}
        nodes.append(node)
    return graph.with_nodes(tuple(nodes))


# What is shuffled, along which dimension, and where each entry comes from.
_Shuffle: TypeAlias = tuple[Ref, int, Tensor]


def _rewrite_shuffles(graph: Graph) -> tuple[Graph, Mapping[str, Tensor]]:
    uses = Counter(ref.name for node in graph.nodes for ref in refs(node.arguments))
    constants: dict[str, Tensor] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        shuffle = _find_shuffle(graph, node, uses)
        if shuffle is None:
            nodes.append(node)
            continue
        name = f"nnslim_index.{node.name}"
        source, dim, constants[name] = shuffle
        args: tuple[Arg, ...] = (source, dim, TensorRef(name))
        nodes.append(replace(node, op="aten.index_select.default", args=args, kwargs={}))
    return graph.with_nodes(tuple(nodes)), constants


def _find_shuffle(graph: Graph, last: Node, uses: Mapping[str, int]) -> _Shuffle | None:
    """Match a channel shuffle, or reshape(copy?(permute(reshape(source)))) that amounts to one."""
    if last.family in _SHUFFLES and isinstance(last.operand, Ref):
        groups = cast("int", last.argument("groups"))
        index = torch.arange(last.shape[1]).view(groups, -1).t().reshape(-1)
        return last.operand, 1, index
    return _find_viewed_shuffle(graph, last, uses) if last.family in _RESHAPES else None


def _find_viewed_shuffle(graph: Graph, last: Node, uses: Mapping[str, int]) -> _Shuffle | None:
    permute = _only_producer(graph, last, uses)
    if permute is not None and permute.family in _COPIES:
        permute = _only_producer(graph, permute, uses)
    if permute is None or permute.family not in _PERMUTES:
        return None
    first = _only_producer(graph, permute, uses)
    if first is None or first.family not in _RESHAPES:
        return None
    source = first.operand
    if not isinstance(source, Ref) or _written_between(graph, first, last):
        return None
    info = graph.info(source.name)
    if not isinstance(info, TensorInfo) or info.shape != last.shape:
        return None
    order = permute.permutation(len(first.shape))
    return _one_dimension(source, info.shape, first.shape, order)


def _only_producer(graph: Graph, node: Node, uses: Mapping[str, int]) -> Node | None:
    ref = node.operand
    if isinstance(ref, Ref) and uses[ref.name] == 1:
        return graph.by_name.get(ref.name)
    return None


def _written_between(graph: Graph, first: Node, last: Node) -> bool:
    """Whether something may be overwritten between the read of the source and its only use."""
    names = [node.name for node in graph.nodes]
    between = graph.nodes[names.index(first.name) : names.index(last.name)]
    return any(is_in_place(node.op) for node in between)


def _one_dimension(
    source: Ref, shape: tuple[int, ...], split: tuple[int, ...], order: tuple[int, ...]
) -> _Shuffle | None:
    """The shuffle, where one dimension is split into several, of which only the order changes."""
    n = len(split) - len(shape) + 1
    for dim, size in enumerate(shape if n > 1 else ()):
        pieces, middle = split[dim : dim + n], order[dim : dim + n]
        splits_one = split == (*shape[:dim], *pieces, *shape[dim + 1 :])
        moves_none = order == (*range(dim), *middle, *range(dim + n, len(split)))
        if splits_one and moves_none and size % BATCH != 0:
            moved = torch.arange(size).reshape(pieces).permute([d - dim for d in middle])
            return source, dim, moved.reshape(-1)
    return None


def _drop_dead(graph: Graph) -> Graph:
    needed = {ref.name for ref in refs(graph.output)}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.name in needed or is_in_place(node.op):
            kept.append(node)
            needed |= {ref.name for ref in refs(node.arguments)}
    return graph.with_nodes(tuple(reversed(kept)))
