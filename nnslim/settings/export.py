"""How a network is exported, and how an export of less precision is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from nnslim.errors import ConfigError
from nnslim.settings.option import flag, option
from nnslim.settings.parse import parse_count
from nnslim.settings.tree import Checked

__all__ = ["ExportSettings", "FormatSettings", "PrecisionSettings"]


@dataclass(frozen=True)
class ExportSettings(Checked, panel="Method"):
    """How to export.

    Attributes:
        provenance: More entries for the file's metadata; keys must not start with ``nnslim.``.
        rtol: Largest allowed difference to the network, relative to the largest absolute logit;
            None is 1e-4, and 2e-2 in float16, whose values have 11 bits.

    Raises:
        ConfigError: A number out of its range or a reserved metadata key.
    """

    opset: int = flag(20, "Version of the ONNX operators.", low=18, high=25)
    batch: int | None = flag(
        None,
        "Images per run: dynamic for any number, or a number.",
        metavar="dynamic|N",
        none="dynamic",
        low=1,
        read=parse_count,
    )
    half: bool = flag(False, "Compute in float16; input and logits stay float32.")
    with_preprocess: bool = flag(
        False, "Take pixels, uint8 (N, H, W, C), and normalise inside; resize before it."
    )
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])
    rtol: float | None = None
    seed: int = flag(0, "Seed of everything random.", low=0, panel="Expert")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rtol is not None and not self.rtol > 0:
            raise ConfigError(f"a difference of {self.rtol} cannot be kept", hint="above 0")
        if reserved := [key for key in self.provenance if key.startswith("nnslim.")]:
            raise ConfigError(f"metadata key {reserved[0]} is reserved for nnslim itself")


@dataclass(frozen=True)
class PrecisionSettings(Checked, panel="Method", section="precision."):
    """How an export of less precision is made and judged.

    Attributes:
        symmetric: int8 as TensorRT reads it; onnxruntime's CPU takes either.
    """

    int8: bool = flag(False, "Compute in 8-bit integers, for the CPU; needs images.")
    calibration_samples: int = option(128, "Training images that give int8 its scales.", low=1)
    max_drop: float = flag(
        2.0,
        "Points of top-1 accuracy that float16 or int8 may lose; otherwise nothing is written.",
        metavar="POINTS",
        low=0,
        high=100,
    )
    seed: int = 0
    symmetric: bool = False


@dataclass(frozen=True)
class FormatSettings(Checked, panel="Output"):
    """Which file is written, for where."""

    onnx: bool = flag(False, "Write ONNX; so it is without a format.")
    pt2: bool = flag(False, "Write an archive of torch.export, which plain torch reads.")
    target: Literal["cpu", "cuda", "tensorrt"] = option(
        "cpu",
        "Where the file will run: CUDA has no kernels for int8, TensorRT wants zero points of 0.",
        panel="Method",
    )
