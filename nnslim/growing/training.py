"""Training of planted entries alone: everything earlier is a constant.

Earlier weights are not masked out of an update, they are not in it: the parameters that train are
the new entries of each tensor, laid into the earlier ones at every step. No optimizer, weight decay
or precision can reach the others, gradients stop at the first layer with something new, and the
statistics of earlier batch norm channels are never written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from nnslim.network.graph import TensorRef

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nnslim.network.interpreter import Step
    from nnslim.network.network import Network
    from nnslim.surgery import Planted
    from nnslim.train.records import BatchLoader

__all__ = ["PlantedEntries", "calibrate"]


class PlantedEntries(nn.Module):
    """A planted network, not changed before ``write_back``, of which only the new entries train.

    Earlier batch norm channels run on their running statistics, new ones on those of the batch.
    Where they go ``onward``, earlier channels of a layer that has new ones, too, do not read new
    channels: what they start with there stays.

    Example:
        >>> import numpy as np; from nnslim.network import trace_network
        >>> from nnslim.surgery import PLANT, Edit, plant_channels
        >>> model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 1))
        >>> net = trace_network(model, torch.zeros(2, 3, 8, 8))
        >>> entries = PlantedEntries(plant_channels(net, Edit({"0": np.array([0, 1, PLANT])})))
        >>> sum(parameter.numel() for parameter in entries.parameters())  # 3 + 1 in, 4 out
        8
    """

    def __init__(self, planted: Planted, *, onward: bool = False) -> None:
        """Copy the tensors; the new entries of parameters become this module's parameters."""
        super().__init__()
        self._graph_network = (planted.network,)  # in a tuple: not a submodule
        self._fresh: Mapping[str, Tensor] = planted.fresh
        self._number: dict[str, int] = {}
        self.entries = nn.ParameterDict()
        self.momentum: float | None = None
        for number, (name, tensor) in enumerate(planted.network.tensors().items()):
            self._number[name] = number
            self.register_buffer(f"earlier_{number}", tensor.detach().clone())
            if name not in planted.fresh:
                continue
            places = _onward(planted.fresh[name]) if onward else planted.fresh[name]
            flat = places.flatten().nonzero().flatten()
            self.register_buffer(f"fresh_{number}", flat, persistent=False)
            if isinstance(tensor, nn.Parameter) and tensor.requires_grad:
                entries = tensor.detach()[places]
                # Two dimensions where the tensor has more than one: what weight decay goes by.
                entries = entries[None] if tensor.dim() > 1 else entries
                self.entries[str(number)] = nn.Parameter(entries)

    @property
    def network(self) -> Network:
        """The planted network."""
        return self._graph_network[0]

    def tensor(self, name: str) -> Tensor:
        """Return a tensor of the network with the new entries as they are now."""
        number = self._number[name]
        earlier = cast("Tensor", getattr(self, f"earlier_{number}"))
        if str(number) not in self.entries:
            return earlier
        return self._laid(number, earlier, self.entries[str(number)].to(earlier))

    def _laid(self, number: int, tensor: Tensor, entries: Tensor) -> Tensor:
        """Lay the entries into a copy of the tensor."""
        places = cast("Tensor", getattr(self, f"fresh_{number}"))
        return tensor.flatten().index_copy(0, places, entries.flatten()).view(tensor.shape)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, K) of images (N, C, H, W)."""
        network = self.network
        env: dict[str, object] = {network.graph.inputs[0].name: images}
        logits = network.program.run(self, env, images.device, call=self._call)
        return cast("Tensor", logits)

    def _call(self, step: Step, args: list[object], kwargs: dict[str, object]) -> object:
        if step.node.family == "batch_norm" and step.training_position is not None:
            args[step.training_position] = False
            mean = step.node.argument("running_mean")
            assert isinstance(mean, TensorRef)
            if self.training and mean.name in self._fresh:
                return self._batch_norm(step, step.by_name(args, kwargs))
        return step.function(*args, **kwargs)

    def _batch_norm(self, step: Step, given: Mapping[str, object]) -> Tensor:
        """Normalise new channels by the batch's statistics, which also move the running ones."""
        images, mean, variance = (
            cast("Tensor", given[name]) for name in ("input", "running_mean", "running_var")
        )
        scale, shift = (cast("Tensor | None", given[name]) for name in ("weight", "bias"))
        momentum, epsilon = (cast("float", given[name]) for name in ("momentum", "eps"))
        momentum = momentum if self.momentum is None else self.momentum
        name = cast("TensorRef", step.node.argument("running_mean")).name
        index = cast("Tensor", getattr(self, f"fresh_{self._number[name]}"))
        new = images.index_select(1, index).float()
        over = [dim for dim in range(new.dim()) if dim != 1]
        new_variance, new_mean = torch.var_mean(new, over, correction=0)
        n = new.numel() // len(index)
        with torch.no_grad():
            unbiased = new_variance.detach() * (n / max(n - 1, 1))
            for running, now in ((mean, new_mean.detach()), (variance, unbiased)):
                moved = running[index].lerp(now.to(running), momentum)
                running.index_copy_(0, index, moved)
        mean = mean.detach().clone().index_copy(0, index, new_mean)
        variance = variance.detach().clone().index_copy(0, index, new_variance)
        factor = (variance + epsilon).rsqrt()
        factor = factor if scale is None else factor * scale
        offset = -mean * factor if shift is None else shift - mean * factor
        shape = [1, -1, *[1] * (images.dim() - 2)]
        return images * factor.view(shape).to(images) + offset.view(shape).to(images)

    def gradients(self) -> dict[str, Tensor]:
        """Gradients by the new entries, laid into zeros of each tensor's shape."""
        gradients: dict[str, Tensor] = {}
        for name, number in self._number.items():
            if str(number) in self.entries and (g := self.entries[str(number)].grad) is not None:
                zeros = torch.zeros_like(cast("Tensor", getattr(self, f"earlier_{number}")))
                gradients[name] = self._laid(number, zeros, g)
        return gradients

    def write_back(self) -> Network:
        """Put the trained entries and their statistics into the network, and return that."""
        with torch.no_grad():
            for name, fresh in self._fresh.items():
                tensor = self.network.tensor(name)
                tensor[fresh] = self.tensor(name).detach().to(tensor)[fresh]
        return self.network


def _onward(fresh: Tensor) -> Tensor:
    """The new entries but those of earlier rows, if there are new rows to read new channels."""
    if fresh.dim() == 1:
        return fresh
    rows = fresh.flatten(1).all(dim=1)
    return fresh & rows.view(-1, *[1] * (fresh.dim() - 1)) if rows.any() else fresh


def calibrate(entries: PlantedEntries, loader: BatchLoader, batches: int) -> None:
    """Give the new batch norm channels the mean statistics of some batches, in place."""
    modes = entries.training
    entries.train()
    device = next(entries.parameters()).device
    for number, (images, _) in enumerate(loader):
        if number == batches:
            break
        entries.momentum = 1.0 / (number + 1)
        with torch.no_grad():
            entries(images.to(device))
    entries.momentum = None
    entries.train(modes)
