"""Run an open network, and keep the truth about where it runs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from nnslim.errors import DeviceError, InputError
from nnslim.onnx.backend import (
    CPU,
    CUDA,
    ORT_ERRORS,
    TENSORRT,
    ExecutionError,
    Inference,
    plain_message,
)
from nnslim.onnx.image_input import image_input
from nnslim.onnx.placement import cudnn_library, provider_lost
from nnslim.settings.session import SessionSettings

__all__ = ["BoundRun", "Session"]

# What the user can do with: all that decides speed or rounding, and no handles or paths.
_REPORTED = (
    "device_id",
    "cudnn_conv_algo_search",
    "use_tf32",
    "prefer_nhwc",
    "fuse_conv_bias",
    "enable_cuda_graph",
    "enable_cudnn",
    "trt_fp16_enable",
    "trt_engine_cache_enable",
    "trt_cuda_graph_enable",
)


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
    """An open network with one input and its logits, and the truth about where it runs.

    Attributes:
        path: The file.
        settings: What was asked for.
        provider_requested: The provider that the asked device stands for (``auto``: the GPU's).
        provider: The provider that runs the network.
        provider_options: Those of its options that change speed or rounding, as it reports them.
        metadata: Properties of the file (``nnslim.preprocess`` and the like).
        input: How images become its input.
        cudnn: Path of the cuDNN library in use, set by ``check_still_on_device`` on a GPU.
    """

    def __init__(self, inference: Inference, path: Path, settings: SessionSettings) -> None:
        self._inference = inference
        self._warnings: list[str] = []
        self.path = path
        self.settings = settings
        named = settings.device.partition(":")[0]
        self.provider_requested = {"cpu": CPU, "tensorrt": TENSORRT}.get(named, CUDA)
        self.provider = inference.get_providers()[0]
        options = inference.get_provider_options().get(self.provider, {})
        shown: Mapping[str, str] = {key: options[key] for key in _REPORTED if key in options}
        self.provider_options = shown
        self.metadata: dict[str, str] = dict(inference.get_modelmeta().custom_metadata_map)
        inputs, outputs = inference.get_inputs(), inference.get_outputs()
        if len(inputs) != 1:
            raise InputError(f"{path}: needs one image tensor in, has {_describe(inputs)}")
        try:
            first = inputs[0]
            self.input = image_input(
                first.name, first.type, first.shape, self.metadata, settings.layout
            )
        except InputError as error:
            raise error.at(str(path)) from error
        if self.input.guessed:
            self.warn("channels are taken to be last, as its sizes say (session.layout)")
        self.cudnn: str | None = None
        self._output_name = _logits_name(outputs, settings.output, self.metadata, path)

    @property
    def batch(self) -> int | None:
        """The fixed number of images per run, or None."""
        return self.input.batch

    @property
    def input_shape(self) -> tuple[int | None, int | None, int | None]:
        """(C, H, W) whatever the layout, None where the file leaves one open."""
        return self.input.shape

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know about this session, one sentence each."""
        return tuple(self._warnings)

    def warn(self, message: str) -> None:
        """Add a sentence to ``warnings``, once."""
        if message not in self._warnings:
            self._warnings.append(message)

    def run(self, x: np.ndarray) -> np.ndarray:
        """Return float32 logits (N, K) of images ``x`` (N, C, H, W), in the shape of the output.

        Raises:
            InputError: The network refuses this shape.
            DeviceError: The GPU failed during the run; nothing is repeated on the CPU.
        """
        feed = {self.input.name: self.input.feed(x)}
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
        device = "cpu" if self.provider == CPU else "cuda"
        index = self.settings.device_index if device == "cuda" else 0
        value = ort.OrtValue.ortvalue_from_numpy(self.input.feed(x), device, index)
        binding = self._inference.io_binding()
        binding.bind_ortvalue_input(self.input.name, value)
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
        if self.provider != CPU:
            self.cudnn = cudnn_library()
            if self.cudnn is None and sys.platform == "linux":
                self.warn("no cuDNN library in this process: convolutions may run in slow code")


def _logits_name(
    outputs: Sequence[ort.NodeArg], wanted: str | None, metadata: Mapping[str, str], path: Path
) -> str:
    """The only output, or the one that the caller names; a file of nnslim has one."""
    names = [str(output.name) for output in outputs]
    if len(names) == 1 and (wanted is None or "nnslim.version" in metadata):
        return names[0]
    if wanted in names:
        return wanted
    if wanted is not None:
        raise InputError(f"{path}: has no output {wanted}", hint=f"there is {', '.join(names)}")
    raise InputError(
        f"{path}: has {len(names)} outputs, {_describe(outputs)}",
        hint="name the logits with [[session.output]]",
    )


def _describe(arguments: Sequence[ort.NodeArg]) -> str:
    return ", ".join(f"{a.name} {a.type}" for a in arguments) or "nothing"
