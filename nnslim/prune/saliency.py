"""How much each channel matters: measured, estimated to first order, or read off the weights.

Removing a channel means that no layer reads it any more. Zeroing what the layers that read it
multiply it by (their *incoming slices*) does exactly that, so a removal is tried in place and
undone, without building another network.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nnslim.network.graph import TensorRef, tensor_refs
from nnslim.prune.replay import Replay

if TYPE_CHECKING:
    from nnslim.channels import ChannelGroup, ChannelMap, Member
    from nnslim.network.network import Network

__all__ = ["Saliency", "magnitude", "measured", "readers", "taylor"]

Saliency = Literal["loss", "logits", "taylor", "magnitude"]
Batch = tuple[Tensor, Tensor]
Scores = dict[str, np.ndarray]


def readers(network: Network, group: ChannelGroup) -> tuple[Member, ...]:
    """The slices of a group by which layers read its channels: input dimensions of weights."""
    dense = {
        ref.name
        for node in network.graph.nodes
        if node.op.split(".")[1].startswith(("conv", "linear"))
        for ref in list(tensor_refs(node))[:1]
    }
    return tuple(m for m in group.members if m.tensor in dense and m.dim == 1)


def magnitude(network: Network, channels: ChannelMap) -> Scores:
    """L2 norm of the filters that produce each channel; needs no data.

    Returns:
        Scores by name of every group that is not frozen, ``(width,)``.
    """
    scores: Scores = {}
    for group in channels.prunable:
        total = np.zeros(group.width)
        producers = [m for m in group.members if m.dim == 0 and network.tensor(m.tensor).dim() > 1]
        for member in producers or list(group.members):
            weight = network.tensor(member.tensor).detach().double().cpu()
            others = [d for d in range(weight.dim()) if d != member.dim]
            energy = weight.square().sum(others).numpy() if others else weight.square().numpy()
            total += energy[member.positions].sum(axis=1)
        scores[group.name] = np.sqrt(total)
    return scores


def taylor(network: Network, channels: ChannelMap, batches: Iterable[Batch]) -> Scores:
    """First-order estimate of the loss increase: squared sum of gradient times incoming slice.

    The estimate of Molchanov et al. (CVPR 2019), summed over batches; its first order is exactly
    that of the removal that ``measured`` tries.
    """
    scores: Scores = {group.name: np.zeros(group.width) for group in channels.prunable}
    slices = {group.name: readers(network, group) for group in channels.prunable}
    device = next(network.parameters()).device
    names = sorted({m.tensor for members in slices.values() for m in members})
    tensors = [network.tensor(name).requires_grad_() for name in names]
    network.eval()
    for images, labels in batches:
        loss = F.cross_entropy(_logits(network(images.to(device))), labels.to(device))
        gradients = dict(zip(names, torch.autograd.grad(loss, tensors), strict=True))
        for group in channels.prunable:
            product = np.zeros(group.width)
            for member in slices[group.name]:
                weight, gradient = network.tensor(member.tensor).detach(), gradients[member.tensor]
                others = [d for d in range(weight.dim()) if d != member.dim]
                sums = (weight * gradient).sum(others).double().cpu().numpy()
                product += sums[member.positions].sum(axis=1)
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
        Scores by name of every group that is not frozen, ``(width,)``.
    """
    groups = [(group, readers(network, group)) for group in channels.prunable]
    scores: Scores = {group.name: np.zeros(group.width) for group in channels.prunable}
    device = next(network.parameters()).device
    # A copy, because channels_last is faster and the caller's layout is the caller's.
    network = copy.deepcopy(network).to(memory_format=torch.channels_last).eval()
    batches = list(batches)
    total = len(batches) * sum(group.width for group, _ in groups)
    n_samples, done = sum(len(labels) for _, labels in batches), 0
    with torch.inference_mode():
        for images, labels in batches:
            images = images.to(device, memory_format=torch.channels_last)  # noqa: PLW2901
            labels = labels.to(device)  # noqa: PLW2901
            replay = Replay(network, (images,))
            dense = _logits(replay.output())
            weight = len(labels) / n_samples
            for start, group, members in _in_order(network, groups):
                replay.advance(start)
                for channel in range(group.width):
                    with _without(network, members, channel):
                        logits = _logits(replay.finish())
                    scores[group.name][channel] += weight * _effect(
                        criterion, logits, dense, labels
                    )
                    done += 1
                if progress is not None:
                    progress(done, total)
    return scores


def _effect(criterion: str, logits: Tensor, dense: Tensor, labels: Tensor) -> float:
    if criterion == "logits":
        return float((logits - dense).square().mean())
    return float(F.cross_entropy(logits, labels) - F.cross_entropy(dense, labels))


def _in_order(
    network: Network, groups: list[tuple[ChannelGroup, tuple[Member, ...]]]
) -> Iterator[tuple[int, ChannelGroup, tuple[Member, ...]]]:
    """Groups by the first node that reads them, which is where a replay has to start."""
    first: Mapping[str, int] = _first_uses(network)
    rows = [(min(first[m.tensor] for m in members), g, members) for g, members in groups if members]
    rows.sort(key=lambda row: row[0])
    yield from rows


def _first_uses(network: Network) -> dict[str, int]:
    result: dict[str, int] = {}
    for index, node in enumerate(network.graph.nodes):
        for ref in tensor_refs(node):
            assert isinstance(ref, TensorRef)
            result.setdefault(ref.name, index)
    return result


@contextmanager
def _without(network: Network, members: Iterable[Member], channel: int) -> Generator[None]:
    """Zero the incoming slices of one channel, and put them back bit for bit."""
    saved: list[tuple[Tensor, Tensor]] = []
    for member in members:
        weight = network.tensor(member.tensor).detach()
        positions = torch.from_numpy(member.positions[channel]).to(weight.device)
        columns = weight[:, positions] if len(positions) > 1 else weight[:, int(positions[0])]
        saved.append((weight, columns.clone()))
        weight.index_fill_(1, positions, 0.0)
    try:
        yield
    finally:
        for (weight, columns), member in zip(reversed(saved), reversed(list(members)), strict=True):
            positions = torch.from_numpy(member.positions[channel]).to(weight.device)
            weight.index_copy_(
                1, positions, columns if len(positions) > 1 else columns.unsqueeze(1)
            )


def _logits(output: object) -> Tensor:
    assert isinstance(output, Tensor), "the network returns more than logits"
    return output
