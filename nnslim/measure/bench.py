"""Measure cut networks against the network that they come from, and single layers, as they ship."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from nnslim.measure.latency import measure_latency
from nnslim.measure.layer_times import LayerShape, LayerTimes, estimate_times
from nnslim.measure.paired import measure_ratios
from nnslim.measure.ratio import PairedRatio
from nnslim.network.network import Network
from nnslim.onnx import Session, export_onnx, open_session
from nnslim.onnx.running import BoundRun
from nnslim.settings.eval import LatencySettings, PairedSettings
from nnslim.settings.export import ExportSettings
from nnslim.settings.session import SessionSettings

__all__ = ["Bench", "layer_model", "time_layers"]


class Bench:
    """A parent, exported once, and what is measured against it.

    Attributes:
        parent: The parent's file.
        settings: Device and threads.
        batch_sizes: Images per run; each is measured.
    """

    def __init__(
        self,
        parent: Network,
        folder: Path,
        settings: SessionSettings,
        batch_sizes: tuple[int, ...] = (1,),
    ) -> None:
        """Export the parent into ``folder``, which the caller removes in the end.

        Raises:
            DeviceError: The device that was asked for is not there.
            ExportMismatchError: The export computes something else than the network.
        """
        self.settings = settings
        self.batch_sizes = batch_sizes
        self._network, self._folder = parent, folder
        self._n_exports = 0
        self._warnings: tuple[str, ...] = ()
        self.parent = self.export(parent)
        self._provider = self._open(self.parent, batch_sizes[0]).provider

    def export(self, network: Network) -> Path:
        """Write a network; a fixed batch takes half as long to export, and runs the same.

        Raises:
            ExportMismatchError: The export computes something else than the network.
        """
        path = self._folder / f"{self._n_exports}.onnx"
        batch = self.batch_sizes[0] if len(self.batch_sizes) == 1 else None
        export_onnx(network, path, settings=ExportSettings(batch=batch))
        self._n_exports += 1
        return path

    def ratios(self, path: Path, settings: PairedSettings | None = None) -> dict[int, PairedRatio]:
        """Measure a file against the parent's at every batch size; the parent's file is a control.

        Raises:
            DeviceError: The device failed.
        """
        return {
            size: measure_ratios(partial(self._pair, path, size), settings)[0]
            for size in self.batch_sizes
        }

    def layer_times(self) -> dict[int, LayerTimes]:
        """Time the parent's layers one by one, at every batch size."""
        return {
            size: estimate_times(
                self._network, partial(time_layers, settings=self.settings, batch=size)
            )
            for size in self.batch_sizes
        }

    def facts(self) -> dict[str, object]:
        """Say where and how it measures, in plain JSON values."""
        return {
            "device_requested": self.settings.device,
            "provider_used": self._provider,
            "cpu_threads": self.settings.n_threads,
            "onnxruntime": ort.__version__,
            "latency_clock": "input on the device, result awaited, transfers not timed",
            "n_exports": self._n_exports,
            "session_warnings": list(self._warnings),
        }

    def _open(self, path: Path, size: int) -> Session:
        session = open_session(path, replace(self.settings, batch=size, use_tf32=True))
        self._warnings = tuple(dict.fromkeys((*self._warnings, *session.warnings)))
        return session

    def _pair(self, path: Path, size: int) -> tuple[BoundRun, BoundRun]:
        return self._run(self.parent, size), self._run(path, size)

    def _run(self, path: Path, size: int) -> BoundRun:
        shape = self._network.input_shape
        x = np.random.default_rng(0).standard_normal((size, *shape), dtype=np.float32)
        return self._open(path, size).bind(x)


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
