"""What a run publishes: the network, its proven and measured ONNX file, reports and records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnslim.data import Loader
from nnslim.measure.accuracy import onnx_accuracy
from nnslim.onnx import export_onnx, open_session
from nnslim.settings.session import SessionSettings

if TYPE_CHECKING:
    from pathlib import Path

    from nnslim.data import Data
    from nnslim.models import LoadedModel
    from nnslim.network.network import Network

__all__ = ["data_json", "export_and_measure", "model_json"]


def model_json(model: LoadedModel) -> dict[str, object]:
    """Return where a model came from and what it is, as plain JSON values."""
    network = model.network
    return {
        "source": model.source,
        "sha256": model.sha256,
        "arch": model.arch,
        "parameters": network.n_parameters,
        "classes": list(network.classes) if network.classes else None,
        "preprocess": network.preprocess.to_json() if network.preprocess else None,
        "notes": [*model.notes, *network.notes],
    }


def data_json(data: Data | None) -> dict[str, object] | None:
    """Return how many images there are, and what was decided about them."""
    if data is None:
        return None
    counts = {
        name: len(data.splits[name]) if data.has(name) else 0 for name in ("train", "val", "test")
    }
    return {"name": data.name, "notes": list(data.notes), **counts}


def export_and_measure(network: Network, data: Data | None, path: Path) -> dict[str, object]:
    """Write a network's ONNX file and score it on the test images, or validation without them."""
    written = export_onnx(network, path)
    entry: dict[str, object] = {**written.to_json(), "path": path.name, "top1_pct": None}
    preprocess = network.preprocess
    if data is not None and preprocess is not None:
        split = data.splits[data.measured]
        session = open_session(path, SessionSettings(device="cpu"))
        entry["top1_pct"] = onnx_accuracy(session, Loader(split, preprocess, 100)).top1_pct
    return entry
