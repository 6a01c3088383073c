"""How much each channel matters, measured by removing it.

A removal is tried in place and undone (``nnslim.pruning.scores.removal``): no network is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nnslim.channels.places import reading_places
from nnslim.pruning.scores.contribution import enter
from nnslim.pruning.scores.removal import find_reading
from nnslim.pruning.scores.replay import Replay
from nnslim.pruning.scores.streamline import streamlined

if TYPE_CHECKING:
    from nnslim.channels import ChannelGroup, ChannelMap
    from nnslim.network.network import Network
    from nnslim.pruning.scores.contribution import Layer
    from nnslim.pruning.scores.removal import Reading

__all__ = ["Batch", "Scores", "measured"]

Batch = tuple[Tensor, Tensor]
Scores = dict[str, np.ndarray]


def measured(
    network: Network,
    channels: ChannelMap,
    batches: Iterable[Batch],
    criterion: Literal["loss", "logits"],
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Scores:
    """Measure what removing each single channel does, ``(width,)`` by name of a group not frozen.

    To 1e-9 in float64 it is what zeroing the incoming slices and running the whole network gives.

    Args:
        network: The dense network; it is not changed.
        channels: Its groups.
        batches: Samples: images ``(N, C, H, W)`` and labels ``(N,)``.
        criterion: ``loss`` is the increase of the mean cross-entropy (named by Mitsuno & Kurita,
            SMC 2020), ``logits`` the mean squared change of the logits.
        progress: Called with the channels done so far and in all.

    Example:
        >>> from nnslim import channel_groups, network; from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten(), nn.Linear(4, 2))
        >>> net = network.trace_network(model, torch.zeros(2, 3, 8, 8))
        >>> batch = torch.randn(5, 3, 8, 8), torch.zeros(5).long()
        >>> measured(net, channel_groups(net), [batch], "logits")["0"].shape
        (4,)
    """
    scores: Scores = {group.name: np.zeros(group.width) for group in channels.prunable}
    fast, batches = streamlined(network), list(batches)
    readings = _in_order(network, fast, channels)
    total = len(batches) * sum(r.group.width for _, same in readings for r in same)
    n_samples, done = sum(len(labels) for _, labels in batches), 0
    with torch.inference_mode():
        for batch in batches:
            weight = len(batch[1]) / n_samples
            for group, effects in _effects(fast, readings, batch, criterion):
                scores[group.name] += weight * effects
                done += group.width
                progress(done, total)
    return scores


def _in_order(
    network: Network, fast: Network, channels: ChannelMap
) -> list[tuple[int, list[Reading]]]:
    """Readings by the number of the node of ``fast`` that is the first to read them."""
    places = reading_places(channels)
    number = {node.name: index for index, node in enumerate(fast.graph.nodes)}
    readings: dict[int, list[Reading]] = {}
    for group in channels.prunable:
        reading = find_reading(network, places, group)
        if reading.start is not None:
            start = number[network.graph.nodes[reading.start].name]
            readings.setdefault(start, []).append(reading)
    return sorted(readings.items())


def _effects(
    network: Network, readings: list[tuple[int, list[Reading]]], batch: Batch, criterion: str
) -> Iterator[tuple[ChannelGroup, np.ndarray]]:
    """What the removal of each channel of a group does on one batch, ``(width,)``."""
    device, (images, labels) = next(network.parameters()).device, batch
    layout = torch.channels_last if images.dim() == 4 else torch.preserve_format
    replay = Replay(network, (images.to(device, memory_format=layout),))
    dense, labels = _logits(replay.finish()), labels.to(device)
    for start, same in readings:
        layer = enter(network, replay, start, same)
        for reading in same:
            effects = np.zeros(reading.group.width)
            for channel in range(reading.group.width):
                logits = _without(network, replay, layer, reading, channel)
                if logits is not None and criterion == "logits":
                    effects[channel] = float((logits - dense).square().mean())
                elif logits is not None:
                    loss = F.cross_entropy(logits, labels)
                    effects[channel] = float(loss - F.cross_entropy(dense, labels))
            yield reading.group, effects


def _without(
    network: Network, replay: Replay, layer: Layer | None, reading: Reading, channel: int
) -> Tensor | None:
    """Logits without one channel, or None where they are the same."""
    changed: dict[str, object] | None = None
    if layer is not None:
        member = next(m for m in reading.weights if m.tensor == layer.weight)
        value = layer.without(network, member.positions[channel])
        if value is None and layer.alone and len(reading.weights) == 1 and not reading.sums:
            return None
        changed = {} if value is None else {layer.step.node.name: value}
    with reading.without(network, channel) as call:
        return _logits(replay.finish(call, changed))


def _logits(output: object) -> Tensor:
    assert isinstance(output, Tensor), "the network returns more than logits"
    return output
