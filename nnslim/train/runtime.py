"""State of the process that a training run changes and restores: device, layout, modes, seeds."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import Tensor, nn

from nnslim.errors import ConfigError, DeviceError
from nnslim.settings.train import Precision

__all__ = [
    "accelerator_for",
    "check_precision",
    "flush_denormals",
    "forked_random_state",
    "placed",
    "random_state",
    "seed_epoch",
    "set_random_state",
]


def check_precision(device: torch.device, precision: Precision) -> None:
    """Refuse a precision that the device does not train in.

    Raises:
        ConfigError: ``fp16`` on the CPU.

    Example:
        >>> check_precision(torch.device("cpu"), "bf16")
    """
    if device.type == "cpu" and precision == "fp16":
        raise ConfigError("fp16 training does not run on the CPU", hint="use bf16 or fp32")


@contextmanager
def accelerator_for(device: torch.device, precision: Precision) -> Generator[Accelerator]:
    """Give an accelerator for this device and precision, whatever the process used before.

    Accelerate keeps its state per process and refuses a second device or precision; that state is
    set aside inside the block and put back after it.

    Raises:
        ConfigError: ``fp16`` on the CPU.
        DeviceError: The device is not there.

    Example:
        >>> with accelerator_for(torch.device("cpu"), "bf16") as accelerator:
        ...     accelerator.mixed_precision
        'bf16'
    """
    check_precision(device, precision)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        message = f"{device} was asked for, but torch sees {torch.cuda.device_count()} CUDA devices"
        hint = "check nvidia-smi and the torch build, or use [[device=cpu]]"
        raise DeviceError(message, hint=hint)
    shared: list[dict[str, object]] = [
        state._shared_state  # pyright: ignore
        for state in (AcceleratorState, PartialState, GradientState)
    ]
    before = [dict(state) for state in shared]
    for state in shared:
        state.clear()
    try:
        mixed = "no" if precision == "fp32" else precision
        yield Accelerator(cpu=device.type == "cpu", mixed_precision=mixed)
    finally:
        for state, values in zip(shared, before, strict=True):
            state.clear()
            state.update(values)


@contextmanager
def flush_denormals(device: torch.device) -> Generator[None]:
    """Round denormal numbers to zero inside the block when training on the CPU.

    Denormals, which sparse training makes many of, are up to a hundred times slower there. The
    setting belongs to the calling thread, which gets its former value back. A worker thread of
    torch copies it from the thread that starts it and keeps it: workers started before the block
    do not flush, those started inside it always will. A program whose main business is training
    (the command line) therefore calls ``torch.set_flush_denormal(True)`` before anything else.

    Example:
        >>> with flush_denormals(torch.device("cpu")):
        ...     (torch.tensor([2.0**-120]) * 2.0**-20).item()
        0.0
    """
    if device.type != "cpu" or _flushes_denormals():
        yield
        return
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _flushes_denormals() -> bool:
    smallest_normal = torch.tensor([torch.finfo(torch.float32).tiny])
    return (smallest_normal * 0.5).item() == 0


@contextmanager
def forked_random_state(device: torch.device) -> Generator[None]:
    """Let the block seed torch as it likes; the CPU's and the CUDA device's state is put back."""
    devices: list[int] = []
    if device.type == "cuda":
        devices.append(torch.empty(0, device=device).get_device())
    with torch.random.fork_rng(devices=devices, device_type="cuda"):
        yield


def seed_epoch(seed: int, epoch: int, process: int = 0) -> None:
    """Seed torch as a function of (seed, epoch, process), so that any epoch can be repeated."""
    state = np.random.SeedSequence((seed, epoch, process)).generate_state(1, np.uint64)
    torch.manual_seed(int(state[0]))


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return torch's random state on the CPU and on a CUDA device."""
    states = {"cpu": torch.random.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_state(states: Mapping[str, Tensor], device: torch.device) -> None:
    """Take back what ``random_state`` returned."""
    torch.random.set_rng_state(states["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


@contextmanager
def placed(module: nn.Module, device: torch.device) -> Generator[torch.memory_format]:
    """Move a module to a device in its fastest layout; yield the layout its images should have.

    Convolutional networks run channels last: 1.6 times faster on the CPU (ResNet-20, batch 128,
    two cores). Afterwards the module's tensors are contiguous, its modes (train or eval, module by
    module) are what they were, and it stays on the device.
    """
    tensors = [*module.parameters(), *module.buffers()]
    ranks = {tensor.ndim for tensor in tensors}
    # torch refuses channels_last for tensors of five dimensions.
    convolutional = 4 in ranks and max(ranks) == 4
    layout = torch.channels_last if convolutional else torch.contiguous_format
    modes = [(part, part.training) for part in module.modules()]
    module.to(device)
    module.to(memory_format=layout)
    try:
        yield layout
    finally:
        module.to(memory_format=torch.contiguous_format)
        for part, training in modes:  # parents come first, so that a child's mode wins
            part.train(training)
