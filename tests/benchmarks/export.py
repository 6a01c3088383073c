"""``make bench-export``: one network as float32, float16 and int8, as they run on this CPU.

python -m tests.benchmarks.export cifar10.npz resnet20.th [more.th ...]    (minutes)

int8 with several numbers of calibration images, each drawn twice.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np

from nnslim.artifact import write_page
from nnslim.artifact.manifest import hardware
from nnslim.cli.output import Output
from nnslim.data import Data, load_data
from nnslim.measure.paired import measure_ratios
from nnslim.measure.precision import PrecisionCheck, export_checked
from nnslim.measure.ratio import PairedRatio
from nnslim.network import Network
from nnslim.onnx import ExportReport, export_onnx, open_session
from nnslim.settings.commands import TalkSettings
from nnslim.settings.export import ExportSettings, PrecisionSettings
from nnslim.settings.session import SessionSettings
from tests.benchmarks.cifar import dense_network

CALIBRATION = (16, 128, 512)
SEEDS = (0, 1)
_Run = tuple[ExportReport, PrecisionCheck]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.export")
    parser.add_argument("data")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--report", default="docs/results/export.md")
    options = parser.parse_args()
    out, data = Output(TalkSettings(no_progress=True)), load_data(options.data)
    text = [_HEAD.format(cpu=hardware()["cpu"], threads=SessionSettings().n_threads)]
    for model in options.models:
        out.info(f"== {model}")
        text.append(f"## {Path(model).stem}\n\n" + _table(dense_network(model), data))
    write_page(Path(options.report), "\n".join(text) + "\n", overwrite=True)


def _table(network: Network, data: Data) -> str:
    heads = ["variant", "bytes", "top-1, %", "lost against float32", "same answer, %"]
    heads += ["logits moved, %", "latency, % of float32"]
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    with tempfile.TemporaryDirectory(prefix="nnslim-") as folder:
        plain = Path(folder) / "float32.onnx"
        size = export_onnx(network, plain).n_bytes
        for name, runs in _variants(network, data, Path(folder) / "small.onnx"):
            checks = [check for _, check in runs]
            if name == "float16":
                top1 = f"{checks[0].float32_top1_pct:.2f}"
                lines.append(f"| float32 | {size:,} | {top1} | - | - | - | 100 |")
            lost = _spread([check.drop_pp for check in checks])
            if len(checks) == 1:
                lost += f" ({checks[0].low:+.2f} to {checks[0].high:+.2f})"
            ratio = _ratio(plain, Path(folder) / "small.onnx", network)
            cells = [name, f"{runs[0][0].n_bytes:,}", _spread([c.top1_pct for c in checks]), lost]
            cells.append(_spread([check.agreement_pct for check in checks]))
            moved = [check.logits_max_rel for check in checks]
            cells.append(_spread([100 * own for own in moved if own is not None]))
            cells.append(
                f"{100 * ratio.ratio:.0f} ({100 * ratio.low:.0f} to {100 * ratio.high:.0f})"
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _variants(network: Network, data: Data, path: Path) -> Iterator[tuple[str, list[_Run]]]:
    free = PrecisionSettings(max_drop=100.0)

    def run(settings: ExportSettings, precision: PrecisionSettings) -> _Run:
        report, check = export_checked(network, path, settings, data, precision)
        assert check is not None
        return report, check

    yield "float16", [run(ExportSettings(half=True), free)]
    for n in CALIBRATION:
        settings = (replace(free, int8=True, calibration_samples=n, seed=seed) for seed in SEEDS)
        yield f"int8, {n} images", [run(ExportSettings(), own) for own in settings]
    yield (
        "int8 for TensorRT, 128 images",
        [run(ExportSettings(), replace(free, int8=True, symmetric=True))],
    )


def _ratio(parent: Path, own: Path, network: Network) -> PairedRatio:
    x = np.zeros((1, *network.input_shape), np.float32)
    settings = SessionSettings(device="cpu", batch=1)
    return measure_ratios(
        lambda: (open_session(parent, settings).bind(x), open_session(own, settings).bind(x))
    )[0]


def _spread(values: list[float]) -> str:
    spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{mean(values):.2f}{spread}"


_HEAD = """# Less precision: what it costs and what it gives

Written by `make bench-export`; do not edit. onnxruntime on the CPU ({cpu}, threads: {threads}), one
image per run. Top-1 on the test images; int8 is calibrated on training images, drawn twice (mean
and standard deviation); where there is one file, the interval of what it loses is Newcombe's at
95 %. Logits moved: the largest difference on 256 images, as a share of the largest logit. Latency
is the paired ratio with its interval.
"""


if __name__ == "__main__":
    main()
