"""Whether compiling the training step pays, and the compiled networks.

``torch.compile`` fuses normalisation, activation and addition, in the forward and the backward
pass. Its numbers differ from eager's in the last bits, so a run compiles from the first step to the
last or not at all: the choice follows from the work to do and is part of the run's identity.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
from torch.utils.flop_counter import FlopCounterMode

from nnslim.errors import ConfigError
from nnslim.train.records import Task

__all__ = ["Choice", "Forward", "choose", "released"]

# Two cores, torch 2.14, ResNet-20 (65 parameter tensors, 15.7e9 multiply-adds in a step of 128
# images): 47 s to compile, 12 s for a teacher, a step 0.06 s shorter (docs/results/training.md).
_SECONDS_PER_TENSOR = 0.7
_SECONDS_PER_TEACHER_TENSOR = 0.2
_MACS_PER_SECOND_SAVED = 250e9
# A forward and a backward pass cost three forward passes.
_TRAINING_PASSES = 3
# What is saved should be a multiple of the cost, because other machines differ.
_MARGIN = 2.0
# No network is worth compiling for fewer steps, and to know more a batch must be looked at.
_FEWEST_STEPS = 200


@dataclass(frozen=True)
class Choice:
    """Whether to compile; the note says what it takes, the warning why not where it would pay."""

    compiled: bool
    note: str | None = None
    warning: str | None = None


def choose(task: Task) -> Choice:
    """Decide whether the run compiles its step, as a function of the task and the installation.

    ``auto`` compiles on the CPU when the estimated saving is twice the cost of compiling; on a GPU,
    where it saved nothing (docs/results/training.md), it does not.

    Raises:
        ConfigError: Compiling was asked for and does not work here.
    """
    option = task.config.compile
    if option is False or (option == "auto" and not _pays(task)):
        return Choice(compiled=False)
    problem = _broken(task.device)
    if problem is None:
        note = f"compiling the training step: about {_cost_s(task):.0f} s, once"
        return Choice(compiled=True, note=note)
    if option is True:
        raise ConfigError(f"torch.compile does not work here: {problem}", hint="train without it")
    return Choice(compiled=False, warning=f"the training step is not compiled: {problem}")


class Forward:
    """Runs a network, compiled for batches of one shape and as it is for others.

    A network that cannot be compiled is an error where that is ``required``, else ``problem``.

    Example:
        >>> network = torch.nn.Flatten()
        >>> Forward(network, compiled=False)(torch.zeros(2, 1, 3)).shape
        torch.Size([2, 3])
    """

    def __init__(self, network: nn.Module, *, compiled: bool, required: bool = False) -> None:
        self._network = network
        self._required = required
        self._shape: torch.Size | None = None
        self._fast: Callable[[Tensor], Tensor] | None = None
        if compiled:
            self._fast = torch.compile(network, fullgraph=True, dynamic=False)
        self.problem: str | None = None

    def expect(self, shape: torch.Size) -> None:
        """Set the shape that is worth compiling for: that of an epoch's first batch."""
        self._shape = shape

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits (N, K) of images (N, C, H, W).

        Raises:
            ConfigError: The network cannot be compiled and must be.
        """
        if self._fast is None or images.shape != self._shape:
            return self._network(images)
        try:
            return self._fast(images)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            self.problem = f"the network cannot be compiled: {_first_line(error)}"
            if self._required:
                raise ConfigError(self.problem, hint="train it without compiling") from error
            self._fast = None
            return self._network(images)


@contextmanager
def released(*, compiled: bool) -> Generator[None]:
    """Forget compiled code after the block: torch keeps it, with its tensors, and at most 8 pieces.

    Functions that the program compiled itself are compiled again at their next call.
    """
    try:
        yield
    finally:
        if compiled:
            torch.compiler.reset()


def _pays(task: Task) -> bool:
    if task.device.type != "cpu" or task.steps < _FEWEST_STEPS:
        return False
    task.loader.set_epoch(0)
    images, _ = next(iter(task.loader))
    macs = _TRAINING_PASSES * _macs(task.network, images)
    if task.teaching is not None:
        macs += _macs(task.teaching, images)
    return task.steps * macs / _MACS_PER_SECOND_SAVED >= _MARGIN * _cost_s(task)


def _cost_s(task: Task) -> float:
    """Estimate how long compiling takes, in seconds."""
    cost_s = _SECONDS_PER_TENSOR * len(list(task.network.parameters()))
    if task.teaching is not None:
        cost_s += _SECONDS_PER_TEACHER_TENSOR * len(list(task.teaching.parameters()))
    return cost_s


def _macs(network: nn.Module, images: Tensor) -> int:
    """Count the multiply-adds of a forward pass over a batch, from one image of it."""
    modes = [(part, part.training) for part in network.modules()]
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network.eval()(images[:1].to(next(network.parameters()).device))
    for part, training in modes:
        part.train(training)
    return counter.get_total_flops() // 2 * len(images)


def _broken(device: torch.device) -> str | None:
    """Compile something small, which needs a working C++ compiler (or Triton) and its headers."""

    def probe(x: Tensor) -> Tensor:
        return (x * 2 + 1).relu()

    try:
        torch.compile(probe, fullgraph=True)(torch.ones(8, device=device))
    except RuntimeError as error:
        return _first_line(error)
    return None


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
