"""What nnslim uses of onnxruntime: provider names, its exceptions, and what it says and logs.

What its C++ code writes to file descriptor 2 is the only place that says why a provider failed.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Generator
from dataclasses import dataclass

from onnxruntime import InferenceSession as Inference  # noqa: TID251 - the type only
from onnxruntime.capi import (
    onnxruntime_pybind11_state as _native,  # pyright: ignore[reportAttributeAccessIssue]
)

__all__ = [
    "CPU",
    "CUDA",
    "ORT_ERRORS",
    "TENSORRT",
    "Captured",
    "ExecutionError",
    "Inference",
    "capture_native_output",
    "loader_reason",
    "plain_message",
]

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

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_LOG_PREFIX = re.compile(r"^.*?\[[VIWEF]:onnxruntime:[^\]]*\]\s*")
# The most telling parts first; each has been seen in, or is a string of, onnxruntime 1.31.
_TELLING = (
    re.compile(r"with error: (.+)"),
    re.compile(r"(Failed to load \S+: .+)"),
    re.compile(r"(CUDA failure \d+: [^;]+)"),
    re.compile(r"(CUDA driver version is insufficient[^;]*)"),
    re.compile(r"(no CUDA-capable device[^;]*)"),
)


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


@dataclass
class Captured:
    """What was written while the capture lasted; complete once the ``with`` block is left.

    Attributes:
        text: Everything, as written.
    """

    text: str = ""


@contextlib.contextmanager
def capture_native_output() -> Generator[Captured]:
    r"""Divert file descriptor 2, Python's stdout and Python warnings for the whole process.

    Keep the block short: other threads that write to stderr meanwhile are captured too.

    Example:
        >>> with capture_native_output() as captured:
        ...     _ = os.write(2, b"from C++\n")
        >>> captured.text
        'from C++\n'
    """
    captured, printed = Captured(), io.StringIO()
    sys.stderr.flush()
    saved = os.dup(2)
    with (
        tempfile.TemporaryFile() as file,
        warnings.catch_warnings(record=True) as warned,
        contextlib.redirect_stdout(printed),
    ):
        warnings.simplefilter("always")
        os.dup2(file.fileno(), 2)
        try:
            yield captured
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            native = file.read().decode(errors="replace")
            captured.text = native + printed.getvalue() + "".join(f"{w.message}\n" for w in warned)


def loader_reason(text: str) -> str | None:
    """Pick the one line of a captured log that says why a provider did not start.

    Example:
        >>> log = "[E:onnxruntime:Default, a.cc:1 f] Failed to load library x.so with error: "
        >>> loader_reason(log + "libcuda.so.1: cannot open shared object file")
        'libcuda.so.1: cannot open shared object file'
        >>> loader_reason("") is None
        True
    """
    plain = _ANSI.sub("", text)
    for pattern in _TELLING:
        if match := pattern.search(plain):
            return match.group(1).strip()
    lines = [_LOG_PREFIX.sub("", line).strip() for line in plain.splitlines()]
    return next((line for line in reversed(lines) if line), None)
