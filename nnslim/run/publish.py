"""What a run publishes: the network, its proven and measured ONNX file, reports and records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from nnslim.artifact import save_network
from nnslim.artifact.manifest import versions
from nnslim.data import Loader
from nnslim.measure.accuracy import onnx_accuracy
from nnslim.onnx import export_onnx, open_session
from nnslim.processes import is_main
from nnslim.settings.session import SessionSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from nnslim.data import Data
    from nnslim.models import LoadedModel
    from nnslim.network.network import Network
    from nnslim.run.output import RunOutput

__all__ = ["Publication", "Report", "data_json", "model_json", "publish"]

Report = dict[str, object]


@dataclass(frozen=True)
class Publication:
    """What differs between operations in what they publish: card, page, further measurements."""

    operation: str  # "prune" or "grow"
    title: str  # follows the name of the model in the title of the card
    summary: str
    rows: tuple[tuple[str, str], ...]  # names in the card's table, and the report's keys
    notes: tuple[str, ...]
    page: Callable[[Report], str]
    compare: Callable[[Path], Report] = lambda _: {}  # measures the ONNX file, for the report


def publish(
    output: RunOutput,
    network: Network,
    data: Data | None,
    report: Report,
    publication: Publication,
) -> Report:
    """Write the output directory in the main process; completes the report, and returns it."""
    if not is_main():
        return report
    with output.directory as run:
        save_network(network, run.file("model.safetensors"))
        file = run.file("model.onnx")
        report["onnx"] = _export_and_measure(network, data, file)
        report |= {**publication.compare(file), "versions": versions()}
        output.close(run, report, publication.page(report), _card(publication, report))
    return report


def model_json(model: LoadedModel) -> Report:
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


def data_json(data: Data | None) -> Report | None:
    """Return how many images there are, and what was decided about them."""
    if data is None:
        return None
    counts = {
        name: len(data.splits[name]) if data.has(name) else 0 for name in ("train", "val", "test")
    }
    return {"name": data.name, "notes": list(data.notes), **counts}


def _export_and_measure(network: Network, data: Data | None, path: Path) -> Report:
    """Write a network's ONNX file and score it on the test images, or validation without them."""
    written = export_onnx(network, path)
    entry: Report = {**written.to_json(), "path": path.name, "top1_pct": None}
    preprocess = network.preprocess
    if data is not None and preprocess is not None:
        session = open_session(path, SessionSettings(device="cpu"))
        images = Loader(data.splits[data.measured], preprocess, 100)
        entry["top1_pct"] = onnx_accuracy(session, images).top1_pct
    return entry


def _card(card: Publication, report: Report) -> Report:
    model, data = cast("Report", report["model"]), cast("Report | None", report["data"])
    return {
        "name": f"{Path(str(model['source'])).stem}, {card.title}",
        "operation": card.operation,
        "summary": card.summary,
        "results": [{"name": name, **cast("Report", report[key])} for name, key in card.rows],
        "datasets": (str(data["name"]),) if data else (),
        "preprocess": model["preprocess"],
        "classes": model["classes"],
        "notes": card.notes,
        "onnx": "model.onnx",
    }
