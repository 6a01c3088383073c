"""Chooses the device of a run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from nnslim.errors import ConfigError, DeviceError

if TYPE_CHECKING:
    from nnslim.settings.inputs import DeviceSettings

__all__ = ["training_device"]


def training_device(settings: DeviceSettings) -> torch.device:
    """Return the device to compute on; ``auto`` takes the first GPU, else the CPU.

    Raises:
        ConfigError: An unknown name, or a GPU required on the CPU.
        DeviceError: The GPU is not there.
    """
    name = settings.device
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ConfigError(f"[[device={name}]]: not known", hint="take auto, cpu, cuda or cuda:N")
    if name == "cpu":
        if settings.require_gpu:
            raise ConfigError("[[device=cpu]] and [[require_gpu]] contradict each other")
        return torch.device("cpu")
    found = torch.cuda.device_count()
    if name == "auto" and not found and not settings.require_gpu:
        return torch.device("cpu")
    index = int(name.partition(":")[2] or 0)
    if index >= found:
        asked = "[[require_gpu]]" if name == "auto" else f"[[device={name}]]"
        raise DeviceError(
            f"{asked}: torch {torch.__version__} sees {found} CUDA devices",
            hint="check nvidia-smi and the installed torch, or use [[device=cpu]]",
        )
    return torch.device("cuda", index)
