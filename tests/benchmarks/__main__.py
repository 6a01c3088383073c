"""``make bench``: how long the engine takes on one core, step by step, one process per model.

python -m tests.benchmarks                # every model below, then the other sections
python -m tests.benchmarks resnet50       # one of them
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

MODELS = {"resnet50": 224, "densenet201": 224, "mobilenet_v2": 224, "convnext_tiny": 224}
STEPS = ("trace", "groups", "plan", "edit", "check")
SECTIONS = ("peer", "regularizers", "saliency_speed", "planting")


def main() -> None:
    from nnslim.cli.output import Output
    from nnslim.report import Table

    if sys.argv[1:2] == ["--one"]:
        Output().result({}, json.dumps(measure(sys.argv[2])))
        return
    rows: list[list[str]] = []
    for name in sys.argv[1:] or MODELS:
        command = [sys.executable, "-m", "tests.benchmarks", "--one", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        total = sum(found[step] for step in STEPS[:-1])
        cells = [found[step] for step in STEPS] + [total, total - found["trace"]]
        rows.append([name, *(f"{cell:.3f}" for cell in cells), f"{found['peak_mb']:.0f}"])
    heads = [*(f">{step} s" for step in STEPS), ">all but check", ">and but trace", ">peak MB"]
    title = "one core, 224 px, half of the parameters by magnitude"
    Output().result({}, Table.of(title, ["model", *heads], rows))
    for section in () if sys.argv[1:] else SECTIONS:
        Output().result({}, f"\n== {section}")
        subprocess.run([sys.executable, "-m", f"tests.benchmarks.{section}"], check=True)


def measure(name: str) -> dict[str, float]:
    """Seconds of each step, and the peak of the process's memory in MB."""
    import torch
    import torchvision

    from nnslim.channels import channel_groups
    from nnslim.channels.magnitude import magnitude
    from nnslim.network import trace_network
    from nnslim.pruning import Constraints, CostModel, Limit, make_plan
    from nnslim.surgery import apply_edit, verify_cut

    torch.set_num_threads(1)
    size = MODELS.get(name, 224)
    model = torchvision.models.get_model(name, weights=None).eval()
    loaded_mb = _peak_mb()
    clock = _Clock()
    network = trace_network(model, torch.zeros(2, 3, size, size))
    clock.lap("trace")
    channels = channel_groups(network)
    clock.lap("groups")
    constraints = Constraints({"params": Limit(0.5, relative=True)}, approximate=True)
    plan = make_plan(
        channels, CostModel(network, channels), magnitude(network, channels), constraints
    )
    clock.lap("plan")
    cut = apply_edit(network, plan.edit, channels)
    clock.lap("edit")
    peak_mb = _peak_mb()
    verify_cut(network, cut, channels, plan.edit)
    clock.lap("check")
    return {**clock.laps, "peak_mb": peak_mb, "loaded_mb": loaded_mb}


class _Clock:
    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name], self._last = now - self._last, now


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
