"""Open an ONNX file in onnxruntime; the only module that does, so that no fallback goes unseen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime as ort
import torch  # before onnxruntime looks for CUDA: torch brings the libraries it needs

from nnslim.errors import DeviceError, InputError
from nnslim.onnx.backend import (
    CPU,
    CUDA,
    ORT_ERRORS,
    TENSORRT,
    Inference,
    capture_native_output,
    loader_reason,
    plain_message,
)
from nnslim.onnx.model_file import free_batch_name, read_model
from nnslim.onnx.placement import provider_lost, summarise, work_elsewhere
from nnslim.onnx.running import Session
from nnslim.settings.session import SessionSettings

__all__ = ["Session", "SessionSettings", "open_session"]


def open_session(
    path: Path,
    settings: SessionSettings | None = None,
    *,
    factory: Callable[..., Inference] | None = None,
) -> Session:
    """Open ``path``; ``factory`` stands in for ``onnxruntime.InferenceSession`` in tests.

    Raises:
        InputError: The file is missing, damaged, not one file, or not an image classifier.
        DeviceError: The GPU was required and cannot run the whole network; says why.

    Example:
        >>> from pathlib import Path
        >>> open_session(Path("nowhere.onnx"))
        Traceback (most recent call last):
        nnslim.errors.InputError: nowhere.onnx: no such file; check the path
    """
    settings = settings or SessionSettings()
    model = read_model(path)
    make = factory or ort.InferenceSession
    if settings.device == "cpu":
        return _open_on_cpu(make, path, model, settings)
    if settings.device != "auto" or settings.require_gpu:
        return _open_on_gpu(make, path, model, settings)
    try:
        return _open_on_gpu(make, path, model, settings)
    except DeviceError as error:
        session = _open_on_cpu(make, path, model, settings)
        session.warn(f"running on the CPU: {error.message}")
        return session


def _open_on_cpu(
    make: Callable[..., Inference], path: Path, model: onnx.ModelProto, settings: SessionSettings
) -> Session:
    options = _options(model, settings)
    try:
        inference = make(str(path), options, providers=[CPU], enable_fallback=0)
    except ORT_ERRORS as error:
        raise InputError(f"{path}: onnxruntime refuses it: {plain_message(error)}") from error
    inference.disable_fallback()
    return Session(inference, path, settings)


def _open_on_gpu(
    make: Callable[..., Inference], path: Path, model: onnx.ModelProto, settings: SessionSettings
) -> Session:
    """Checks L1 and L2; raises DeviceError with the loader's reason."""
    if not settings.device.startswith("tensorrt") and _is_quantised(model):
        raise DeviceError(
            f"{path}: is int8, for which {CUDA} has no kernels: it would be slower than float32",
            hint="take [[session.device=cpu]], or tensorrt where TensorRT is installed",
        )
    strict = settings.device != "auto" or settings.require_gpu
    options = _options(model, settings)
    providers = _gpu_providers(settings)
    wanted = providers[0][0]
    if strict:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    inference, failure = None, None
    with capture_native_output() as captured:
        _load_cuda_libraries()
        try:
            inference = make(
                str(path),
                options,
                providers=providers if strict else [*providers, CPU],
                enable_fallback=0,
            )
        except ORT_ERRORS as error:
            failure = error
    if inference is None or provider_lost(inference, wanted):
        raise _not_started(wanted, captured.text, failure) from failure
    inference.disable_fallback()
    if strays := work_elsewhere(inference, [name for name, _ in providers], model):
        message = f"{path}: {wanted} leaves {summarise(strays)} to the CPU"
        hint = "its times would not be the GPU's; use [[session.device=cpu]]"
        raise DeviceError(message, hint=hint)
    return Session(inference, path, settings)


def _not_started(provider: str, log: str, failure: Exception | None) -> DeviceError:
    reason = loader_reason(log) or (plain_message(failure) if failure else "no reason given")
    hint = "check the driver and CUDA libraries, or use [[session.device=cpu]]"
    if provider == TENSORRT:
        hint = "install TensorRT's libraries for this onnxruntime, or use [[session.device=cuda]]"
    return DeviceError(f"{provider} did not start: {reason}", hint=hint)


def _is_quantised(model: onnx.ModelProto) -> bool:
    kinds = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv")
    return any(node.op_type in kinds for node in model.graph.node)


def _gpu_providers(settings: SessionSettings) -> list[tuple[str, dict[str, str]]]:
    """CUDA, with TensorRT before it where that was asked for."""
    device, tf32 = settings.device_index, settings.use_tf32
    cuda = settings.cuda.for_provider(device=device, batch=settings.batch, tf32=tf32)
    if not settings.device.startswith("tensorrt"):
        return [(CUDA, cuda)]
    engine = {"device_id": str(device), "trt_cuda_graph_enable": str(int(settings.cuda.graph))}
    if settings.engine_cache is not None:
        place = str(settings.engine_cache)
        engine |= {"trt_engine_cache_enable": "1", "trt_engine_cache_path": place}
        engine |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": place}
    return [(TENSORRT, engine), (CUDA, cuda)]


def _options(model: onnx.ModelProto, settings: SessionSettings) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # errors reach us as exceptions; the loader logs elsewhere
    options.intra_op_num_threads = settings.n_threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    name = free_batch_name(model)
    if settings.batch is not None and name is not None:
        options.add_free_dimension_override_by_name(name, settings.batch)
    return options


def _load_cuda_libraries() -> None:
    """Torch has loaded its CUDA libraries on import; the rest comes from the nvidia packages."""
    if torch.version.cuda is not None:
        ort.preload_dlls()
