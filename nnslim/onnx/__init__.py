"""ONNX: export, proof of equality, and the one way into onnxruntime."""

from __future__ import annotations

from nnslim.onnx.export import ExportReport, export_onnx
from nnslim.onnx.parity import Parity, check_parity
from nnslim.onnx.session import Session, open_session

__all__ = [
    "ExportReport",
    "Parity",
    "Session",
    "check_parity",
    "export_onnx",
    "open_session",
]
