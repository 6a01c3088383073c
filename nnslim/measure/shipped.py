"""The ONNX file that a run writes: proven equal to the network, and measured as it ships."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnslim.data import Loader
from nnslim.measure.accuracy import onnx_accuracy
from nnslim.onnx import SessionSettings, export_onnx, open_session

if TYPE_CHECKING:
    from pathlib import Path

    from nnslim.data import Data
    from nnslim.network.network import Network

__all__ = ["export_and_measure"]


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
