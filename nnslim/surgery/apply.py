"""``apply_edit``: the one function that changes a network's widths. It decides nothing."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nnslim.channels import ChannelMap, channel_groups
from nnslim.channels.labels import Labels
from nnslim.network.graph import Graph, Ref, TensorRef
from nnslim.network.network import Network
from nnslim.network.shapes import check_shapes
from nnslim.surgery.edit import Cut, Edit, resolve_edit
from nnslim.surgery.literals import kept_index, labels_of, rewrite_node

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
    )
    tensors = {
        name: _slice(tensor, cut, cut.channels.tensors.get(name))
        for name, tensor in network.tensors().items()
    }
    tensors.update(_indices(network.graph, cut, tensors))
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
    for dim, own in enumerate(labels or ()):
        kept = cut.kept(own)
        if kept is not None and len(kept) < tensor.shape[dim]:
            result = result.index_select(dim, torch.from_numpy(kept).to(tensor.device))
    result = result.clone() if result.data_ptr() == tensor.data_ptr() else result
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(result, requires_grad=tensor.requires_grad)
    return result


def _indices(graph: Graph, cut: Cut, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Constant indices into dimensions that were cut."""
    changed: dict[str, Tensor] = {}
    for node in graph.nodes:
        if node.op != "aten.index_select.default":
            continue
        source, dim, index = node.args[:3]
        if not isinstance(index, TensorRef) or not isinstance(source, (Ref, TensorRef)):
            continue
        labels = labels_of(cut, source)[dim]  # pyright: ignore
        if labels is not None:
            old = tensors[index.name]
            new = kept_index(cut, labels, old.cpu().numpy())
            assert index.name not in changed, f"{index.name} is shared by two index_selects"
            changed[index.name] = torch.from_numpy(new).to(old.device, old.dtype)
    return changed
