"""Eight-bit integers for the CPU: weights and activations quantised after training (QDQ).

Written by onnxruntime's tool from a verified float32 file; the scale of every activation comes
from its smallest and largest value on calibration images.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sys
import tempfile
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ClearMetadataAndDocStringPass, RemoveUnusedOpsetsPass

from nnslim.errors import InputError
from nnslim.onnx.model_file import PREFIX
from nnslim.version import __version__

__all__ = ["Calibration", "quantize_file"]


@dataclass(frozen=True)
class Calibration:
    """Training images that scales were measured on: how many, and a hash of their numbers."""

    n_images: int
    sha256: str

    @classmethod
    def of(cls, numbers: np.ndarray) -> Calibration:
        """Describe images by their numbers in the training split, hashed as int64."""
        digest = hashlib.sha256(numbers.astype("<i8").tobytes()).hexdigest()
        return cls(len(numbers), digest)


def quantize_file(
    source: Path,
    target: Path,
    batches: Iterable[np.ndarray],
    calibration: Calibration,
    *,
    symmetric: bool = False,
) -> None:
    """Write an int8 copy of a float32 file.

    Activations become uint8 with a scale and a zero point each, weights int8 with a scale for each
    output channel. The input stays what it is, and so do the properties of the file.

    Args:
        source: A float32 file of one input.
        target: Where to write.
        batches: Inputs of the file, as it takes them.
        calibration: What those are, for the metadata.
        symmetric: Write what TensorRT reads: int8 activations whose zero point is 0, and float32
            biases.

    Raises:
        InputError: onnxruntime cannot quantise the file; says why.
    """
    model = onnx.load_model(source)
    reader = _Reader(model.graph.input[0].name, batches)
    with tempfile.TemporaryDirectory(prefix="nnslim-") as folder:
        raw = Path(folder) / "raw.onnx"
        try:
            _run_tool(source, raw, reader, symmetric=symmetric)
        except (RuntimeError, ValueError, NotImplementedError) as error:
            first = str(error).partition("\n")[0]
            raise InputError(f"{source}: cannot be quantised: {first}") from error
        properties = {entry.key: entry.value for entry in model.metadata_props}
        target.write_bytes(_finished(raw, model.ir_version, properties, calibration))


def _run_tool(source: Path, target: Path, reader: _Reader, *, symmetric: bool) -> None:
    # Lazy: the tool is a third of a second that no other export pays for.
    from onnxruntime import quantization as tool  # noqa: PLC0415

    ready = target.with_name("ready.onnx")
    # Both print advice; some of it goes to the root logger.
    with contextlib.redirect_stdout(sys.stderr), _quiet_logging():
        tool.quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
        tool.quantize_static(
            str(ready),
            str(target),
            reader,  # pyright: ignore
            quant_format=tool.QuantFormat.QDQ,
            per_channel=True,
            activation_type=tool.QuantType.QInt8 if symmetric else tool.QuantType.QUInt8,
            weight_type=tool.QuantType.QInt8,
            extra_options={"ActivationSymmetric": True, "QuantizeBias": False} if symmetric else {},
        )


def _finished(
    path: Path, ir_version: int, properties: Mapping[str, str], calibration: Calibration
) -> bytes:
    """Drop operator sets that nothing uses, and give the file its properties back."""
    model = ir.load(path)
    RemoveUnusedOpsetsPass()(model)
    ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    model.metadata_props.update(properties)
    model.metadata_props[f"{PREFIX}precision"] = "int8"
    model.metadata_props[f"{PREFIX}calibration_images"] = str(calibration.n_images)
    model.metadata_props[f"{PREFIX}calibration_sha256"] = calibration.sha256
    model.ir_version = ir_version
    model.producer_name, model.producer_version = "nnslim", __version__
    return ir.to_proto(model).SerializeToString(deterministic=True)


class _Reader:
    """Hands out calibration batches one by one, as onnxruntime's tool asks for them."""

    def __init__(self, name: str, batches: Iterable[np.ndarray]) -> None:
        self._name, self._batches = name, iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch, or None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}


@contextlib.contextmanager
def _quiet_logging() -> Generator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
