"""Where and how an ONNX file is to be run."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnslim.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SessionSettings"]


@dataclass(frozen=True)
class SessionSettings:
    """Where and how to run a file.

    Attributes:
        device: ``"cpu"``; ``"cuda"`` or ``"cuda:1"``, which fails where that GPU cannot run the
            whole network; or ``"auto"``, which then takes the CPU and warns.
        require_gpu: Make ``"auto"`` fail, too.
        threads: Threads on the CPU; None is one per core that this process may use.
        batch: Fix the first input's free batch dimension to this many images.
        use_tf32: Let the GPU round the factors of float32 convolutions to 10 bits.

    Raises:
        ConfigError: An unknown device, a number below 1, or ``require_gpu`` on the CPU.
    """

    device: str = "auto"
    require_gpu: bool = False
    threads: int | None = None
    batch: int | None = None
    use_tf32: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ConfigError(f"device {self.device!r} is not known", hint="auto, cpu or cuda[:i]")
        if self.require_gpu and self.device == "cpu":
            raise ConfigError("device cpu and require_gpu contradict each other", hint="drop one")
        if min(self.threads or 1, self.batch or 1) < 1 or 0 in (self.threads, self.batch):
            raise ConfigError(f"threads {self.threads} and batch {self.batch} must be at least 1")

    @property
    def n_threads(self) -> int:
        """Threads on the CPU. onnxruntime itself counts the machine's cores, even in containers."""
        affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
        cores = len(affinity(0)) if affinity else os.cpu_count()
        return self.threads or cores or 1

    @property
    def device_index(self) -> int:
        """Number of the GPU, 0 where none is named."""
        return int(self.device.partition(":")[2] or 0)
