"""How much each channel matters: measured, estimated to first order, or read off the weights.

A removal is tried in place and undone (``nnslim.pruning.scores.removal``): no network is built.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nnslim.channels.magnitude import sum_per_channel
from nnslim.channels.places import reading_places
from nnslim.pruning.scores.contribution import enter
from nnslim.pruning.scores.removal import find_reading
from nnslim.pruning.scores.replay import Replay
from nnslim.pruning.scores.streamline import streamlined

if TYPE_CHECKING:
    from nnslim.channels import ChannelMap
    from nnslim.network.network import Network
    from nnslim.pruning.scores.contribution import Layer
    from nnslim.pruning.scores.removal import Reading

__all__ = ["measured", "taylor"]

Batch = tuple[Tensor, Tensor]
Scores = dict[str, np.ndarray]


def taylor(network: Network, channels: ChannelMap, batches: Iterable[Batch]) -> Scores:
    """First-order estimate of the loss increase: squared sum of gradient times incoming slice.

    The estimate of Molchanov et al. (CVPR 2019), summed over batches; its first order is exactly
    that of the removal that ``measured`` tries.
    """
    scores: Scores = {group.name: np.zeros(group.width) for group in channels.prunable}
    network = copy.deepcopy(network).eval()
    # A channel that only a sum reads has no incoming slices; its own filters stand in for them.
    slices = {g.name: g.incoming or g.outgoing or g.members for g in channels.prunable}
    device = next(network.parameters()).device
    names = sorted({m.tensor for members in slices.values() for m in members})
    if not names:
        return scores
    tensors = [network.tensor(name).requires_grad_() for name in names]
    for images, labels in batches:
        loss = F.cross_entropy(_logits(network(images.to(device))), labels.to(device))
        gradients = dict(zip(names, torch.autograd.grad(loss, tensors), strict=True))
        for group in channels.prunable:
            product = np.zeros(group.width)
            for member in slices[group.name]:
                weight, gradient = network.tensor(member.tensor).detach(), gradients[member.tensor]
                product += sum_per_channel(weight * gradient, member)
            scores[group.name] += product**2
    return scores


def measured(
    network: Network,
    channels: ChannelMap,
    batches: Iterable[Batch],
    criterion: Literal["loss", "logits"],
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Measure what the removal of each single channel does, exactly, on the given samples.

    Args:
        network: The dense network; it is not changed.
        channels: Its groups.
        batches: Samples: images ``(N, C, H, W)`` and labels ``(N,)``.
        criterion: ``loss`` is the increase of the mean cross-entropy (Mitsuno & Kurita, SMC 2020,
            name this criterion); ``logits`` the mean squared change of the logits.
        progress: Called with the channels done so far and in all.

    Returns:
        Scores by name of every group that is not frozen, ``(width,)``. They are those of the naive
        loop (zero the channel's incoming slices, run the whole network) to 1e-9 in float64; in
        float32 as close to them as the naive loop itself (docs/results/saliency-speed.md).

    Example:
        >>> from torch import nn; from nnslim.channels import channel_groups
        >>> from nnslim.network import trace_network
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten(), nn.Linear(4, 2))
        >>> network = trace_network(model, torch.zeros(2, 3, 8, 8))
        >>> batch = torch.randn(5, 3, 8, 8), torch.zeros(5, dtype=torch.long)
        >>> measured(network, channel_groups(network), [batch], "logits")["0"].shape
        (4,)
    """
    scores: Scores = {group.name: np.zeros(group.width) for group in channels.prunable}
    fast = streamlined(network)
    readings = _in_order(network, fast, channels)
    device = next(network.parameters()).device
    batches = list(batches)
    total = len(batches) * sum(r.group.width for _, same in readings for r in same)
    n_samples, done = sum(len(labels) for _, labels in batches), 0
    with torch.inference_mode():
        for images, labels in batches:
            layout = torch.channels_last if images.dim() == 4 else torch.preserve_format
            replay = Replay(fast, (images.to(device, memory_format=layout),))
            dense, truth = _logits(replay.finish()), labels.to(device)
            weight = len(labels) / n_samples
            for reading, layer in _entered(fast, replay, readings):
                own = scores[reading.group.name]
                for channel in range(reading.group.width):
                    logits = _without(fast, replay, layer, reading, channel)
                    if logits is not None:
                        own[channel] += weight * _effect(criterion, logits, dense, truth)
                done += reading.group.width
                if progress is not None:
                    progress(done, total)
    return scores


def _in_order(
    network: Network, fast: Network, channels: ChannelMap
) -> list[tuple[int, list[Reading]]]:
    """Readings by the number of the node of ``fast`` that is the first to read them."""
    places = reading_places(channels)
    number = {node.name: index for index, node in enumerate(fast.graph.nodes)}
    found: dict[int, list[Reading]] = {}
    for group in channels.prunable:
        reading = find_reading(network, places, group)
        if reading.start is not None:
            start = number[network.graph.nodes[reading.start].name]
            found.setdefault(start, []).append(reading)
    return sorted(found.items())


def _entered(
    network: Network, replay: Replay, readings: list[tuple[int, list[Reading]]]
) -> Iterator[tuple[Reading, Layer | None]]:
    """Advance a replay from reader to reader."""
    for start, same in readings:
        layer = enter(network, replay, start, same)
        yield from ((reading, layer) for reading in same)


def _without(
    network: Network, replay: Replay, layer: Layer | None, reading: Reading, channel: int
) -> Tensor | None:
    """Logits without one channel, or None where they are the same."""
    given: dict[str, object] | None = None
    if layer is not None:
        member = next(m for m in reading.weights if m.tensor == layer.weight)
        value = layer.without(network, member.positions[channel])
        if value is None and layer.alone and len(reading.weights) == 1 and not reading.sums:
            return None
        given = {} if value is None else {layer.step.node.name: value}
    with reading.without(network, channel) as call:
        return _logits(replay.finish(call, given))


def _effect(criterion: str, logits: Tensor, dense: Tensor, labels: Tensor) -> float:
    if criterion == "logits":
        return float((logits - dense).square().mean())
    return float(F.cross_entropy(logits, labels) - F.cross_entropy(dense, labels))


def _logits(output: object) -> Tensor:
    assert isinstance(output, Tensor), "the network returns more than logits"
    return output
