"""Run single layers in onnxruntime, as ONNX files, to learn what they cost."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from nnslim.measure.latency import measure_latency
from nnslim.onnx import open_session
from nnslim.settings.eval import LatencySettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnslim.measure.layer_times import LayerShape
    from nnslim.settings.session import SessionSettings

__all__ = ["layer_model", "time_layers"]


def time_layers(layers: Sequence[LayerShape], settings: SessionSettings, batch: int) -> list[float]:
    """Return the fastest run of each layer alone, in milliseconds.

    All layers take turns, so that each finds the caches as another left them. The fastest run
    counts: what else runs on the machine only ever adds.
    """
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="nnslim-") as folder:
        runs = []
        for index, layer in enumerate(layers):
            path = Path(folder) / f"{index}.onnx"
            path.write_bytes(layer_model(layer, batch).SerializeToString())
            session = open_session(path, replace(settings, batch=batch, layout="NCHW"))
            x = generator.standard_normal((batch, *_input(layer)), dtype=np.float32)
            runs.append(session.bind(x))
        quick = LatencySettings(
            warmup_runs=2, warmup_s=0.0, rounds=8, calls_per_round=2, min_s=0.0, max_s=3.0
        )
        return [latency.min_ms for latency in measure_latency(runs, quick)]


def _input(layer: LayerShape) -> tuple[int, int, int]:
    return (*layer.image, layer.inputs) if layer.is_linear else (layer.inputs, *layer.image)


def layer_model(layer: LayerShape, batch: int) -> onnx.ModelProto:
    """Build the ONNX model of one layer with random weights.

    A convolution's output is averaged over the image, since inside a network it stays in the
    layout that onnxruntime gives it, and putting it back in order is not the layer's cost.
    """
    if layer.is_linear:
        shape, result = (layer.inputs, layer.outputs), (*layer.image, layer.outputs)
        nodes = [helper.make_node("MatMul", ["input", "weight"], ["output"])]
    else:
        shape = (layer.outputs, layer.inputs // layer.groups, *layer.kernel)
        result = (layer.outputs, 1, 1)
        nodes = [_convolution(layer), helper.make_node("GlobalAveragePool", ["y"], ["output"])]
    weight = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, *_input(layer)])
    returned = helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, *result])
    stored = [numpy_helper.from_array(weight, "weight")]
    graph = helper.make_graph(nodes, "layer", [given], [returned], stored)
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, ir_version=10, opset_imports=opset)


def _convolution(layer: LayerShape) -> onnx.NodeProto:
    return helper.make_node(
        "Conv",
        ["input", "weight"],
        ["y"],
        kernel_shape=layer.kernel,
        strides=layer.stride,
        pads=(*layer.padding, *layer.padding),
        dilations=layer.dilation,
        group=layer.groups,
    )
