"""A running average of a network's weights, which often generalises better than the last ones."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["WeightAverage"]


class WeightAverage:
    """An exponential moving average of all parameters and statistics of a network.

    After step ``t`` (0 for the first) the average moves by ``1 - min(decay, (1 + t) / (10 + t))``
    of the way to the network, so that the starting weights are forgotten early in short runs too.
    Batch norm statistics are averaged like weights; integers are copied.

    Example:
        >>> from torch import nn
        >>> network = nn.Linear(1, 1, bias=False)
        >>> average = WeightAverage(network, decay=0.5)
        >>> _ = network.weight.data.fill_(network.weight.item() + 1)
        >>> average.update(network, step=100)
        >>> with average.applied(network):
        ...     inside = network.weight.item()
        >>> round(network.weight.item() - inside, 4)
        0.5
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._values = {n: value.detach().clone() for n, value in network.state_dict().items()}

    def update(self, network: nn.Module, step: int) -> None:
        """Move towards the network as it is after step number ``step``."""
        decay = min(self._decay, (1 + step) / (10 + step))
        state = network.state_dict()
        floats = [name for name, value in state.items() if value.is_floating_point()]
        values = [self._values[name] for name in floats]
        get_ema_multi_avg_fn(decay)(values, [state[name] for name in floats], step)
        for name in state.keys() - set(floats):
            self._values[name].copy_(state[name])

    @contextmanager
    def applied(self, network: nn.Module) -> Generator[None]:
        """Give the network the averaged values inside the block."""
        before = {name: value.clone() for name, value in network.state_dict().items()}
        network.load_state_dict(self._values)
        try:
            yield
        finally:
            network.load_state_dict(before)

    def give(self, network: nn.Module) -> None:
        """Give the network the averaged values for good."""
        network.load_state_dict(self._values)

    def tensors(self) -> dict[str, Tensor]:
        """Return the averaged values themselves, by name: what a checkpoint must keep."""
        return self._values

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what ``tensors`` returned."""
        with torch.no_grad():
            for name, value in self._values.items():
                value.copy_(tensors[name])
