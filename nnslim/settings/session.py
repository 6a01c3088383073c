"""Where and how an ONNX file is to be run."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nnslim.errors import ConfigError
from nnslim.onnx.cuda import CudaOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from nnslim.onnx.image_input import Layout

__all__ = ["SessionSettings"]


@dataclass(frozen=True)
class SessionSettings:
    """Where and how to run a file.

    Attributes:
        device: ``"cpu"``; ``"cuda"`` or ``"cuda:1"``, which fails where that GPU cannot run the
            whole network; ``"tensorrt"`` or ``"tensorrt:1"``, TensorRT on that GPU, with CUDA for
            what it leaves; or ``"auto"``, which takes CUDA, or else the CPU and warns.
        require_gpu: Make ``"auto"`` fail, too.
        threads: Threads on the CPU; None is one per core that this process may use.
        batch: Fix the first input's free batch dimension to this many images.
        use_tf32: Let the GPU round the factors of float32 convolutions to 10 bits.
        cuda: Further options of the GPU.
        engine_cache: Folder where TensorRT keeps the engines that it builds; None keeps none.
        layout: Of the input of a file that does not say; None tells it from the sizes.
        output: Name of the logits in a file of several outputs.

    Raises:
        ConfigError: An unknown device, a number below 1, ``require_gpu`` on the CPU, or a CUDA
            graph for a free batch.
    """

    device: str = "auto"
    require_gpu: bool = False
    threads: int | None = None
    batch: int | None = None
    use_tf32: bool = False
    cuda: CudaOptions = field(default_factory=CudaOptions)
    engine_cache: Path | None = None
    layout: Layout | None = None
    output: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|(cuda|tensorrt)(:\d+)?", self.device):
            hint = "auto, cpu, cuda[:i] or tensorrt[:i]"
            raise ConfigError(f"device {self.device!r} is not known", hint=hint)
        if self.require_gpu and self.device == "cpu":
            raise ConfigError("device cpu and require_gpu contradict each other", hint="drop one")
        if min(self.threads or 1, self.batch or 1) < 1 or 0 in (self.threads, self.batch):
            raise ConfigError(f"threads {self.threads} and batch {self.batch} must be at least 1")
        if self.cuda.graph and self.batch is None and self.device != "cpu":
            raise ConfigError("a CUDA graph needs a fixed batch")

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
