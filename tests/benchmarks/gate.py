"""``make bench-gate``: does the latency gate of ``nnslim eval`` keep its promise on this machine?

python -m tests.benchmarks.gate resnet20.onnx --repeats 50 --load 1   (an hour; done repeats stay)

Runs the real command again and again: a file against itself, and a copy with extra convolutions
that make it really slower. The result of each repeat is a line of ``gate.jsonl``; the page is made
of them. Whatever else the machine does is part of the experiment, and is written down with it.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from nnslim.measure.paired import measure_ratios
from nnslim.onnx import open_session
from nnslim.settings.eval import PairedSettings
from nnslim.settings.session import SessionSettings

LIMIT = 1.05
HEADS = (
    "model",
    "arm",
    "repeats",
    "failed",
    "passed",
    "inconclusive (noisy)",
    "interval holds 1",
    "median ratio",
    "median half-width",
    "seconds each",
    "own load, load average",
)
PAGE = """# Does the latency gate keep its promise?

Repeats of `nnslim eval FILE --baseline dense.onnx --device cpu --max-latency-ratio 1.05` while
other work runs, as written by `make bench-gate MODEL=dense.onnx`. *A/A* is the file against itself;
*slower* is a copy with extra convolutions whose result is added times 1e-30: the same logits, about
10 % more time, measured. "Own load" is the number of processes that the script itself started to
keep cores busy; the load average is the machine's, on two cores, when each repeat began.
"""
AIMS = {"A/A": "no failure, 1 within the interval in 45 of 50", "slower": "fails in 45 of 50"}


def main() -> None:
    options = _options()
    model, build = Path(options.model), Path(options.build)
    build.mkdir(parents=True, exist_ok=True)
    log = build / "gate.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    with background(options.load):
        slower = build / f"{model.stem}-slower.onnx"
        if not slower.exists():
            share = calibrate(model, slower, options.slower)
            print(f"{slower}: extra work of {share:.3f} of a run", file=sys.stderr)
        for number in range(options.repeats):
            for arm, file in (("A/A", model), ("slower", slower)):
                key = {"model": model.stem, "arm": arm, "number": number}
                key |= {"load": options.load, "args": options.args}
                if arm in options.arms and not any(key.items() <= own.items() for own in done):
                    done.append({**key, **repeat(file, model, options.args)})
                    with log.open("a") as file_:
                        file_.write(json.dumps(done[-1]) + "\n")
                    write_report(done, Path(options.report))
    write_report(done, Path(options.report))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gate")
    parser.add_argument("model", help="an .onnx file")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--arms", nargs="+", default=list(AIMS), choices=list(AIMS))
    parser.add_argument("--slower", type=float, default=1.10, help="wanted ratio of the copy")
    parser.add_argument("--load", type=int, default=0, help="processes that keep a core busy")
    parser.add_argument("--args", type=shlex.split, default=[], help="further options of eval")
    parser.add_argument("--build", default="build/bench-gate")
    parser.add_argument("--report", default="docs/results/gate.md")
    return parser.parse_args()


@contextmanager
def background(n: int) -> Iterator[None]:
    """Keep as many cores busy with matrix products."""
    code = "import numpy as np, os\na, parent = np.random.rand(300, 300), os.getppid()\n"
    code += "while os.getppid() == parent: a @ a"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    busy = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(n)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def repeat(file: Path, baseline: Path, more: list[str]) -> dict[str, Any]:
    """Run the command once; returns what its JSON says of the gate."""
    command = ["-m", "nnslim", "eval", str(file), "--baseline", str(baseline), "--device", "cpu"]
    command += ["--max-latency-ratio", str(LIMIT), "--json", "--no-progress", *more]
    start, load = time.perf_counter(), os.getloadavg()[0]
    ran = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, timeout=600
    )
    seconds = time.perf_counter() - start
    if ran.returncode not in (0, 1):
        raise RuntimeError(ran.stderr)
    document = json.loads(ran.stdout)
    (gate,) = document["gates"]
    (found,) = next(own for own in document["files"] if not own["baseline"])["against_baseline"][
        "latency"
    ]
    assert (ran.returncode == 1) == (gate["status"] == "fail")
    keys = ("ratio", "low", "high", "parent_ms", "n_session_pairs", "n_rounds", "stopped_by")
    return {
        "status": gate["status"],
        "reason": gate["reason"],
        **{key: found[key] for key in keys},
        "control": [found["control"]["low"], found["control"]["high"]],
        "cpu_threads": found["cpu_threads"],
        "seconds": round(seconds, 1),
        "machine_load": round(load, 2),
    }


def calibrate(model: Path, slower: Path, wanted: float) -> float:
    """Find how much extra work gives the wanted ratio, measured as the gate measures."""
    shares = (0.04, 0.08, 0.16)
    tries = [slower.with_suffix(f".{share}.onnx") for share in shares]
    for share, path in zip(shares, tries, strict=True):
        extra_work(model, path, share)
    ratios = _measured([model, *tries], seconds=120)
    print(dict(zip(shares, ratios, strict=True)), file=sys.stderr)
    slope, start = np.polyfit(shares, ratios, 1)
    share = float(np.clip((wanted - start) / slope, 0.01, 1.0))
    extra_work(model, slower, share)
    for path in tries:
        path.unlink()
    print(f"calibrated to {_measured([model, slower], seconds=60)}", file=sys.stderr)
    return share


def _measured(files: list[Path], seconds: float) -> list[float]:
    x = np.random.default_rng(0).standard_normal((1, *_input_shape(onnx.load(files[0]))))
    settings = SessionSettings("cpu", threads=1, batch=1)
    found = measure_ratios(
        lambda: [open_session(path, settings).bind(x.astype(np.float32)) for path in files],
        PairedSettings(budget_s=seconds, half_width=0.002),
    )
    return [own.ratio for own in found]


def _input_shape(model: onnx.ModelProto) -> tuple[int, ...]:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    return tuple(dim.dim_value for dim in dims[1:])


def extra_work(model: Path, slower: Path, share: float) -> None:
    """Copy a file with convolutions of the input that add nothing but time to the logits.

    Their weights are random, so that nothing can be folded; their mean, times 1e-30, is added to
    the logits, where it is lost to rounding.
    """
    from nnslim.measure.onnx_cost import onnx_file_cost

    copy = onnx.load(model)
    graph = copy.graph
    channels, height, width = _input_shape(copy)
    macs = onnx_file_cost(copy).macs
    assert macs is not None
    inner = 16
    per_channel = height * width * 9 * inner
    n = max(1, round(share * macs / per_channel) - channels)
    generator = np.random.default_rng(0)
    logits, name = graph.output[0].name, graph.input[0].name
    for node in graph.node:
        node.output[:] = [f"{logits}_before" if own == logits else own for own in node.output]
        node.input[:] = [f"{logits}_before" if own == logits else own for own in node.input]

    def constant(key: str, value: np.ndarray) -> str:
        graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), key))
        return key

    weights = [(inner, channels), (n, inner)]
    for number, size in enumerate(weights):
        weight = constant(f"extra_w{number}", generator.standard_normal((*size, 3, 3)))
        made = f"extra_{number}"
        graph.node.append(
            onnx.helper.make_node("Conv", [name, weight], [made], pads=[1] * 4, name=made)
        )
        name = made
    tiny = constant("extra_tiny", np.array(1e-30))
    axes = onnx.numpy_helper.from_array(np.array([1, 2, 3]), "extra_axes")
    graph.initializer.append(axes)
    nodes = [
        onnx.helper.make_node("ReduceMean", [name, "extra_axes"], ["extra_mean"], keepdims=0),
        onnx.helper.make_node("Mul", ["extra_mean", tiny], ["extra_small"]),
        onnx.helper.make_node("Unsqueeze", ["extra_small", "extra_one"], ["extra_column"]),
        onnx.helper.make_node("Add", [f"{logits}_before", "extra_column"], [logits]),
    ]
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "extra_one"))
    graph.node.extend(nodes)
    onnx.checker.check_model(copy, full_check=True)
    onnx.save(copy, slower)


def write_report(done: list[dict[str, Any]], path: Path) -> None:
    """Write the page that the repeats so far make."""
    lines = [PAGE, "| " + " | ".join(HEADS) + " |", "| --- | --- |" + " ---: |" * (len(HEADS) - 2)]
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for own in done:
        key = (own["model"], own["arm"], own["load"], " ".join(own["args"]))
        groups.setdefault(key, []).append(own)
    lines += ["| " + " | ".join(_row(key, own)) + " |" for key, own in sorted(groups.items())]
    lines += ["", *(f"- {arm}: the aim is {aim}." for arm, aim in AIMS.items()), ""]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))


def _row(key: tuple[Any, ...], done: list[dict[str, Any]]) -> list[str]:
    model, arm, load, args = key

    def number(status: str) -> str:
        return str(sum(own["status"] == status for own in done))

    def middle(values: Iterator[float]) -> float:
        return statistics.median(values)

    loads = sorted(own["machine_load"] for own in done)
    noisy = sum("noisy" in (own["reason"] or "") for own in done)
    return [
        f"{model} {args}".strip(),
        arm,
        str(len(done)),
        number("fail"),
        number("pass"),
        f"{number('inconclusive')} ({noisy})",
        str(sum(own["low"] <= 1 <= own["high"] for own in done)),
        f"{middle(own['ratio'] for own in done):.3f}",
        f"{100 * middle((own['high'] - own['low']) / 2 / own['ratio'] for own in done):.1f} %",
        f"{middle(own['seconds'] for own in done):.0f}",
        f"{load}, {loads[0]:.1f} to {loads[-1]:.1f}",
    ]


if __name__ == "__main__":
    main()
