"""What a report says of the model and the images that went in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnslim.data import Data
    from nnslim.models import LoadedModel

__all__ = ["data_json", "model_json"]


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
