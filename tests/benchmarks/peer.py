"""``make bench``, second half: the same models through nnslim and Torch-Pruning, in the same run.

ours: trace + groups + magnitude plan + edit; theirs: dependency graph + one magnitude step.
One thread and one process per model and tool; both remove about half of the parameters. Imports
are not counted, on either side.

python -m tests.benchmarks.peer              # every model below, then the scaling table
python -m tests.benchmarks.peer resnet50     # one of them
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from typing import Any

FAMILIES = """
alexnet vgg11_bn resnet50 wide_resnet50_2 resnext50_32x4d densenet121 densenet201 googlenet
inception_v3 mobilenet_v2 mobilenet_v3_large mnasnet1_0 shufflenet_v2_x1_0 squeezenet1_1
efficientnet_b0 efficientnet_v2_s regnet_x_400mf regnet_y_400mf convnext_tiny vit_b_16 swin_t
swin_v2_t maxvit_t
"""
SIZES = {name: 299 if name == "inception_v3" else 224 for name in FAMILIES.split()}
WIDTHS = ("256", "1024", "4096")
LIMIT_SECONDS = 240


def main() -> None:
    from nnslim.cli.output import Output

    if sys.argv[1:2] == ["--one"]:
        tool, name = sys.argv[2:4]
        Output().result({}, json.dumps({"ours": ours, "theirs": theirs}[tool](name)))
        return
    report(sys.argv[1:] or list(SIZES), sys.argv[1:] == [])


def report(names: list[str], scaling: bool) -> None:
    """Print the comparison, model by model and in total."""
    from nnslim.cli.output import Output
    from nnslim.report import Table

    out = Output()
    found: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
    for name in names:
        found[name] = _run("ours", name), _run("theirs", name)
        out.info(" ".join(_row(name, *found[name])))
    out.result({}, Table.of(_TITLE, ["model", *_HEADS], [_row(n, *f) for n, f in found.items()]))
    both = [f for f in found.values() if "failed" not in f[1]]
    ran = [f for f in found.values() if not math.isnan(f[1]["total"])]
    every = f"all that it did not fail on, those not done counted as {LIMIT_SECONDS} s"
    for label, chosen in ((every, ran), ("those it finished", both)):
        mine = sum(f[0]["total"] for f in chosen)
        other = sum(f[1]["total"] for f in chosen if not math.isnan(f[1]["total"]))
        trace = sum(f[0]["trace"] for f in chosen)
        slowest = max((f[0]["total"] - f[1]["total"] for f in both), default=0.0)
        out.result(
            {},
            f"{label}: {len(chosen)} models, nnslim {mine:.1f} s (trace {100 * trace / mine:.0f}%),"
            f" Torch-Pruning {other:.1f} s: {other / mine:.1f} times;"
            f" nnslim is never more than {slowest:.1f} s slower",
        )
    if scaling:
        rows = [_row(w, _run("ours", w), _run("theirs", w)) for w in WIDTHS]
        title = "residual net of 8 blocks by width, 8 px, one thread"
        out.result({}, Table.of(title, ["width", *_HEADS], rows))


_TITLE = f"one thread, half of the parameters by magnitude; limit {LIMIT_SECONDS} s"
_HEADS = (">trace s", ">rest s", ">nnslim s", ">Torch-Pruning s", ">times", "")


def _row(name: str, mine: dict[str, Any], other: dict[str, Any]) -> list[str]:
    numbers = [mine["trace"], mine["total"] - mine["trace"], mine["total"], other["total"]]
    cells = [f"{number:.2f}" for number in numbers]
    return [name, *cells, f"{other['total'] / mine['total']:.1f}", other.get("failed", "")]


def _run(tool: str, name: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.peer", "--one", tool, name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return {"total": float(LIMIT_SECONDS), "failed": f"not done in {LIMIT_SECONDS} s"}
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["?"])[-1][:60]
        assert tool == "theirs", done.stderr
        return {"total": float("nan"), "failed": f"fails: {reason}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def _model(name: str) -> tuple[Any, Any]:
    import torch
    import torchvision

    torch.set_num_threads(1)
    torch.manual_seed(0)
    if name in WIDTHS:
        return _residual(int(name)), torch.zeros(2, 3, 8, 8)
    plain = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = torchvision.models.get_model(name, weights=None, **plain).eval()
    return model, torch.zeros(2, 3, SIZES[name], SIZES[name])


def _residual(width: int) -> Any:
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(width, width // 4, 1), nn.Conv2d(width // 4, width, 1)

        def forward(self, x: Any) -> Any:
            return x + self.b(self.a(x).relu())

    blocks = [Block() for _ in range(8)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    return nn.Sequential(nn.Conv2d(3, width, 1), *blocks, *head).eval()


def ours(name: str) -> dict[str, float]:
    """Seconds of the steps of nnslim."""
    import torch

    from nnslim.channels import channel_groups
    from nnslim.channels.magnitude import magnitude
    from nnslim.network import trace_network
    from nnslim.pruning import Constraints, CostModel, Limit, make_plan
    from nnslim.surgery import apply_edit

    model, example = _model(name)
    trace_network(torch.nn.Conv2d(3, 4, 3), example)  # what torch.export imports, once a process
    start = time.perf_counter()
    network = trace_network(model, example)
    traced = time.perf_counter()
    channels = channel_groups(network)
    constraints = Constraints({"params": Limit(0.5, relative=True)}, approximate=True)
    plan = make_plan(
        channels, CostModel(network, channels), magnitude(network, channels), constraints
    )
    apply_edit(network, plan.edit, channels)
    return {"trace": traced - start, "total": time.perf_counter() - start}


def theirs(name: str) -> dict[str, float]:
    """Seconds of Torch-Pruning's graph and one step."""
    import torch
    import torch_pruning as tp

    model, example = _model(name)
    last = [m for m in model.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))][-1]
    start = time.perf_counter()
    pruner = tp.pruner.MagnitudePruner(
        model,
        example,
        importance=tp.importance.MagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=0.3,
        ignored_layers=[last],
    )
    pruner.step()
    return {"total": time.perf_counter() - start}


if __name__ == "__main__":
    main()
