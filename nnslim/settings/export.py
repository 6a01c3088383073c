"""How a network is exported, and how an export of less precision is judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from nnslim.errors import ConfigError
from nnslim.settings.option import option
from nnslim.settings.parse import parse_count
from nnslim.settings.tree import Checked

__all__ = ["ExportSettings", "FormatSettings", "PrecisionSettings"]


@dataclass(frozen=True)
class ExportSettings(Checked):
    """How to export.

    Attributes:
        provenance: More entries for the file's metadata; keys must not start with ``nnslim.``.
        rtol: Largest allowed difference to the network, relative to the largest absolute logit;
            None is 1e-4, and 2e-2 in float16, whose values have 11 bits.

    Raises:
        ConfigError: A number out of its range or a reserved metadata key.
    """

    PANEL: ClassVar[str] = "Method"

    opset: int = option(20, "Version of the ONNX operators.", flag="opset", low=18, high=25)
    batch: int | None = option(
        None,
        "Images per run: dynamic for any number, or a number.",
        flag="batch",
        metavar="dynamic|N",
        none="dynamic",
        low=1,
        read=parse_count,
    )
    half: bool = option(False, "Compute in float16; input and logits stay float32.", flag="half")
    with_preprocess: bool = option(
        False,
        "Take pixels, uint8 (N, H, W, C), and normalise inside; resize before it.",
        flag="with-preprocess",
    )
    provenance: Mapping[str, str] = field(default_factory=dict[str, str])
    rtol: float | None = None
    seed: int = option(0, "Seed of everything random.", flag="seed", low=0, panel="Expert")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rtol is not None and not self.rtol > 0:
            raise ConfigError(f"a difference of {self.rtol} cannot be kept", hint="above 0")
        if reserved := [key for key in self.provenance if key.startswith("nnslim.")]:
            raise ConfigError(f"metadata key {reserved[0]} is reserved for nnslim itself")


@dataclass(frozen=True)
class PrecisionSettings(Checked):
    """How an export of less precision is made and judged.

    Attributes:
        symmetric: int8 as TensorRT reads it; onnxruntime's CPU takes either.

    Raises:
        ConfigError: A number out of its range.
    """

    PANEL: ClassVar[str] = "Method"
    SECTION: ClassVar[str] = "precision."

    int8: bool = option(False, "Compute in 8-bit integers, for the CPU; needs images.", flag="int8")
    calibration_samples: int = option(128, "Training images that give int8 its scales.", low=1)
    max_drop: float = option(
        2.0,
        "Points of top-1 accuracy that float16 or int8 may lose; otherwise nothing is written.",
        flag="max-drop",
        metavar="POINTS",
        low=0,
        high=100,
    )
    seed: int = 0
    symmetric: bool = False


@dataclass(frozen=True)
class FormatSettings(Checked):
    """Which file is written, for where."""

    PANEL: ClassVar[str] = "Output"

    onnx: bool = option(False, "Write ONNX; so it is without a format.", flag="onnx")
    pt2: bool = option(
        False, "Write an archive of torch.export, which plain torch reads.", flag="pt2"
    )
    target: Literal["cpu", "cuda", "tensorrt"] = option(
        "cpu",
        "Where the file will run: CUDA has no kernels for int8, TensorRT wants zero points of 0.",
        panel="Method",
    )
