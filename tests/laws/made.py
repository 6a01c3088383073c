"""Ingredients of the law tests: statistics that hide nothing, and random edits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from nnslim.surgery import PLANT, Edit

if TYPE_CHECKING:
    from nnslim.channels import ChannelGroup, ChannelMap
    from nnslim.channels.labels import IntArray

__all__ = ["choose", "half_edit", "move_statistics", "random_edit", "random_planting"]


def move_statistics(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every norm its own mean, variance, scale and shift, and every bias a value, in place.

    A fresh batch norm is the identity up to one factor, and hides most mistakes of a cut.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(size: torch.Size) -> torch.Tensor:
        return torch.randn(size, generator=generator)

    for name, buffer in module.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.3 * normal(buffer.shape))
        elif name.endswith("running_var"):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    for name, parameter in module.named_parameters():
        # Vectors, whatever their shape: a layer scale of (C, 1, 1) starts near zero.
        if parameter.dim() and parameter.numel() == max(parameter.shape):
            centre = 0.2 if name.endswith("bias") else 1.0
            parameter.data.copy_(centre + 0.3 * normal(parameter.shape))
    return module.eval()


def random_edit(channels: ChannelMap, seed: int, *, least: int = 1) -> Edit:
    """Keep from ``least`` to all channels of every group, at random, but not everything."""
    generator = np.random.default_rng(seed)
    keep = {}
    for group in channels.prunable:
        size = int(generator.integers(min(least, group.width), group.width + 1))
        keep[group.name] = choose(generator, group, size)
    wide = [group for group in channels.prunable if group.width > least]
    if wide and all(len(keep[group.name]) == group.width for group in wide):
        keep[wide[0].name] = choose(generator, wide[0], wide[0].width - 1)
    return Edit(keep)


def half_edit(channels: ChannelMap, seed: int, statuses: tuple[str, ...] = ("free",)) -> Edit:
    """Keep a random half of every group of the given statuses."""
    generator = np.random.default_rng(seed)
    return Edit(
        {
            group.name: choose(generator, group, max(1, group.width // 2))
            for group in channels.groups
            if group.status in statuses
        }
    )


def choose(generator: np.random.Generator, group: ChannelGroup, size: int) -> IntArray:
    """Choose at most so many channels, the same number of each part and at least one."""
    parts = group.by_part
    each = max(1, size // len(parts))
    return np.sort(np.concatenate([generator.choice(p, each, replace=False) for p in parts]))


def random_planting(channels: ChannelMap, seed: int) -> Edit:
    """Plant from no to three channels into every free group, anywhere, as many into each part."""
    generator = np.random.default_rng(seed)
    lists: dict[str, IntArray] = {}
    free = [group for group in channels.groups if group.status == "free"]
    for number, group in enumerate(free):
        parts = group.by_part
        n = int(generator.integers(int(number == 0), 4))
        times = np.zeros(group.width, dtype=np.int64)
        for part in parts:
            np.add.at(times, generator.choice(part, n), 1)
        lists[group.name] = np.concatenate([[i, *[PLANT] * times[i]] for i in range(group.width)])
    return Edit(lists)
