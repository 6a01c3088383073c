"""What nnslim uses of onnxruntime: provider names, the session's interface, its exceptions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import (
    onnxruntime_pybind11_state as _native,  # pyright: ignore[reportAttributeAccessIssue]
)

__all__ = ["CPU", "CUDA", "ORT_ERRORS", "TENSORRT", "ExecutionError", "Inference", "plain_message"]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

ExecutionError: type[Exception] = _native.EPFail

# onnxruntime's exceptions share no base class.
ORT_ERRORS: tuple[type[Exception], ...] = (
    _native.EPFail,
    _native.Fail,
    _native.InvalidArgument,
    _native.InvalidGraph,
    _native.InvalidProtobuf,
    _native.NoModel,
    _native.NoSuchFile,
    _native.NotFound,
    _native.NotImplemented,
    _native.RuntimeException,
    RuntimeError,
    ValueError,
)


class Inference(Protocol):
    """The part of ``onnxruntime.InferenceSession`` that is used, for tests to stand in for."""

    def get_providers(self) -> Sequence[str]:
        """Return the providers in use, the first one first."""
        ...

    def get_provider_graph_assignment_info(self) -> Sequence[ort.OrtEpAssignedSubgraph]:
        """Return which provider took which nodes."""
        ...

    def disable_fallback(self) -> None:
        """Forbid the session to restart itself on the CPU when a run fails."""
        ...

    def get_inputs(self) -> Sequence[ort.NodeArg]:
        """Return the inputs' names, types and shapes."""
        ...

    def get_outputs(self) -> Sequence[ort.NodeArg]:
        """Return the outputs' names, types and shapes."""
        ...

    def get_modelmeta(self) -> ort.ModelMetadata:
        """Return the properties of the file."""
        ...

    def get_provider_options(self) -> Mapping[str, Mapping[str, str]]:
        """Return the options in use, by provider."""
        ...

    def io_binding(self) -> ort.IOBinding:
        """Return an empty set of bound tensors."""
        ...

    def run_with_iobinding(self, binding: ort.IOBinding, /) -> None:
        """Run on bound tensors."""
        ...

    def run(self, names: list[str], feed: dict[str, np.ndarray], /) -> Sequence[object]:
        """Run on host arrays and return the named outputs."""
        ...


def plain_message(error: Exception) -> str:
    r"""Put onnxruntime's message on one line, without its codes and places in C++.

    Example:
        >>> error = RuntimeError("[ONNXRuntimeError] : 1 : FAIL : /b.cc:7 f(int) no such\n thing")
        >>> plain_message(error)
        'no such thing'
    """
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    while place := re.search(r"/\S+\.(?:cc|cpp|cu|h):\d+ ", text):
        text = text[: place.start()] + _after_signature(text[place.end() :])
    return text[:300]


def _after_signature(text: str) -> str:
    """Drop ``type name(arguments)``, whose arguments may hold parentheses."""
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if letter == ")" and depth == 0:
            return text[index + 1 :].removeprefix(" const").lstrip()
    return text
