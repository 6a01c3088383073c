"""How a GPU provider of onnxruntime is set up: explicit values, never the library's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from nnslim.errors import ConfigError

__all__ = ["CudaOptions"]

_SWITCHES = {"0": False, "1": True, "false": False, "true": True}


@dataclass(frozen=True)
class CudaOptions:
    """Options of the CUDA provider that change speed.

    Attributes:
        prefer_nhwc: Lay images out with the channels last, which tensor cores want.
        fuse_conv_bias: Let cuDNN add the bias in the convolution; the first run compiles.
        conv_search: How cuDNN chooses kernels. ``EXHAUSTIVE`` tunes for each shape, so it is for
            fixed ones; None takes it for a fixed batch and ``HEURISTIC`` for a free one. What
            onnxruntime calls ``DEFAULT`` is its slow way out and cannot be chosen.
        graph: Replay the whole network as one CUDA graph: for a fixed batch and bound inputs. The
            launches of a small network take longer than its work.

    Example:
        >>> CudaOptions.parse(["prefer_nhwc=1", "conv_search=HEURISTIC"]).prefer_nhwc
        True
    """

    prefer_nhwc: bool = False
    fuse_conv_bias: bool = False
    conv_search: Literal["EXHAUSTIVE", "HEURISTIC"] | None = None
    graph: bool = False

    @classmethod
    def parse(cls, texts: list[str]) -> CudaOptions:
        """Read ``KEY=VALUE`` texts of a command line.

        Raises:
            ConfigError: An unknown key, or a value that it does not take; lists what there is.
        """
        names = [field.name for field in fields(cls)]
        values: dict[str, object] = {}
        for text in texts:
            key, equals, value = text.partition("=")
            if not equals or key not in names:
                known = ", ".join(f"{name}=..." for name in names)
                raise ConfigError(f"--cuda-option {text}: not known", hint=f"there are {known}")
            choices = ("EXHAUSTIVE", "HEURISTIC") if key == "conv_search" else tuple(_SWITCHES)
            if value not in choices:
                raise ConfigError(f"--cuda-option {text}: takes {' or '.join(choices)}")
            values[key] = _SWITCHES.get(value, value)
        return cls(**values)  # pyright: ignore[reportArgumentType]

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
