"""What stops a training run: numbers that are not finite, processes that disagree."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

from nnslim.errors import InputError, NnslimError, NotFiniteError
from nnslim.processes import same_everywhere
from nnslim.train.checkpoint import fingerprint

__all__ = ["check_losses", "check_same", "check_weights", "require_finite"]


def check_losses(losses: list[float], where: list[str], last_good: Path | None) -> None:
    """Stop at the first loss that is not finite, given the places of all in words.

    Raises:
        NotFiniteError: Names the place and the newest checkpoint.

    Example:
        >>> check_losses([0.5, math.nan], ["step 1", "step 2"], None)
        Traceback (most recent call last):
        nnslim.errors.NotFiniteError: the loss is nan at step 2; run anew with a lower training.lr
    """
    for loss, place in zip(losses, where, strict=True):
        if not math.isfinite(loss):
            raise NotFiniteError(f"the loss is {loss} at {place}", hint=_hint(last_good))


def check_weights(network: nn.Module, where: str, last_good: Path | None) -> None:
    """Stop before weights that are not finite are saved: a step can spoil them after its loss.

    Raises:
        NotFiniteError: Names the tensor, the place and the newest checkpoint.
    """
    state = network.state_dict()
    names = [name for name, tensor in state.items() if tensor.is_floating_point()]
    finite = torch.stack([state[name].isfinite().all() for name in names]).tolist()
    if not all(finite):
        name = names[finite.index(False)]
        raise NotFiniteError(f"{name} is not finite after {where}", hint=_hint(last_good))


def require_finite(network: nn.Module, what: str) -> None:
    """Refuse a network that is broken before anything is done with it.

    Raises:
        InputError: A tensor of it has a NaN or an infinity; names it.
    """
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            message = f"{what} has a value in {name} that is not finite"
            raise InputError(message, hint="give another checkpoint of it")


def check_same(network: nn.Module, where: str) -> None:
    """Stop when processes that should hold the same weights do not.

    Raises:
        NnslimError: In every process.
    """
    if not same_everywhere(fingerprint(network)):
        message = f"the processes hold different weights after {where}"
        hint = "a gradient penalty must decide the same in every process; see nnslim.processes"
        raise NnslimError(message, hint=hint)


def _hint(last_good: Path | None) -> str:
    hint = "run anew with a lower [[training.lr]]"
    return hint if last_good is None else f"{hint}; the last good checkpoint is {last_good}"
