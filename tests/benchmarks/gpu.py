"""``make bench-gpu``: latency of small CNNs under every option of the CUDA provider.

python -m tests.benchmarks.gpu [--models resnet18 ...] [--batches 1 64] [--minutes 3] [--full]
    (what is done is not done again; without a GPU it stops with exit code 3)

Each option alone is compared with the plainest setting, and some of them together; ``--full`` adds
every combination, which takes hours.

Random weights: time does not depend on them. Each setting is timed in fresh sessions, with the
input on the device and the result awaited; one row holds the median over the sessions.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torchvision

from nnslim.artifact import write_page
from nnslim.artifact.directory import write_json
from nnslim.channels import channel_groups
from nnslim.channels.magnitude import magnitude
from nnslim.cli.output import Output
from nnslim.errors import DeviceError
from nnslim.measure.latency import measure_latency
from nnslim.models import ModelOptions, load_model
from nnslim.network import Network, trace_network
from nnslim.onnx import Session, export_onnx, open_session
from nnslim.pruning import Constraints, CostModel, Limit, make_plan
from nnslim.settings.commands import TalkSettings
from nnslim.settings.eval import LatencySettings
from nnslim.settings.export import ExportSettings
from nnslim.settings.session import CudaOptions, SessionSettings
from nnslim.surgery import apply_edit

MODELS = ("resnet56", "resnet18", "resnet50", "mobilenet_v2", "resnet50-half")
PRECISIONS = ("fp32", "tf32", "fp16")
SWITCHES = (False, True)
SESSIONS = 3
_TIMING = LatencySettings(warmup_s=0.3, warmup_cap_s=2.0, min_s=0.5)
Opener = Callable[[Path, SessionSettings], Session]


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    model: str
    batch: int
    precision: str
    prefer_nhwc: bool
    fuse_conv_bias: bool
    conv_search: str
    graph: bool

    @property
    def name(self) -> str:
        """A file name."""
        on = [key for key in ("prefer_nhwc", "fuse_conv_bias", "graph") if getattr(self, key)]
        return "-".join([self.model, f"b{self.batch}", self.precision, self.conv_search, *on])

    def session(self) -> SessionSettings:
        """How it is opened."""
        return SessionSettings(
            device="cuda",
            batch=self.batch,
            use_tf32=self.precision != "fp32",
            cuda=CudaOptions(
                self.prefer_nhwc,
                self.fuse_conv_bias,
                self.conv_search,  # pyright: ignore[reportArgumentType]
                self.graph,
            ),
        )


def effects(models: Sequence[str], batches: Sequence[int]) -> Iterator[Setting]:
    """The plainest setting, each option alone, and those together that belong together."""
    plain = {"precision": "fp32", "prefer_nhwc": False, "fuse_conv_bias": False}
    plain |= {"conv_search": "EXHAUSTIVE", "graph": False}
    half = {"precision": "fp16"}
    changes: tuple[dict[str, Any], ...] = (
        {},
        half,
        {"graph": True},
        half | {"prefer_nhwc": True},
        half | {"prefer_nhwc": True, "graph": True},
        half | {"prefer_nhwc": True, "fuse_conv_bias": True, "graph": True},
        {"precision": "tf32"},
        {"prefer_nhwc": True},
        {"fuse_conv_bias": True},
        {"conv_search": "HEURISTIC"},
    )
    for change, model, batch in itertools.product(changes, models, batches):
        yield Setting(model, batch, **{**plain, **change})


def matrix(models: Sequence[str], batches: Sequence[int]) -> Iterator[Setting]:
    """Every combination: what ``effects`` gives, then the others."""
    first = list(effects(models, batches))
    yield from first
    searches = ("EXHAUSTIVE", "HEURISTIC")
    for values in itertools.product(
        models, batches, PRECISIONS, SWITCHES, SWITCHES, searches, SWITCHES
    ):
        if (own := Setting(*values)) not in first:
            yield own


def measure(setting: Setting, path: Path, opener: Opener = open_session) -> dict[str, Any]:
    """Time one setting in fresh sessions; a setting that cannot run says why."""
    times: list[float] = []
    used: dict[str, str] = {}
    try:
        for _ in range(SESSIONS):
            session = opener(path, setting.session())
            shape = tuple(size or 0 for size in session.input_shape)
            run = session.bind(np.zeros((setting.batch, *shape), np.float32))
            (latency,) = measure_latency([run], _TIMING)
            session.check_still_on_device()
            used = dict(session.provider_options)
            times.append(latency.median_ms)
    except DeviceError as error:
        return {**asdict(setting), "failed": error.message}
    spread = (max(times) - min(times)) / median(times)
    return {
        **asdict(setting),
        "median_ms": median(times),
        "spread": spread,
        "provider_options": used,
        "failed": None,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """One line for each setting; of each model and batch the fastest first."""
    heads = ["model", "batch", "precision", "nhwc", "fused bias", "search", "graph"]
    heads += ["ms", "spread over sessions, %", "times as fast as plain fp32"]
    lines = [f"| {' | '.join(heads)} |", f"| --- | ---: | --- |{' --- |' * 4}{' ---: |' * 3}"]
    plain = {
        (row["model"], row["batch"]): row["median_ms"]
        for row in rows
        if row["precision"] == "fp32"
        and row["conv_search"] == "EXHAUSTIVE"
        and not (row["prefer_nhwc"] or row["fuse_conv_bias"] or row["graph"] or row["failed"])
    }
    key = ("model", "batch")
    for row in sorted(rows, key=lambda r: (*(r[k] for k in key), r.get("median_ms", float("inf")))):
        switches = ["yes" if row[k] else "no" for k in ("prefer_nhwc", "fuse_conv_bias")]
        cells = [row["model"], str(row["batch"]), row["precision"], *switches]
        cells += [row["conv_search"].lower(), "yes" if row["graph"] else "no"]
        if row["failed"]:
            cells += ["-", "-", row["failed"][:80]]
        else:
            first = plain.get((row["model"], row["batch"]))
            times = "-" if first is None else f"{first / row['median_ms']:.2f}"
            cells += [f"{row['median_ms']:.3f}", f"{100 * row['spread']:.1f}", times]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def network_named(name: str) -> Network:
    """Build one of ``MODELS`` with random weights."""
    torch.manual_seed(0)
    if name == "resnet56":
        return load_model(None, ModelOptions(arch="cifar_resnet56")).network
    stem, _, half = name.partition("-")
    model = torchvision.models.get_model(stem, weights=None).eval()
    network = trace_network(model, torch.zeros(2, 3, 224, 224))
    if not half:
        return network
    channels = channel_groups(network)
    constraints = Constraints({"params": Limit(0.5, relative=True)}, align=8)
    plan = make_plan(
        channels, CostModel(network, channels), magnitude(network, channels), constraints
    )
    return apply_edit(network, plan.edit, channels)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 64])
    parser.add_argument("--full", action="store_true", help="every combination")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after so many")
    parser.add_argument("--build", default="build/bench-gpu")
    parser.add_argument("--report", default="docs/results/gpu.md")
    options = parser.parse_args()
    out, root = Output(TalkSettings(no_progress=True)), Path(options.build)
    root.mkdir(parents=True, exist_ok=True)
    try:
        where = _device(root)
    except DeviceError as error:
        out.error(error.message, error.hint)
        sys.exit(error.exit_code)
    settings = list((matrix if options.full else effects)(options.models, options.batches))
    rows = run(settings, root, out, minutes=options.minutes)
    if left := len(settings) - len(rows):
        out.warn(f"the time is over: {left} of {len(settings)} settings are left; run it again")
    head = _HEAD.format(
        where=where,
        sessions=SESSIONS,
        day=time.strftime("%Y-%m-%d"),
        done=f"{len(rows)} of {len(settings)}",
    )
    write_page(Path(options.report), head + table(rows) + "\n", overwrite=True)


def run(
    settings: Sequence[Setting],
    root: Path,
    out: Output,
    opener: Opener = open_session,
    minutes: float = math.inf,
) -> list[dict[str, Any]]:
    """Measure what is not on the disk yet, as long as there is time, and return what is there."""
    rows: list[dict[str, Any]] = []
    end = time.monotonic() + 60 * minutes
    for setting in settings:
        place = root / f"{setting.name}.json"
        if not place.exists():
            if time.monotonic() > end:
                continue
            half = setting.precision == "fp16"
            path = root / f"{setting.model}{'-fp16' if half else ''}.onnx"
            if not path.exists():
                export_onnx(network_named(setting.model), path, settings=ExportSettings(half=half))
            write_json(place, measure(setting, path, opener))
            out.info(setting.name)
        rows.append(json.loads(place.read_text()))
    return rows


def _device(root: Path) -> str:
    """Open a tiny network on the GPU, which says why where there is none; name the GPU."""
    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Flatten())
    path = root / "tiny.onnx"
    export_onnx(trace_network(layer, torch.zeros(2, 3, 4, 4)), path)
    open_session(path, SessionSettings(device="cuda"))
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "a GPU"


_HEAD = """# Options of onnxruntime's CUDA provider

Written by `make bench-gpu` on {day}; do not edit. {where}. Random weights, input on the device,
result awaited; median over {sessions} fresh sessions of each setting, of which {done} are here.
fp32 without TF32; the fp16 files are those of `nnslim export --half`. `resnet50-half` has half of
the parameters, in widths that are multiples of 8.

"""


if __name__ == "__main__":
    main()
