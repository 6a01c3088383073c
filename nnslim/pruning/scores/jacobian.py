"""First-order screening: what the removal of every channel does to the logits, all at once.

images ──► logits, watching what layers read ──► a few backward passes ──► activation x gradient

To first order, removing channel c from everywhere it is read changes logit k of a sample by the
sum, over those places and their positions, of ``-(d logit_k / d x_c) x_c``. Up to 16 logits are
differentiated one by one. Of more, random signed sums are: ``E[(v . J)^2] = |J|^2`` for
independent signs v (the estimator of Hutchinson, 1990).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from nnslim.channels.places import reading_places
from nnslim.errors import ConfigError
from nnslim.network.graph import BATCH, Ref, TensorInfo
from nnslim.pruning.scores.streamline import streamlined

if TYPE_CHECKING:
    from nnslim.channels import ChannelMap
    from nnslim.channels.contractions import Operand
    from nnslim.channels.labels import IntArray
    from nnslim.channels.places import Place
    from nnslim.network.interpreter import Step
    from nnslim.network.network import Network

__all__ = ["jacobian"]

_EXACT_LOGITS = 16
_IMAGES = 64  # per pass: activations and their gradients are all kept


def jacobian(  # noqa: PLR0913 - keyword-only settings
    network: Network,
    channels: ChannelMap,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    probes: int = 8,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> dict[str, np.ndarray]:
    """Estimate the mean squared change of the logits when each single channel is removed.

    Args:
        network: The dense network, not changed, with logits ``(N, K)``.
        channels: Its groups.
        batches: Images ``(N, C, H, W)``, and labels ``(N,)``, which are not used.
        probes: Random sums of logits, at least 1, for networks with more than 16.
        seed: Of those sums.
        progress: Called with the images done so far and in all.

    Raises:
        ConfigError: An argument is not as above.

    Example:
        >>> from nnslim import channel_groups, network; from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten(), nn.Linear(4, 2))
        >>> net = network.trace_network(model, torch.zeros(2, 3, 8, 8))
        >>> batch = torch.randn(5, 3, 8, 8), torch.zeros(5)
        >>> jacobian(net, channel_groups(net), [batch])["0"].shape
        (4,)
    """
    if (n_logits := network.n_classes) is None:
        raise ConfigError("the logits are not one (N, K) tensor, so no channel can be screened")
    if probes < 1:
        raise ConfigError(f"{probes} probes: at least 1 random sum of logits is needed")
    directions = partial(_directions, n_logits, probes, torch.Generator().manual_seed(seed))
    screen = _Screen(streamlined(network), channels)
    squares = _mean_squares(screen, list(batches), directions, progress)
    scores = squares / (1 if n_logits <= _EXACT_LOGITS else n_logits)  # else it is the total
    parts = scores.split([group.width for group in channels.prunable])
    return {g.name: part.numpy() for g, part in zip(channels.prunable, parts, strict=True)}


def _mean_squares(
    screen: _Screen,
    batches: Sequence[tuple[Tensor, Tensor]],
    directions: Callable[[int], list[Tensor]],
    progress: Callable[[int, int], None],
) -> Tensor:
    total, done = sum(len(labels) for _, labels in batches), 0
    squares = torch.zeros(screen.n_channels, dtype=torch.float64)
    for part in (part for images, _ in batches for part in images.split(screen.images)):
        along = directions(len(part))
        with torch.enable_grad():
            squares += screen.squares(part, along) / (len(along) * total)
        done += len(part)
        progress(done, total)
    return squares


def _directions(n_logits: int, probes: int, generator: torch.Generator, n: int) -> list[Tensor]:
    """Combinations of the logits to differentiate, ``(n, K)`` each."""
    if n_logits <= _EXACT_LOGITS:
        return list(torch.eye(n_logits)[:, None].expand(-1, n, -1))
    signs = torch.randint(0, 2, (probes, n, n_logits), generator=generator)
    return list(signs * 2.0 - 1.0)


@dataclass(frozen=True)
class _Read:
    """An operand that a node sums over: its dimension, and the channel of each index along it.

    Channels of all groups are numbered together; -1 is none.
    """

    operand: Operand
    dim: int
    columns: Tensor


class _Screen:
    """A network whose reads are watched.

    Attributes:
        images: Images per pass.
        n_channels: Of all groups together.
    """

    def __init__(self, network: Network, channels: ChannelMap) -> None:
        places = reading_places(channels)
        for tensor in network.parameters():
            tensor.requires_grad = False
        self._network = network
        self.n_channels = sum(group.width for group in channels.prunable)
        columns = np.full(len(channels.frozen), -1, dtype=np.int64)
        for number, component in enumerate(c for g in channels.prunable for c in g.components):
            columns[component] = number
        self._reads = _reads(places, columns)
        self._by_sample = all(_is_by_sample(network, place) for place in places)
        self.images = _IMAGES if self._by_sample else 1

    def squares(self, images: Tensor, directions: list[Tensor]) -> Tensor:
        """Sum over samples and directions of every channel's squared first-order effect."""
        device = next(self._network.parameters()).device
        values: dict[tuple[str, Operand], Tensor] = {}

        def call(step: Step, args: list[object], kwargs: dict[str, object]) -> object:
            if step.node.name not in self._reads:
                return step.function(*args, **kwargs)
            arguments = step.by_name(args, kwargs)
            for operand in {read.operand for read in self._reads[step.node.name]}:
                # A copy: its gradient is that of this reader alone, and nothing overwrites it.
                values[step.node.name, operand] = operand.update(arguments, Tensor.clone)
            return step.function(**arguments)

        inputs = images.to(device).detach().requires_grad_().clone()
        self._network.check_inputs((inputs,))
        env: dict[str, object] = {self._network.graph.inputs[0].name: inputs}
        logits = cast("Tensor", self._network.program.run(self._network, env, device, 0, call))
        total = torch.zeros(self.n_channels, dtype=torch.float64)
        for number, direction in enumerate(directions if values else (), 1):
            gradients = torch.autograd.grad(
                logits,
                list(values.values()),
                direction.to(logits),
                retain_graph=number < len(directions),
                allow_unused=True,
            )
            gradients = cast("tuple[Tensor | None, ...]", gradients)
            effects = torch.zeros(len(images), self.n_channels, dtype=total.dtype, device=device)
            for ((node, operand), value), gradient in zip(values.items(), gradients, strict=True):
                if gradient is not None:
                    reads = [read for read in self._reads[node] if read.operand == operand]
                    self._add_(effects, value.detach() * gradient, reads)
            total += effects.square().sum(0).cpu()
        return total

    def _add_(self, effects: Tensor, product: Tensor, reads: list[_Read]) -> None:
        """Add activation x gradient at some reads to the channels, ``(n, n_channels)``."""
        for read in reads:
            kept = {0, read.dim} if self._by_sample else {read.dim}
            others = [d for d in range(product.dim()) if d not in kept]
            sums = product.sum(others) if others else product
            columns = read.columns.to(effects.device)
            sums = sums.reshape(len(effects), -1).double()[:, columns >= 0]
            effects.index_add_(1, columns[columns >= 0], sums)


def _reads(places: tuple[Place, ...], columns: IntArray) -> dict[str, list[_Read]]:
    """Reads by node; a channel that a product contracts with itself is lost once, not twice."""
    reads: dict[str, list[_Read]] = {}
    for place in places:
        column = columns[place.components]
        for read in reads.get(place.node, ()):
            if read.operand != place.operand:
                column = np.where(np.isin(column, read.columns.numpy()), -1, column)
        if (column >= 0).any():
            read = _Read(place.operand, place.dim, torch.from_numpy(column))
            reads.setdefault(place.node, []).append(read)
    return reads


def _is_by_sample(network: Network, place: Place) -> bool:
    """Whether dimension 0 of an operand counts the samples and nothing else."""
    operand = place.operand.of(network.graph.by_name[place.node])
    info = network.graph.info(operand.name) if isinstance(operand, Ref) else None
    return isinstance(info, TensorInfo) and info.shape[0] == BATCH and place.dim != 0
