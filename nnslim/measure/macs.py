"""Multiply-accumulates of a network, read off its graph without running it.

Convolutions and linear layers are counted, one multiply-add each, per image. Twice this number
is what others call FLOPs.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from nnslim.network.graph import BATCH, TensorInfo
from nnslim.network.network import Network

__all__ = ["Costs", "MacCount", "count_costs", "count_macs", "weighted_positions"]

_PRODUCTS = ("matmul", "addmm", "einsum", "attention")


@dataclass(frozen=True)
class MacCount:
    """MACs per image of each convolution and linear layer, by node name.

    Products of two activations, which have no weight to count, are ``not_counted``: their places.
    """

    by_node: dict[str, int]
    not_counted: tuple[str, ...]

    @property
    def total(self) -> int:
        """MACs of all counted nodes."""
        return sum(self.by_node.values())


@dataclass(frozen=True)
class Costs:
    """Parameter entries, multiply-accumulates per image, bytes of all parameters and buffers."""

    params: int
    macs: int
    bytes: int

    @property
    def size(self) -> int:
        """The bytes, by the name of the budget that limits them."""
        return self.bytes


def weighted_positions(network: Network) -> dict[str, tuple[str, int]]:
    """For each convolution and linear node: its weight, and how often each entry is used per image.

    Example:
        >>> import torch; from torch import nn; from nnslim.network import trace_network
        >>> net = trace_network(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.zeros(2, 3, 8, 8))
        >>> weighted_positions(net)
        {'conv2d': ('0.weight', 36)}
    """
    result: dict[str, tuple[str, int]] = {}
    for node in network.graph.nodes:
        weight = node.layer_weight
        if weight is None:
            continue
        if node.family == "transposed_convolution":
            source = network.graph.info(node.operand.name)  # pyright: ignore
            assert isinstance(source, TensorInfo)
            result[node.name] = (weight, _per_image(source.shape[2:]))
        elif node.family == "convolution":
            result[node.name] = (weight, _per_image(node.shape[2:]))
        else:
            result[node.name] = (weight, _per_image(node.shape[:-1]))
    return result


def _per_image(sizes: tuple[int, ...]) -> int:
    total = prod(sizes)
    return total // BATCH if total % BATCH == 0 else total


def count_macs(network: Network) -> MacCount:
    """Count the multiply-accumulates per image of convolutions and linear layers."""
    by_node = {
        name: positions * network.tensor(weight).numel()
        for name, (weight, positions) in weighted_positions(network).items()
    }
    missed = tuple(node.place for node in network.graph.nodes if node.family in _PRODUCTS)
    return MacCount(by_node, missed)


def count_costs(network: Network) -> Costs:
    """Return parameters, MACs and bytes of a network."""
    return Costs(
        params=network.n_parameters,
        macs=count_macs(network).total,
        bytes=sum(t.numel() * t.element_size() for t in network.tensors().values()),
    )
