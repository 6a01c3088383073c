"""A file to measure, and the ONNX file that stands for it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from nnslim.errors import InputError
from nnslim.measure.onnx_cost import OnnxCost, onnx_file_cost
from nnslim.measure.results import EvalFile
from nnslim.onnx import Session, export_onnx, open_session
from nnslim.onnx.model_file import external_files, read_model
from nnslim.onnx.running import BoundRun
from nnslim.settings.eval import EvalSettings

__all__ = ["Subject", "random_images"]


@dataclass(frozen=True)
class Subject:
    """A file that is measured, and the same file, or its export, at ``onnx_path``.

    ``n_parameters`` are the network's or the ONNX file's, as ``counted`` says; ``outside`` are
    files with further weights of the ONNX file.
    """

    file: EvalFile
    onnx_path: Path
    cost: OnnxCost
    n_parameters: int
    counted: Literal["network", "onnx initializers"]
    outside: tuple[Path, ...] = ()

    @classmethod
    def of(cls, file: EvalFile, onnx_path: Path) -> Subject:
        """Read a file; what is not ONNX is exported to ``onnx_path``.

        Raises:
            InputError: The file cannot be read.
            ExportMismatchError: Its export computes something else.
        """
        network = file.network
        if network is None and file.path.suffix.lower() == ".onnx":
            model = read_model(file.path)
            cost, outside = onnx_file_cost(model), external_files(model, file.path)
            return cls(file, file.path, cost, cost.n_parameters, "onnx initializers", outside)
        if not file.path.is_file():
            raise InputError(f"{file.path}: no such file", hint="check the path")
        if network is None:
            # Lazy: measuring ONNX files needs no reader of other formats.
            from nnslim.artifact import load_network  # noqa: PLC0415

            network = load_network(file.path)
        export_onnx(network, onnx_path)
        n_parameters = sum(parameter.numel() for parameter in network.parameters())
        return cls(file, onnx_path, onnx_file_cost(onnx_path), n_parameters, "network")

    @property
    def name(self) -> str:
        """Name of the file without its folder."""
        return self.file.path.name

    @property
    def n_bytes(self) -> int:
        """Size of the file, with its further weights."""
        return sum(part.stat().st_size for part in (self.file.path, *self.outside))

    @property
    def onnx_bytes(self) -> int:
        """Size of the ONNX file, with its further weights."""
        return sum(part.stat().st_size for part in (self.onnx_path, *self.outside))

    @property
    def sha256(self) -> str:
        """Hash of the file and its further weights."""
        digest = hashlib.sha256()
        for part in (self.file.path, *self.outside):
            digest.update(part.read_bytes())
        return digest.hexdigest()

    def open(self, settings: EvalSettings, batch: int, *, tf32: bool) -> Session:
        """Open with a fixed batch, so that the GPU can tune for it; a graph is for bound inputs."""
        session = settings.session
        cuda = session.cuda if tf32 else replace(session.cuda, graph=False)
        return open_session(self.onnx_path, replace(session, batch=batch, use_tf32=tf32, cuda=cuda))

    def fresh_run(self, settings: EvalSettings, size: int, image: tuple[int, int, int]) -> BoundRun:
        """Open a session with ``size`` random images of (C, H, W) bound to it."""
        x = random_images(settings, size, image)
        return self.open(settings, size, tf32=True).bind(x)


def random_images(settings: EvalSettings, size: int, image: tuple[int, int, int]) -> np.ndarray:
    """Draw (size, C, H, W) float32, the same in every call."""
    generator = np.random.default_rng(settings.seed)
    return generator.standard_normal((size, *image), dtype=np.float32)
