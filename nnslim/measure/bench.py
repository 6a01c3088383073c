"""Measure cut networks against the network that they come from, as they ship."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

from nnslim.measure.layer_models import time_layers
from nnslim.measure.layer_times import estimate_times
from nnslim.measure.paired import measure_ratio
from nnslim.onnx import export_onnx, open_session
from nnslim.settings.export import ExportSettings

if TYPE_CHECKING:
    from pathlib import Path

    from nnslim.measure.layer_times import LayerTimes
    from nnslim.measure.ratio import PairedRatio
    from nnslim.network.network import Network
    from nnslim.onnx import Session
    from nnslim.onnx.running import BoundRun
    from nnslim.settings.eval import PairedSettings
    from nnslim.settings.session import SessionSettings

__all__ = ["Bench"]


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

        def at(size: int) -> PairedRatio:
            return measure_ratio(
                lambda: (self._run(self.parent, size), self._run(path, size)), settings
            )

        return {size: at(size) for size in self.batch_sizes}

    def layer_times(self) -> dict[int, LayerTimes]:
        """Time the parent's layers one by one, at every batch size."""

        def at(size: int) -> LayerTimes:
            return estimate_times(
                self._network, lambda layers: time_layers(layers, self.settings, size)
            )

        return {size: at(size) for size in self.batch_sizes}

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

    def _run(self, path: Path, size: int) -> BoundRun:
        shape = self._network.input_shape
        x = np.random.default_rng(0).standard_normal((size, *shape), dtype=np.float32)
        return self._open(path, size).bind(x)
