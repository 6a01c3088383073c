"""A network with new tensors: literals, shapes and constant indices after an edit."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from nnslim.network.graph import TensorRef, tensor_refs
from nnslim.network.shapes import check_shapes
from nnslim.surgery.indices import kept_index, picked_channels
from nnslim.surgery.literals import rewrite_node

if TYPE_CHECKING:
    from torch import Tensor

    from nnslim.network.graph import Graph, Node
    from nnslim.network.network import Network
    from nnslim.surgery.edit import ResolvedEdit

__all__ = ["rebuilt"]


def rebuilt(network: Network, resolved: ResolvedEdit, tensors: dict[str, Tensor]) -> Network:
    """Rewrite the literals of a network whose tensors have their new shapes already."""
    rewritten = tuple(rewrite_node(resolved, node) for node in network.graph.nodes)
    graph = _with_new_indices(network.graph, rewritten, resolved, tensors)
    used = set(graph.tensor_names())
    tensors = {name: tensor for name, tensor in tensors.items() if name in used}
    check_shapes(graph, tensors)
    return network.with_graph(graph, tensors)


def _with_new_indices(
    old: Graph, new: tuple[Node, ...], resolved: ResolvedEdit, tensors: dict[str, Tensor]
) -> Graph:
    """Put constant indices into dimensions that were cut; a shared one gets a copy per node.

    What moves channels by numbers (a roll, a strided slice) becomes an ``index_select``.
    """
    uses = Counter(ref.name for node in old.nodes for ref in tensor_refs(node.arguments))
    nodes: list[Node] = []
    for before, after in zip(old.nodes, new, strict=True):
        nodes.append(after)
        picked = picked_channels(resolved, before, tensors)
        if picked is None:
            continue
        name = f"nnslim_index.{before.name}"
        device = next(iter(tensors.values())).device
        if picked.given is not None:
            device = tensors[picked.given.name].device
            name = picked.given.name if uses[picked.given.name] == 1 else name
        values = kept_index(resolved, picked.labels, picked.values)
        tensors[name] = torch.from_numpy(values).to(device)
        args = (before.operand, picked.dim, TensorRef(name))
        nodes[-1] = replace(after, op="aten.index_select.default", args=args, kwargs={})
    return old.with_nodes(tuple(nodes))
