"""The line that belongs in a bug report, without importing what it names."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from nnslim.version import __version__

__all__ = ["version_text"]

_PACKAGES = ("torch", "torchvision", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime")


def version_text() -> str:
    """Return ``nnslim 0.1.0 (python 3.11.7, torch 2.14.1, ...)``; what is missing is left out."""
    parts = [f"python {platform.python_version()}"]
    for name in _PACKAGES:
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return f"nnslim {__version__} ({', '.join(parts)})"
