"""A network with new tensors: literals, shapes and constant indices after an edit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from nnslim.network.graph import Graph, Node, TensorRef, tensor_refs
from nnslim.network.network import Network
from nnslim.network.shapes import check_shapes
from nnslim.surgery.indices import kept_index, labels_of_picked
from nnslim.surgery.literals import rewrite_node

if TYPE_CHECKING:
    from torch import Tensor

    from nnslim.surgery.edit import ResolvedEdit

__all__ = ["rebuilt"]


def rebuilt(network: Network, resolved: ResolvedEdit, tensors: dict[str, Tensor]) -> Network:
    """Rewrite the literals of a network whose tensors have their new shapes already."""
    graph = Graph(
        network.graph.inputs,
        tuple(rewrite_node(resolved, node) for node in network.graph.nodes),
        network.graph.output,
        network.graph.custom,
    )
    graph = _with_new_indices(network.graph, graph, resolved, tensors)
    used = set(graph.tensor_names())
    tensors = {name: tensor for name, tensor in tensors.items() if name in used}
    check_shapes(graph, tensors)
    result = Network(
        graph,
        tensors,
        preprocess=network.preprocess,
        classes=network.classes,
        history=network.history,
        notes=network.notes,
    )
    return result.train(network.training)


def _with_new_indices(
    old: Graph, new: Graph, resolved: ResolvedEdit, tensors: dict[str, Tensor]
) -> Graph:
    """Put constant indices into dimensions that were cut; a shared one gets a copy per node.

    What moves channels by numbers (a roll, a strided slice) becomes an ``index_select``.
    """
    uses = Counter(ref.name for node in old.nodes for ref in tensor_refs(node.arguments))
    nodes: list[Node] = []
    for before, after in zip(old.nodes, new.nodes, strict=True):
        nodes.append(after)
        labels, index = labels_of_picked(resolved, before, tensors)
        if labels is None or index is None:
            continue
        name = f"nnslim_index.{before.name}"
        device = next(iter(tensors.values())).device
        if isinstance(index.given, TensorRef):
            device = tensors[index.given.name].device
            name = index.given.name if uses[index.given.name] == 1 else name
        tensors[name] = torch.from_numpy(kept_index(resolved, labels, index.values)).to(device)
        args = (before.operand, index.dim, TensorRef(name))
        nodes[-1] = replace(after, op="aten.index_select.default", args=args, kwargs={})
    return new.with_nodes(tuple(nodes))
