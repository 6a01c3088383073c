"""The optimizer, with the weight decay where it belongs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nnslim.settings.train import TrainConfig

__all__ = ["build_optimizer", "optimizer_tensors", "set_optimizer_tensors", "split_by_decay"]


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
