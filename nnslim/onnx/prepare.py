"""Rewrites of a graph that only its ONNX export needs."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import torch

from nnslim.network import Network
from nnslim.network.graph import Arg, Node, Ref, TensorRef, map_arg

__all__ = ["with_plain_attention"]

_PLAIN = MappingProxyType({"memory_format": torch.contiguous_format})


def with_plain_attention(network: Network) -> Network:
    """Copy what attention returns, and give it four dimensions, in the graph.

    The exporter decomposes attention into operators that lay out their result in another way than
    the operator itself, and a view that was planned for the one fails on the other. ONNX knows no
    layouts, so the copy is gone from the file.
    """
    nodes: list[Node] = []
    copies: dict[str, str] = {}

    def renamed(arg: Arg) -> Arg:
        return Ref(copies.get(arg.name, arg.name)) if isinstance(arg, Ref) else arg

    for node in network.graph.nodes:
        args = tuple(map_arg(arg, renamed) for arg in node.args)
        kwargs = {key: map_arg(arg, renamed) for key, arg in node.kwargs.items()}
        node = replace(node, args=args, kwargs=kwargs)  # noqa: PLW2901
        if node.family != "attention":
            nodes.append(node)
            continue
        steps = _in_four_dimensions(node)
        last = steps[-1]
        copy = replace(last, name=f"{node.name}.copy", op="aten.clone.default", kwargs=_PLAIN)
        nodes += [*steps, replace(copy, args=(Ref(last.name),))]
        copies[node.name] = copy.name
    if not copies:
        return network
    graph = replace(
        network.graph, nodes=tuple(nodes), output=map_arg(network.graph.output, renamed)
    )
    return Network(graph, network.tensors(), preprocess=network.preprocess, classes=network.classes)


def _in_four_dimensions(node: Node) -> list[Node]:
    """Give attention's operands four dimensions and take them back after: ONNX's has four."""
    extra = len(node.shape) - 4
    masked = node.argument("attn_mask") is not None
    if extra == 0 or (extra > 0 and masked):
        return [node]
    change, undo = ("aten.unsqueeze.default", (0,)), ("aten.squeeze.dims", ((0,),))
    if extra > 0:
        change = ("aten.flatten.using_ints", (0, extra))
        undo = ("aten.unflatten.int", (0, (-1, *node.shape[1 : extra + 1])))
    before: list[Node] = []

    def changed(arg: Arg) -> Arg:
        if not isinstance(arg, (Ref, TensorRef)):
            return arg
        name = f"{node.name}.{len(before)}"
        before.append(replace(node, name=name, op=change[0], args=(arg, *change[1]), kwargs={}))
        return Ref(name)

    args = tuple(changed(arg) for arg in node.args)
    kwargs = {key: changed(arg) for key, arg in node.kwargs.items()}
    inner = replace(node, name=f"{node.name}.four", args=args, kwargs=kwargs)
    after = replace(node, op=undo[0], args=(Ref(inner.name), *undo[1]), kwargs={})
    return [*before, inner, after]
