"""``make bench``: what a training step of planted channels costs, against the whole network's.

python -m tests.benchmarks.planting        # ResNet-20, batches of 128 images, two threads
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn
from torch.nn import functional

from nnslim.channels import channel_groups
from nnslim.cli.output import Output
from nnslim.growing import PlantedEntries, growable, plant
from nnslim.growing.seed import narrowed, reset
from nnslim.models.cifar import CifarResNet
from nnslim.network import trace_network
from nnslim.pruning import Limit
from nnslim.report import Table

REPEATS = 7
BATCH = 128


def main() -> None:
    """Print the ratio for every place, at two widths of the network."""
    torch.manual_seed(0)
    torch.set_num_threads(2)
    whole = trace_network(CifarResNet(20), torch.zeros(2, 3, 32, 32))
    out, rows = Output(), []
    for share in (0.25, 0.5):
        network = reset(narrowed(whole, Limit(share, relative=True)), 0)
        channels = channel_groups(network)
        images, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(10, (BATCH,))
        ratios: dict[str, list[float]] = {}
        for group in growable(channels):
            planted = plant(network, channels, {group.name: max(group.width // 4, 1)})
            entries = PlantedEntries(planted).train()
            trained = _step(entries, images, labels)
            full = _step(planted.network.train(), images, labels)
            times = _in_turns(trained, full)
            ratios.setdefault(group.name.partition(".")[0], []).append(times[0] / times[1])
        every = [ratio for own in ratios.values() for ratio in own]
        rows += [
            [f"{100 * share:.0f}%", place, str(len(own)), f"{median(own):.2f}", f"{max(own):.2f}"]
            for place, own in (*ratios.items(), ("all", every))
        ]
    heads = ["width", "groups in", ">groups", ">median", ">largest"]
    title = "a step of the planted entries as a share of the whole network's, ResNet-20"
    out.result({}, Table.of(title, heads, rows))


def _step(module: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], None]:
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)

    def step() -> None:
        functional.cross_entropy(module(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _in_turns(*steps: Callable[[], None]) -> list[float]:
    """Median seconds of each, run in turns so that both see the same machine."""
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(REPEATS):
        for own, step in zip(seconds, steps, strict=True):
            start = time.perf_counter()
            step()
            own.append(time.perf_counter() - start)
    return [median(own[1:]) for own in seconds]


if __name__ == "__main__":
    main()
