"""The optimizer, with the weight decay where it belongs, and its learning rate at every step."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nnslim.settings.train import TrainConfig

__all__ = [
    "build_optimizer",
    "learning_rate",
    "optimizer_tensors",
    "set_optimizer_tensors",
    "split_by_decay",
]

# Start and end of the one-cycle schedule below its peak, as torch's OneCycleLR has them.
_ONE_CYCLE_START = 25.0
_ONE_CYCLE_END = 1e4


def split_by_decay(network: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the trainable parameters that weight decay applies to, and those it does not.

    Not decayed: parameters of at most one dimension (scale and shift of normalisation layers,
    biases) and those named ``bias``. Decay would only pull a normalisation scale towards zero,
    which the layer before it undoes; pruned networks rely on those few numbers. The rule needs
    names and shapes only, because a traced network has no layer classes left.

    Example:
        >>> from torch import nn
        >>> decayed, plain = split_by_decay(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
        >>> list(decayed), list(plain)
        (['0.weight'], ['0.bias', '1.weight', '1.bias'])
    """
    decayed: dict[str, Tensor] = {}
    plain: dict[str, Tensor] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            small = parameter.ndim <= 1 or name.rpartition(".")[2] == "bias"
            (plain if small else decayed)[name] = parameter
    return decayed, plain


def build_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Return the optimizer of the trainable parameters; its learning rate is set at every step.

    Example:
        >>> from torch import nn
        >>> from nnslim.settings.train import TrainConfig
        >>> groups = build_optimizer(nn.Linear(2, 2), TrainConfig(lr=0.1)).param_groups
        >>> [group["weight_decay"] for group in groups]
        [0.0005, 0.0]
    """
    decayed, plain = split_by_decay(network)
    groups = [
        {"params": list(decayed.values()), "weight_decay": config.weight_decay},
        {"params": list(plain.values()), "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=(config.momentum, 0.999))
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)


def optimizer_tensors(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the state of every parameter, such as its momentum, by slot and name."""
    return {
        f"{slot}/{name}": value
        for name, parameter in network.named_parameters()
        for slot, value in optimizer.state.get(parameter, {}).items()
        if value is not None
    }


def set_optimizer_tensors(
    network: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Give the optimizer what ``optimizer_tensors`` returned, copied."""
    parameters = dict(network.named_parameters())
    for key, value in tensors.items():
        slot, _, name = key.partition("/")
        parameter = parameters[name]
        state = optimizer.state[parameter]
        if value.shape == parameter.shape:
            state[slot] = torch.empty_like(parameter).copy_(value)
        else:  # the number of steps, which AdamW keeps on the CPU
            state[slot] = value.detach().clone().cpu()


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """Return the learning rate of one step.

    ``cosine``: a linear rise to ``config.lr`` over the first ``W = round(warmup_fraction * steps)``
    steps, then ``lr * (1 + cos(pi * (step - W) / (steps - W))) / 2``.

    ``one-cycle``: from ``lr / 25`` to ``lr`` and down to ``lr / 250000``, each half of a cosine
    (torch's ``OneCycleLR``; the momentum is not cycled).

    Args:
        step: 0 for the first step of the run.
        steps: Number of steps of the whole run.
        config: Gives the peak, the schedule and the warm-up.

    Example:
        >>> from nnslim.settings.train import TrainConfig
        >>> config = TrainConfig(lr=1.0, warmup_fraction=0.0)
        >>> learning_rate(0, 100, config), round(learning_rate(50, 100, config), 6)
        (1.0, 0.5)
    """
    assert 0 <= step < steps, f"step {step} of {steps}"
    match config.schedule:
        case "cosine":
            return _cosine(step, steps, config)
        case "one-cycle":
            return _one_cycle(step, steps, config)


def _cosine(step: int, steps: int, config: TrainConfig) -> float:
    warmup = round(config.warmup_fraction * steps)
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    return _anneal(config.lr, 0.0, (step - warmup) / (steps - warmup))


def _one_cycle(step: int, steps: int, config: TrainConfig) -> float:
    start = config.lr / _ONE_CYCLE_START
    peak, last = max(config.warmup_fraction * steps - 1, 0.0), steps - 1
    if step < peak:
        return _anneal(start, config.lr, step / peak)
    if last <= peak:
        return config.lr
    return _anneal(config.lr, start / _ONE_CYCLE_END, (step - peak) / (last - peak))


def _anneal(start: float, end: float, fraction: float) -> float:
    """Go from start to end along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2
