"""The parts of ``report.json`` by name; ``prune.schema.json`` is the same for machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict

__all__ = [
    "Epoch",
    "Group",
    "Layer",
    "Model",
    "PairedLatency",
    "PruneReport",
    "StageResult",
    "State",
    "TensorPart",
]


class State(TypedDict):
    """What a network costs and how well it does; None is not measured."""

    params: int
    macs: int
    bytes: int
    top1_pct: float | None
    top5_pct: float | None
    n_images: int | None


class TensorPart(TypedDict):
    """Where a group's channels stand in one tensor.

    Channel c owns ``positions[c]``, or where that is left out the ``positions_per_channel`` indices
    from ``start + c * positions_per_channel`` on.
    """

    name: str
    dim: int
    start: NotRequired[int]
    positions_per_channel: NotRequired[int]
    positions: NotRequired[list[list[int]]]
    blocks: NotRequired[list[list[int]]]


class Group(TypedDict):
    """One channel group and what became of it."""

    name: str
    layers: list[str]
    status: str
    reason: str | None
    width_before: int
    width_after: int
    kept: list[int]
    parts: NotRequired[list[list[int]]]
    tensors: list[TensorPart]


class Layer(TypedDict):
    """One layer or joint of the network, with the channels of its result."""

    name: str
    kind: str
    module: str
    before: int
    after: int
    group: str | None
    inputs: list[str]


class Epoch(TypedDict):
    """One epoch, numbered through the whole run."""

    epoch: int
    stage: str
    loss: float
    train_top1_pct: float
    val_top1_pct: float | None
    lr: float
    seconds: float


class StageResult(TypedDict):
    """The network after one stage of the run."""

    stage: str
    round: int
    params: int
    macs: int
    top1_pct: float | None
    val_top1_pct: float | None
    taken_back: bool


class PairedLatency(TypedDict):
    """The pruned file's latency as a share of the input model's, with its interval."""

    batch_size: int
    ratio: float
    low: float
    high: float
    parent_ms: float
    candidate_ms: float


class Model(TypedDict):
    """The network that was pruned."""

    source: str
    sha256: str | None
    arch: str | None
    parameters: int
    classes: list[str] | None
    notes: list[str]


class PruneReport(TypedDict):
    """The whole document; a dry run has only the required keys, ``model`` and ``settings``."""

    schema: str
    before: State
    after: State
    groups: list[Group]
    layers: NotRequired[list[Layer]]
    model: NotRequired[Model]
    data: NotRequired[Mapping[str, object] | None]
    settings: NotRequired[Mapping[str, object]]
    check: NotRequired[Mapping[str, object]]
    training: NotRequired[list[Epoch]]
    stages: NotRequired[list[StageResult]]
    latency: NotRequired[list[PairedLatency]]
    latency_search: NotRequired[Mapping[str, object] | None]
    alignment: NotRequired[Mapping[str, object] | None]
    onnx: NotRequired[Mapping[str, object] | None]
    warnings: NotRequired[list[str]]
    versions: NotRequired[Mapping[str, str]]
