"""Rewrites of a graph that only its ONNX export needs."""

from __future__ import annotations

from dataclasses import replace

import torch

from nnslim.network import Network
from nnslim.network.graph import Arg, Node, Ref, map_arg

__all__ = ["with_plain_attention"]

_ATTENTION = "aten.scaled_dot_product_attention.default"


def with_plain_attention(network: Network) -> Network:
    """Copy what attention returns, in the graph.

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
        nodes.append(replace(node, args=args, kwargs=kwargs))
        if node.op == _ATTENTION:
            name = f"{node.name}.copy"
            layout = {"memory_format": torch.contiguous_format}
            nodes.append(
                replace(
                    node, name=name, op="aten.clone.default", args=(Ref(node.name),), kwargs=layout
                )
            )
            copies[node.name] = name
    if not copies:
        return network
    graph = replace(
        network.graph, nodes=tuple(nodes), output=map_arg(network.graph.output, renamed)
    )
    return Network(graph, network.tensors(), preprocess=network.preprocess, classes=network.classes)
