"""Real results of ``nnslim eval`` on tiny files, as JSON documents."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from nnslim.artifact import save_network
from nnslim.data import Augment, Data, Loader, Preprocess, Split
from nnslim.measure.evaluation import evaluate
from nnslim.measure.gates import check_gates
from nnslim.measure.results import EvalFile
from nnslim.network import trace_network
from nnslim.onnx import export_onnx
from nnslim.settings.eval import EvalSettings, Gates, LatencySettings, PairedSettings
from nnslim.settings.session import SessionSettings
from tests.onnx.nets import two_branches

LONG = (
    "a-network-with-a-name-that-somebody-has-chosen-with-care-and-that-goes-on-for-long-epoch-120"
)
TIMES = LatencySettings(warmup_runs=1, warmup_s=0, rounds=2, calls_per_round=2, min_s=0, block_s=0)
PAIRS = PairedSettings(
    pairs=1, max_pairs=1, rounds=2, least_rounds=1, min_s=0, block_s=0, warmup_s=0, draws=100
)
PLAIN = Preprocess(size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3)
EVERYTHING = Gates(
    min_top1=1,
    max_drop=5,
    max_latency_ratio=0.001,
    max_latency_ms=1e6,
    max_params=1_000_000,
    max_macs=10,
    max_bytes=10_000_000,
    max_params_ratio=1,
    max_macs_ratio=1,
    max_bytes_ratio=2,
)


def document(files, data, *, limits=None, batch_sizes=(1, 3), device="cpu"):
    settings = EvalSettings(
        SessionSettings(device, threads=1), batch_sizes, latency=TIMES, paired=PAIRS
    )
    report = evaluate(files, data, settings)
    gates = [verdict.to_json() for verdict in check_gates(report, limits or Gates())]
    return json.loads(json.dumps({**report.to_json(), "gates": gates}, allow_nan=False))


@pytest.fixture(scope="session")
def net():
    """A network that does not call every image the same, and 60 images."""
    net = two_branches().eval()
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 3), np.uint8)
    with torch.no_grad():
        ((x, _),) = Loader(Split(np.zeros(60, int), pixels), PLAIN, 60)
        net.head.bias -= net(x).mean(0)
        labels = net(x).argmax(1).numpy()
    return net, Split(labels, pixels)


@pytest.fixture(scope="session")
def place(net, tmp_path_factory):
    """The network as nnslim stores it, as ONNX, and as ONNX with other and with broken biases."""
    folder = tmp_path_factory.mktemp("report")
    traced = trace_network(net[0], torch.zeros(2, 3, 8, 8))
    traced.preprocess = PLAIN
    save_network(traced, folder / "main.safetensors")
    export_onnx(traced, folder / "main.onnx")
    for name, change in (("worse", 0.002), (LONG, 0.002), ("broken", np.nan)):
        model = onnx.load(folder / "main.onnx")
        bias = next(t for t in model.graph.initializer if t.name == "head.bias")
        values = onnx.numpy_helper.to_array(bias) + np.float32(change) * np.arange(10, dtype="f")
        bias.CopyFrom(onnx.numpy_helper.from_array(values, "head.bias"))
        onnx.save(model, folder / f"{name}.onnx")
    return folder


@pytest.fixture(scope="session")
def images(net) -> Data:
    """The images, as the network itself has labelled them."""
    names = tuple(f"class {i} | <b>_*" for i in range(10))
    augment = Augment(pad=0, flip=False)
    return Data("made", names, PLAIN, {"test": net[1]}, augment, ("a note",))


@pytest.fixture(scope="session")
def compared(place, images):
    """Two files and a baseline, with every limit."""
    return document(gated(place), images, limits=EVERYTHING)


def gated(place: Path) -> list[EvalFile]:
    baseline = EvalFile(place / "main.onnx", baseline=True)
    return [EvalFile(place / "worse.onnx"), EvalFile(place / f"{LONG}.onnx"), baseline]
