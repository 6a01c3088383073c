"""The sizes that torch's standard layers keep beside their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd  # pyright: ignore

from nnslim.network.graph import Node, TensorRef
from nnslim.network.network import Network
from nnslim.network.operators import LAYERS

__all__ = ["fit_layers"]

_FAMILIES = LAYERS - {"linear"} | {"batch_norm", "instance_norm", "layer_norm", "group_norm"}


def fit_layers(network: Network, module: nn.Module) -> None:
    """Set the size attributes of every standard layer of a module from its tensors.

    Args:
        network: Says what no tensor says: how many groups a convolution or norm has, and the sizes
            of norms without weights.
        module: Holds the new tensors already.
    """
    nodes = _nodes_by_layer(network)
    for path, layer in module.named_modules():
        _fit(layer, nodes.get(path))


def _nodes_by_layer(network: Network) -> Mapping[str, Node]:
    """The convolution or norm that each layer amounts to: by its weight, else by its module."""
    found: dict[str, Node] = {}
    for node in network.graph.nodes:
        if node.family in _FAMILIES:
            found.setdefault(node.module, node)
            names = [arg.name for arg in node.arguments if isinstance(arg, TensorRef)]
            for name in names[:1]:
                found[name.rpartition(".")[0]] = node
    return found


def _argument(node: Node | None, name: str) -> object:
    return None if node is None else node.named_arguments.get(name)


def _fit(layer: nn.Module, node: Node | None) -> None:
    weight = getattr(layer, "weight", None)
    shape = cast("tuple[int, ...]", () if weight is None else tuple(weight.shape))
    groups = _argument(node, "groups")
    match layer:
        case _ConvTransposeNd():
            layer.groups = groups if isinstance(groups, int) else layer.groups
            layer.in_channels, layer.out_channels = shape[0], shape[1] * layer.groups
        case _ConvNd():
            layer.groups = groups if isinstance(groups, int) else layer.groups
            layer.in_channels, layer.out_channels = shape[1] * layer.groups, shape[0]
        case nn.Linear():
            layer.out_features, layer.in_features = shape
        case nn.Embedding():
            layer.num_embeddings, layer.embedding_dim = shape
        case nn.PReLU():
            layer.num_parameters = shape[0]
        case _NormBase():
            known = weight if weight is not None else layer.running_mean
            layer.num_features = layer.num_features if known is None else len(known)
        case nn.GroupNorm():
            count = _argument(node, "num_groups")
            layer.num_groups = count if isinstance(count, int) else layer.num_groups
            layer.num_channels = shape[0] if shape else layer.num_channels
        case nn.LayerNorm() | nn.RMSNorm():
            sizes = shape or _argument(node, "normalized_shape")
            layer.normalized_shape = sizes if isinstance(sizes, tuple) else layer.normalized_shape
        case _:
            pass
