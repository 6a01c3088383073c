"""``apply_edit``: the one function that changes a network's widths. It decides nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from nnslim.channels import ChannelMap, channel_groups
from nnslim.channels.labels import IntArray, Labels
from nnslim.network.graph import Graph, Node, TensorRef, tensor_refs
from nnslim.network.network import Network
from nnslim.network.shapes import check_shapes
from nnslim.surgery.edit import Cut, Edit, resolve_edit
from nnslim.surgery.indices import kept_index, labels_of_picked
from nnslim.surgery.literals import rewrite_node

__all__ = ["apply_edit", "cut_network"]


def apply_edit(network: Network, edit: Edit, channels: ChannelMap | None = None) -> Network:
    """Return a new network with only the kept channels; the given one is left alone.

    Args:
        network: Any network.
        edit: Kept channels by group.
        channels: The network's groups, if they are known already.

    Returns:
        A network with sliced tensors, rewritten literals and no trace of the removed channels.

    Raises:
        ConfigError: The edit does not fit the groups.

    Example:
        >>> import numpy as np; from nnslim.network import trace_network
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        >>> net = trace_network(model, torch.zeros(2, 3, 8, 8))
        >>> apply_edit(net, Edit({"0": np.array([1, 5])})).tensor("2.weight").shape
        torch.Size([4, 2, 3, 3])
    """
    channels = channel_groups(network) if channels is None else channels
    return cut_network(network, resolve_edit(channels, edit))


def cut_network(network: Network, cut: Cut) -> Network:
    """Rewrite tensors and literals for a resolved edit."""
    graph = Graph(
        network.graph.inputs,
        tuple(rewrite_node(cut, node) for node in network.graph.nodes),
        network.graph.output,
        network.graph.custom,
    )
    tensors = {
        name: _slice(tensor, cut, cut.channels.tensors.get(name))
        for name, tensor in network.tensors().items()
    }
    graph = _with_new_indices(network.graph, graph, cut, tensors)
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


def _slice(tensor: Tensor, cut: Cut, labels: Labels | None) -> Tensor:
    """The kept entries of a tensor, as a copy of the same kind."""
    result = tensor.detach()
    # Dimension 1 may differ from one run of rows to the next, so it goes before the rows do.
    for dim, own in reversed(list(enumerate(labels or ()))):
        if own is not None and own.ndim > 1:
            result = _slice_blocks(result, cut, own)
            continue
        kept = cut.kept(own)
        if kept is not None and len(kept) < tensor.shape[dim]:
            result = result.index_select(dim, torch.from_numpy(kept).to(tensor.device))
    result = result.clone() if result.data_ptr() == tensor.data_ptr() else result
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(result, requires_grad=tensor.requires_grad)
    return result


def _slice_blocks(weight: Tensor, cut: Cut, labels: IntArray) -> Tensor:
    """Keep other entries of dimension 1 in each equal run of rows; the same number in all."""
    blocks = len(labels)
    kept = np.nonzero(cut.alive[cut.channels.component[labels]])[1].reshape(blocks, -1)
    rows = torch.from_numpy(kept).to(weight.device).repeat_interleave(len(weight) // blocks, 0)
    return weight.take_along_dim(rows.view(*rows.shape, *[1] * (weight.dim() - 2)), dim=1)


def _with_new_indices(old: Graph, new: Graph, cut: Cut, tensors: dict[str, Tensor]) -> Graph:
    """Put constant indices into dimensions that were cut; a shared one gets a copy per node.

    What moves channels by numbers (a roll, a strided slice) becomes an ``index_select``.
    """
    uses = Counter(ref.name for node in old.nodes for ref in tensor_refs(node.arguments))
    nodes: list[Node] = []
    for before, after in zip(old.nodes, new.nodes, strict=True):
        nodes.append(after)
        labels, index = labels_of_picked(cut, before, tensors)
        if labels is None or index is None:
            continue
        name = f"nnslim_index.{before.name}"
        device = next(iter(tensors.values())).device
        if isinstance(index.given, TensorRef):
            device = tensors[index.given.name].device
            name = index.given.name if uses[index.given.name] == 1 else name
        tensors[name] = torch.from_numpy(kept_index(cut, labels, index.values)).to(device)
        args = (before.args[0], index.dim, TensorRef(name))
        nodes[-1] = replace(after, op="aten.index_select.default", args=args, kwargs={})
    return new.with_nodes(tuple(nodes))
