"""Measure what ships: accuracy, latency, parameters and multiply-adds, and gates on them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnslim.measure.accuracy import Accuracy, network_accuracy, onnx_accuracy
    from nnslim.measure.comparison import Comparison
    from nnslim.measure.evaluation import evaluate
    from nnslim.measure.gates import Verdict, check_gates
    from nnslim.measure.latency import Latency, measure_latency
    from nnslim.measure.onnx_cost import OnnxCost, onnx_file_cost
    from nnslim.measure.results import EvalFile, EvalReport, FileResult

__all__ = [
    "Accuracy",
    "Comparison",
    "EvalFile",
    "EvalReport",
    "FileResult",
    "Latency",
    "OnnxCost",
    "Verdict",
    "check_gates",
    "evaluate",
    "measure_latency",
    "network_accuracy",
    "onnx_accuracy",
    "onnx_file_cost",
]

_HOME = {
    "Accuracy": "accuracy",
    "Comparison": "comparison",
    "EvalFile": "results",
    "EvalReport": "results",
    "FileResult": "results",
    "Latency": "latency",
    "OnnxCost": "onnx_cost",
    "Verdict": "gates",
    "check_gates": "gates",
    "evaluate": "evaluation",
    "measure_latency": "latency",
    "network_accuracy": "accuracy",
    "onnx_accuracy": "accuracy",
    "onnx_file_cost": "onnx_cost",
}


def __getattr__(name: str) -> object:
    # Lazy, so that counting a network's MACs does not import onnxruntime.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
