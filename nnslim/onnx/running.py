"""Run an open network, and keep the truth about where it runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

from nnslim.errors import DeviceError, InputError
from nnslim.onnx.backend import CPU, CUDA, ORT_ERRORS, ExecutionError, plain_message
from nnslim.onnx.placement import cudnn_library, provider_lost

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nnslim.onnx.backend import Inference
    from nnslim.onnx.settings import SessionSettings

__all__ = ["BoundRun", "Session"]

_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


class BoundRun:
    """One input, already on the device: call it to run once and wait until the result is there."""

    def __init__(self, inference: Inference, binding: ort.IOBinding) -> None:
        self._inference = inference
        self._binding = binding

    def __call__(self) -> None:
        """Run once; returns when the device has finished."""
        self._inference.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def output(self) -> np.ndarray:
        """Copy the last run's logits, (N, K), to the host."""
        return self._binding.copy_outputs_to_cpu()[0]


class Session:
    """An open network with one input and one output, and the truth about where it runs.

    Attributes:
        path: The file.
        settings: What was asked for.
        provider_requested: The provider that the asked device stands for (``auto``: the GPU's).
        provider: The provider that runs the network.
        metadata: The file's own properties (``nnslim.preprocess`` and the like).
        input_name: Name of the input.
        input_shape: (C, H, W), None where the file leaves one open.
        batch: The fixed number of images per run, or None.
        cudnn: Path of the cuDNN library in use, set by ``check_still_on_device`` on a GPU.
    """

    def __init__(self, inference: Inference, path: Path, settings: SessionSettings) -> None:
        self._inference = inference
        self._warnings: list[str] = []
        self.path = path
        self.settings = settings
        self.provider_requested = CPU if settings.device == "cpu" else CUDA
        self.provider = inference.get_providers()[0]
        self.metadata: dict[str, str] = dict(inference.get_modelmeta().custom_metadata_map)
        inputs, outputs = inference.get_inputs(), inference.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type not in _DTYPES:
            found = f"{_describe(inputs)} in and {_describe(outputs)} out"
            raise InputError(f"{path}: needs one float tensor in and one out, has {found}")
        if len(inputs[0].shape) != 4:
            raise InputError(f"{path}: input is {inputs[0].shape}, images are (N, C, H, W)")
        dims = [d if isinstance(d, int) else None for d in inputs[0].shape]
        self.input_name: str = inputs[0].name
        self.batch = dims[0]
        self.input_shape = (dims[1], dims[2], dims[3])
        self.cudnn: str | None = None
        self._output_name: str = outputs[0].name
        self._dtype = _DTYPES[inputs[0].type]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know about this session, one sentence each."""
        return tuple(self._warnings)

    def warn(self, message: str) -> None:
        """Add a sentence to ``warnings``, once."""
        if message not in self._warnings:
            self._warnings.append(message)

    def run(self, x: np.ndarray) -> np.ndarray:
        """Return float32 logits (N, K) of images ``x`` (N, C, H, W).

        Raises:
            InputError: The network refuses this shape.
            DeviceError: The GPU failed during the run; nothing is repeated on the CPU.
        """
        feed = {self.input_name: np.ascontiguousarray(x, dtype=self._dtype)}
        try:
            logits = self._inference.run([self._output_name], feed)[0]
        except ExecutionError as error:
            raise DeviceError(
                f"{self.path}: {self.provider} failed: {plain_message(error)}"
            ) from error
        except ORT_ERRORS as error:
            shape = "x".join(str(d) for d in x.shape)
            raise InputError(
                f"{self.path}: cannot run {shape} images: {plain_message(error)}"
            ) from error
        return np.asarray(logits, dtype=np.float32)

    def bind(self, x: np.ndarray) -> BoundRun:
        """Put ``x`` (N, C, H, W) on the device, to be run many times without copies."""
        device = "cuda" if self.provider == CUDA else "cpu"
        index = self.settings.device_index if device == "cuda" else 0
        value = ort.OrtValue.ortvalue_from_numpy(
            np.ascontiguousarray(x, dtype=self._dtype), device, index
        )
        binding = self._inference.io_binding()
        binding.bind_ortvalue_input(self.input_name, value)
        binding.bind_output(self._output_name, device, index)
        binding.synchronize_inputs()
        return BoundRun(self._inference, binding)

    def check_still_on_device(self) -> None:
        """Ask again after the last run: still on the same provider, and with cuDNN?

        Raises:
            DeviceError: The session has left its provider since it was opened.
        """
        if other := provider_lost(self._inference, self.provider):
            raise DeviceError(f"{self.path}: moved from {self.provider} to {other} while running")
        if self.provider == CUDA:
            self.cudnn = cudnn_library()
            if self.cudnn is None and sys.platform == "linux":
                self.warn("no cuDNN library in this process: convolutions may run in slow code")


def _describe(arguments: Sequence[ort.NodeArg]) -> str:
    return ", ".join(f"{a.name} {a.type}" for a in arguments) or "nothing"
