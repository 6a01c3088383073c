"""Recalibration: new batch norm statistics for a network whose weights were edited.

The mean is the average of the batches' means, the variance the average of their unbiased variances
(training's convention), both weighted by the batches' number of images; the old values leave no
trace. It works on buffers named ``running_mean`` and ``running_var``, so that it serves a traced
network and any module alike: it measures which share of a buffer one forward pass replaces, instead
of asking a layer for its momentum.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice

import torch
from torch import Tensor, nn

from nnslim.errors import InputError, NnslimError
from nnslim.train.runtime import forked_random_state

__all__ = ["Recalibration", "recalibrate_batchnorm"]

# A power of two that dwarfs any batch mean and leaves float32 room.
_PROBE = 2.0**60


@dataclass(frozen=True)
class Recalibration:
    """What was re-estimated.

    Attributes:
        batches: Batches used.
        images: Images used.
        layers: Names of the layers with new statistics.
        skipped: Names of the layers whose statistics a forward pass in training mode does not
            change (frozen, unused, or of momentum 0); they keep what they had.
    """

    batches: int = 0
    images: int = 0
    layers: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def recalibrate_batchnorm(
    network: nn.Module, loader: Iterable[tuple[Tensor, Tensor]], max_batches: int
) -> Recalibration:
    """Re-estimate every layer's running mean and variance as an exact average over batches.

    Weights, modes and random state are untouched. Dropout is off, unless the network (a traced
    one) can only be put into training mode as a whole.

    Args:
        network: On any device; nothing else must use it meanwhile.
        loader: Batches of (images (N, C, H, W), labels (N,)).
        max_batches: Batches to use, at least one.

    Raises:
        InputError: There is no batch.
        NnslimError: A statistic is not finite. Nothing was changed.

    Example:
        >>> from torch import nn
        >>> norm = nn.Sequential(nn.BatchNorm2d(1))
        >>> batch = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1), torch.zeros(2)
        >>> recalibrate_batchnorm(norm, [batch], max_batches=1).layers
        ('0',)
        >>> norm[0].running_mean.item(), norm[0].running_var.item()
        (2.0, 2.0)
    """
    layers = _find_layers(network)
    return _recalibrated(network, layers, loader, max_batches) if layers else Recalibration()


def _recalibrated(
    network: nn.Module,
    layers: list[_Layer],
    loader: Iterable[tuple[Tensor, Tensor]],
    max_batches: int,
) -> Recalibration:
    batches = islice(iter(loader), max_batches)
    first = next(batches, None)
    if first is None:
        raise InputError("there are no batches to recalibrate batch norm with")
    device = layers[0].mean.device
    with torch.no_grad(), forked_random_state(device), _put_back(network, layers):
        live = _probe(network, layers, first[0].to(device))
        n_batches = n_images = 0
        for images, _ in chain([first], batches) if live else ():
            _forward(network, live, images.to(device))
            for layer in live:
                layer.add(len(images))
            n_batches, n_images = n_batches + 1, n_images + len(images)
    for layer in live:
        layer.check(n_images)
    for layer in live:
        layer.write(n_images, n_batches)
    skipped = tuple(layer.name for layer in layers if layer not in live)
    return Recalibration(n_batches, n_images, tuple(layer.name for layer in live), skipped)


class _Layer:
    """The statistics of one layer: its buffers, their old values, and what replaces them."""

    def __init__(self, name: str, mean: Tensor, var: Tensor, count: Tensor | None) -> None:
        self.name = name
        self.mean = mean  # (C,)
        self.buffers = [mean, var] if count is None else [mean, var, count]
        self.before = [buffer.clone() for buffer in self.buffers]
        self.replaced = 1.0
        # On the CPU, because not every device has float64.
        self.totals = [torch.zeros(mean.shape, dtype=torch.float64) for _ in range(2)]

    def clear(self, mean: float = 0.0) -> None:
        for buffer in self.buffers:
            buffer.zero_()
        self.mean.fill_(mean)

    def put_back(self) -> None:
        for buffer, before in zip(self.buffers, self.before, strict=True):
            buffer.copy_(before)

    def changed(self) -> bool:
        pairs = zip(self.buffers[:2], self.before[:2], strict=True)
        return not all(torch.equal(buffer, before) for buffer, before in pairs)

    def add(self, images: int) -> None:
        for total, buffer in zip(self.totals, self.buffers[:2], strict=True):
            total.add_(buffer.cpu().double() * images)

    def check(self, images: int) -> None:
        if not all(bool(total.isfinite().all()) for total in self.totals):
            message = f"batch norm {self.name}: statistics over {images} images are not finite"
            raise NnslimError(message, hint="use batches of at least 2 images and finite weights")

    def write(self, images: int, batches: int) -> None:
        for total, buffer in zip(self.totals, self.buffers[:2], strict=True):
            buffer.copy_(total / (images * self.replaced))
        if len(self.buffers) > 2:
            self.buffers[2].fill_(batches)


def _find_layers(network: nn.Module) -> list[_Layer]:
    buffers = dict(network.named_buffers())
    layers: list[_Layer] = []
    for name, mean in buffers.items():
        stem = name.removesuffix("running_mean")
        var = buffers.get(f"{stem}running_var")
        if stem != name and var is not None:
            count = buffers.get(f"{stem}num_batches_tracked")
            layers.append(_Layer(stem.rstrip("."), mean, var, count))
    return layers


@contextmanager
def _put_back(network: nn.Module, layers: list[_Layer]) -> Generator[None]:
    """Restore all statistics and modes, whatever happens inside."""
    modes = [(part, part.training) for part in network.modules()]
    try:
        yield
    finally:
        for layer in layers:
            layer.put_back()
        for part, training in modes:
            part.train(training)


def _probe(network: nn.Module, layers: list[_Layer], images: Tensor) -> list[_Layer]:
    """Find a mode in which statistics move, the layers whose do, and by which share."""
    live = _moving(network, layers, images, whole=False)
    live = live or _moving(network, layers, images, whole=True)
    for layer in live:
        layer.clear(mean=_PROBE)
    network(images)
    for layer in live:
        kept = (layer.mean / _PROBE).cpu().double().median().item()
        layer.replaced = _shortest(1 - kept, tolerance=torch.finfo(layer.mean.dtype).eps)
    return live


def _moving(
    network: nn.Module, layers: list[_Layer], images: Tensor, *, whole: bool
) -> list[_Layer]:
    """Train the owners of statistics alone, which leaves dropout off, or the whole network."""
    network.train(whole)
    for part in () if whole else list(network.modules()):
        if any(name.endswith("running_mean") for name, _ in part.named_buffers(recurse=False)):
            part.train()
    network(images)
    live = [layer for layer in layers if layer.changed()]
    for layer in layers:
        layer.put_back()
    return live


def _forward(network: nn.Module, live: list[_Layer], images: Tensor) -> None:
    """Leave the batch's statistics times the replaced share in the buffers."""
    for layer in live:
        layer.clear()
    network(images)


def _shortest(value: float, tolerance: float) -> float:
    """Return the shortest decimal within the tolerance: momenta are written as short decimals."""
    rounded = (round(value, digits) for digits in range(8))
    return next((short for short in rounded if abs(short - value) <= tolerance and short), value)
