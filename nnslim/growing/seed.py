"""The seed: the graph of the teacher, narrowed in every group."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from nnslim.channels import channel_groups
from nnslim.errors import ConfigError, InputError
from nnslim.measure.cost_model import CostModel
from nnslim.network.graph import TensorRef
from nnslim.network.operators import BATCH_NORM_TENSORS
from nnslim.settings.budget import Limit
from nnslim.surgery import Edit, apply_edit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nnslim.channels import ChannelGroup
    from nnslim.channels.labels import IntArray
    from nnslim.data import Data
    from nnslim.network.network import Network
    from nnslim.settings.budget import Metric
    from nnslim.settings.grow import GrowConfig

__all__ = [
    "check_fit",
    "check_images",
    "first_channels",
    "kaiming_",
    "narrowed",
    "reset",
    "unplanted",
    "widest",
]

# A dimension of size 1 broadcasts, and cannot be told apart from a channel any more.
_NARROWEST = 2
_STEPS = 200
# Of the seed, where no counted budget says how wide it may be.
_UNCOUNTED_WIDTH = Limit(0.125, relative=True)


def unplanted(teacher: Network, config: GrowConfig, limits: Mapping[Metric, int]) -> Network:
    """Return the narrowed teacher that a run plants into, see ``SeedConfig``; untrained.

    The limits are what the grown network may have at most.

    Example:
        >>> from torch import nn; from nnslim.network import trace_network
        >>> from nnslim.growing import GrowConfig
        >>> from nnslim.settings.resolve import resolved
        >>> model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 4, 1))
        >>> net = trace_network(model, torch.zeros(2, 3, 8, 8))
        >>> unplanted(net, resolved(GrowConfig()), {"params": 68}).tensor("0.weight").shape
        torch.Size([2, 3, 1, 1])
    """
    seed = config.seed_network
    if seed.width is not None:
        return narrowed(teacher, seed.width)
    share = 1.0 if seed.share is None else seed.share
    few: dict[Metric, int] = {metric: int(share * most) for metric, most in limits.items()}
    return narrowed(teacher, widest(teacher, few) if few else _UNCOUNTED_WIDTH)


def narrowed(teacher: Network, width: Limit) -> Network:
    """Return a copy of the teacher with fewer channels in every group that can be planted into.

    The width is a share of each group or a number; at least 2 channels (of each part) stay.

    Example:
        >>> from torch import nn; from nnslim.network import trace_network
        >>> from nnslim.settings.budget import Limit
        >>> model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 3))
        >>> net = trace_network(model, torch.zeros(2, 3, 8, 8))
        >>> narrowed(net, Limit(0.25, relative=True)).tensor("2.weight").shape
        torch.Size([4, 4, 3, 3])
    """
    channels = channel_groups(teacher)
    kept = {g.name: first_channels(g, width.of(g.width)) for g in channels.free}
    return apply_edit(teacher, Edit(kept), channels)


def widest(teacher: Network, limits: Mapping[Metric, int]) -> Limit:
    """Return the largest width, in steps of half a percent, whose ``narrowed`` keeps to the limits.

    Where none does, the smallest.

    Example:
        >>> from torch import nn; from nnslim.network import trace_network
        >>> model = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 4, 1))
        >>> net = trace_network(model, torch.zeros(2, 3, 8, 8))
        >>> widest(net, {"params": 68})  # 8 channels: 8 * 3 + 8 + 4 * 8 + 4
        Limit(amount=0.56, relative=True)
    """
    channels = channel_groups(teacher)
    model = CostModel(teacher, channels)
    widths = [Limit(step / _STEPS, relative=True) for step in range(1, _STEPS + 1)]

    def fits(width: Limit) -> bool:
        widths = {g.name: len(first_channels(g, width.of(g.width))) for g in channels.free}
        costs = model.costs(widths)
        return all(cast("int", getattr(costs, metric)) <= most for metric, most in limits.items())

    return max(filter(fits, widths), key=lambda width: width.amount, default=widths[0])


def first_channels(group: ChannelGroup, width: int) -> IntArray:
    """Return the first channels of a group, or of each part: so many, rounded, at least 2."""
    parts = group.by_part
    each = parts.shape[1]
    wanted = round(width / len(parts))
    return np.sort(parts[:, : min(max(wanted, _NARROWEST), each)].ravel())


def reset(network: Network, seed: int) -> Network:
    """Give a network fresh weights and batch norm statistics, in place.

    Convolutions and linear layers are drawn as ``kaiming_`` does, their biases are 0, batch norms
    the identity. Parameters of no layer, such as position embeddings, stay as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for node in network.graph.nodes:
            tensors = {
                name: network.tensor(arg.name)
                for name, arg in node.named_arguments.items()
                if isinstance(arg, TensorRef)
            }
            if node.layer_weight is not None:
                weight = tensors["weight"]
                kaiming_(weight, weight.shape[1:].numel(), generator)
                if "bias" in tensors:
                    tensors["bias"].zero_()
            elif node.family == "batch_norm":
                for name, value in zip(BATCH_NORM_TENSORS, (1.0, 0.0, 0.0, 1.0), strict=True):
                    if name in tensors:
                        tensors[name].fill_(value)
    return network


def kaiming_(weight: Tensor, fan_in: int, generator: torch.Generator) -> Tensor:
    """Fill with normal numbers of variance 2 / fan-in (He et al., 2015), in place."""
    drawn = torch.randn(weight.shape, generator=generator) * math.sqrt(2.0 / max(fan_in, 1))
    return weight.copy_(drawn.to(weight))


def check_images(teacher: Network, data: Data) -> None:
    """Refuse a teacher of images of another size than those in memory; files are resized.

    Raises:
        InputError: Says both sizes.
    """
    images, wanted = data.train.images, tuple(teacher.input_shape[1:])
    if images is not None and images.shape[1:3] != wanted:
        size, takes = ("x".join(map(str, size)) for size in (images.shape[1:3], wanted))
        raise InputError(
            f"the images of {data.name} are {size} pixels, the teacher takes {takes}",
            hint="give images of its size, or the teacher of these",
        )


def check_fit(seed: Network, teacher: Network) -> None:
    """Refuse a seed and a teacher that do not see or name the same things.

    Raises:
        InputError: They differ in classes, input size or normalisation; says both.
    """
    if seed.n_classes != teacher.n_classes:
        raise InputError(f"the seed has {seed.n_classes} classes, the teacher {teacher.n_classes}")
    if seed.input_shape != teacher.input_shape:
        shape, takes = ("x".join(map(str, n.input_shape)) for n in (seed, teacher))
        raise InputError(f"the seed takes images of {shape}, the teacher of {takes}")
    one, two = seed.preprocess, teacher.preprocess
    if one is None:
        return
    if two is None:
        raise InputError(
            f"the seed's images are normalised by {one.mean} and {one.std}, and it is not known how"
            " the teacher's are",
            hint="give [[preprocess.mean]] and [[preprocess.std]]",
        )
    if (one.mean, one.std) != (two.mean, two.std):
        raise ConfigError(
            f"the seed's images are normalised by {one.mean} and {one.std}, the teacher's by"
            f" {two.mean} and {two.std}",
            hint="give the right [[preprocess.mean]] and [[preprocess.std]]",
        )
