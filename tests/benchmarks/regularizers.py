"""What sparse training adds to a training step, for all nine penalties.

    python -m tests.benchmarks.regularizers [--axis feature] [--repeats 15] [--threads 2] [20 56]

CIFAR ResNets at batch size 128. Steps and penalties take turns in one process, so that whatever
else the machine does meets them alike; medians, and the median of each penalty's share of the step
before it.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import get_args

import torch
from torch.nn import functional as F

from nnslim.channels import channel_groups
from nnslim.cli.output import Output
from nnslim.models.cifar import CifarResNet
from nnslim.network import Network, trace_network
from nnslim.pruning.sparse.penalty import HierarchicalSparsity
from nnslim.report import Table
from nnslim.settings.prune import Penalty, RegularizerConfig
from nnslim.train import TrainConfig
from nnslim.train.optimizer import build_optimizer

BATCH = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("depths", nargs="*", type=int, default=[20, 56])
    parser.add_argument("--axis", default="feature")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    for depth in args.depths:
        seconds = measure(depth, args.axis, args.repeats)
        report(f"ResNet-{depth}, {args.axis}, {args.threads} threads", seconds)


def report(title: str, seconds: dict[str, list[float]]) -> None:
    steps = seconds["step"]
    rows = [
        [
            name,
            f"{1000 * statistics.median(own):.1f}",
            f"{100 * statistics.median(o / s for o, s in zip(own, steps, strict=True)):.1f}",
        ]
        for name, own in seconds.items()
    ]
    title = f"{title}: a step of {BATCH} images and what a penalty adds"
    Output().result({}, Table.of(title, ["", ">median ms", ">% of the step"], rows))


def measure(depth: int, axis: str, repeats: int) -> dict[str, list[float]]:
    """Seconds of every repetition of a training step and of each penalty."""
    torch.manual_seed(0)
    network = trace_network(CifarResNet(depth), torch.zeros(2, 3, 32, 32))
    network = network.to(memory_format=torch.channels_last).train()
    channels = channel_groups(copy.deepcopy(network))
    optimizer = build_optimizer(network, TrainConfig())
    images = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (BATCH,))
    penalties = {
        f"{name}, {kind}": HierarchicalSparsity(
            network, channels, RegularizerConfig(name, axis, strength=strength)
        )
        for name in get_args(Penalty)
        for kind, strength in (("auto", "auto"), ("fixed", 1e-6))
    }
    for penalty in penalties.values():
        penalty.start_epoch(network, 0, 1)
    seconds: dict[str, list[float]] = {name: [] for name in ("step", *penalties)}
    for repeat in range(repeats + 1):  # the first warms up
        own = {"step": _seconds(lambda: _step(network, optimizer, images, labels))}
        for name, penalty in penalties.items():
            own[name] = _seconds(lambda penalty=penalty: penalty.add_(network, 0, 1))
        if repeat:
            for name, value in own.items():
                seconds[name].append(value)
    return seconds


def _step(
    network: Network,
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    labels: torch.Tensor,
) -> None:
    optimizer.zero_grad(set_to_none=True)
    F.cross_entropy(network(images), labels).backward()
    optimizer.step()


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
