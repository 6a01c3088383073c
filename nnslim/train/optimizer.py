"""SGD with the weight decay where it belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from nnslim.train.config import TrainConfig

__all__ = ["build_sgd", "momentum_buffers", "set_momentum_buffers", "split_by_decay"]


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


def build_sgd(network: nn.Module, config: TrainConfig) -> torch.optim.SGD:
    """Return SGD over the trainable parameters; its learning rate is set at every step.

    Example:
        >>> from torch import nn
        >>> from nnslim.train.config import TrainConfig
        >>> [g["weight_decay"] for g in build_sgd(nn.Linear(2, 2), TrainConfig()).param_groups]
        [0.0005, 0.0]
    """
    decayed, plain = split_by_decay(network)
    groups = [
        {"params": list(decayed.values()), "weight_decay": config.weight_decay},
        {"params": list(plain.values()), "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
    )


def momentum_buffers(network: nn.Module, optimizer: torch.optim.SGD) -> dict[str, Tensor]:
    """Return the momentum of every parameter that has one, by the parameter's name."""
    buffers = {name: optimizer.state[p] for name, p in network.named_parameters()}
    return {
        name: state["momentum_buffer"]
        for name, state in buffers.items()
        if state.get("momentum_buffer") is not None
    }


def set_momentum_buffers(
    network: nn.Module, optimizer: torch.optim.SGD, buffers: Mapping[str, Tensor]
) -> None:
    """Give the optimiser the momentum that ``momentum_buffers`` returned, copied and in place."""
    parameters = dict(network.named_parameters())
    for name, buffer in buffers.items():
        parameter = parameters[name]
        optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(buffer)
