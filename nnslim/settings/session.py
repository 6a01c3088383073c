"""Where and how an ONNX file is to be run."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from nnslim.errors import ConfigError
from nnslim.settings.option import flag, option, section
from nnslim.settings.tree import Checked

__all__ = ["CudaOptions", "Layout", "SessionSettings"]

Layout: TypeAlias = Literal["NCHW", "NHWC"]


@dataclass(frozen=True)
class CudaOptions(Checked, section="session.cuda."):
    """Options of onnxruntime's CUDA provider that change speed: explicit, never its defaults.

    Example:
        >>> CudaOptions(prefer_nhwc=True).for_provider(device=0, batch=1, tf32=False)["prefer_nhwc"]
        '1'
    """

    prefer_nhwc: bool = option(
        False, "Lay images out with the channels last, which tensor cores want."
    )
    fuse_conv_bias: bool = option(
        False, "Let cuDNN add the bias in the convolution; the first run compiles."
    )
    conv_search: Literal["EXHAUSTIVE", "HEURISTIC"] | None = option(
        None, "How cuDNN chooses kernels; none is EXHAUSTIVE for a fixed batch, else HEURISTIC."
    )
    graph: bool = option(
        False, "Replay the whole network as one CUDA graph while latency is measured."
    )

    def for_provider(self, *, device: int, batch: int | None, tf32: bool) -> dict[str, str]:
        """Return what ``CUDAExecutionProvider`` is given.

        Args:
            device: Number of the GPU.
            batch: The fixed number of images per run, or None.
            tf32: Whether float32 convolutions may round to 10 bits.

        Raises:
            ConfigError: A CUDA graph for a free batch.
        """
        if self.graph and batch is None:
            raise ConfigError("a CUDA graph needs a fixed batch")
        search = self.conv_search or ("HEURISTIC" if batch is None else "EXHAUSTIVE")
        switches: Mapping[str, bool] = {
            "use_tf32": tf32,
            "enable_cudnn": True,
            "prefer_nhwc": self.prefer_nhwc,
            "fuse_conv_bias": self.fuse_conv_bias,
            "enable_cuda_graph": self.graph,
        }
        options = {"device_id": str(device), "cudnn_conv_algo_search": search}
        return options | {name: str(int(on)) for name, on in switches.items()}


@dataclass(frozen=True)
class SessionSettings(Checked, section="session."):
    """Where and how to run a file.

    ``device`` is ``"cpu"``; ``"cuda"`` or ``"cuda:1"``, which fails where that GPU cannot run the
    whole network; ``"tensorrt"`` or ``"tensorrt:1"``, TensorRT on that GPU, with CUDA for what it
    leaves; or ``"auto"``, which takes CUDA, or else the CPU and warns.

    Attributes:
        batch: Fix the first input's free batch dimension to this many images.
        use_tf32: Let the GPU round the factors of float32 convolutions to 10 bits.

    Raises:
        ConfigError: An unknown device, a number below 1, ``require_gpu`` on the CPU, or a CUDA
            graph for a free batch.
    """

    device: str = flag(
        "auto",
        "Where to run the file: auto, cpu, cuda, cuda:N, tensorrt or tensorrt:N.",
        metavar="NAME",
        panel="Output",
    )
    require_gpu: bool = flag(False, "Stop with exit code 3 if no GPU does the work.")
    threads: int | None = option(
        None, "Threads of onnxruntime on the CPU; none is one per core.", low=1
    )
    batch: int | None = None
    use_tf32: bool = False
    cuda: CudaOptions = section(CudaOptions)
    engine_cache: Path | None = option(
        None, "Folder where TensorRT keeps the engines that it builds.", metavar="DIR"
    )
    layout: Layout | None = option(
        None, "Where channels are in the input of an .onnx file that does not say.", none="auto"
    )
    output: str | None = option(
        None, "Name of the logits in an .onnx file with several outputs.", metavar="NAME"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"auto|cpu|(cuda|tensorrt)(:\d+)?", self.device):
            hint = "auto, cpu, cuda[:i] or tensorrt[:i]"
            raise ConfigError(f"[[session.device={self.device}]] is not known", hint=hint)
        if self.require_gpu and self.device == "cpu":
            raise ConfigError(
                "[[session.device=cpu]] and [[session.require_gpu]] contradict each other",
                hint="drop one",
            )
        if self.batch is not None and self.batch < 1:
            raise ConfigError(f"batch {self.batch} must be at least 1")

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
