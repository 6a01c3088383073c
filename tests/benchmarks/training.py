"""What a training step takes compiled, in bf16 or as a graph; what a second process changes in it.

    python -m tests.benchmarks.training compile [--threads 2] [--repeats 14] [--device cuda]
    python -m tests.benchmarks.training precision [--threads 2] [--repeats 14] [--device cuda]
    python -m tests.benchmarks.training graphs --device cuda
    python -m tests.benchmarks.training processes
    torchrun --standalone --nproc-per-node 2 -m tests.benchmarks.training processes

Eager and compiled steps take turns in one process, so that whatever else the machine does meets
them alike. docs/results/training.md has the figures.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import numpy as np
import torch
from torch import nn

from nnslim.cli.output import Output
from nnslim.data import Augment, Loader, Preprocess, Sampling, Split, load_data
from nnslim.distill import classification_loss
from nnslim.measure.accuracy import network_accuracy
from nnslim.models.cifar import CifarResNet
from nnslim.network import Network, trace_network
from nnslim.processes import connected, is_main, world_size
from nnslim.report import Table
from nnslim.settings.train import LossConfig
from nnslim.train import TrainConfig, fit
from nnslim.train.compiling import Forward
from nnslim.train.optimizer import build_optimizer

CPU = torch.device("cpu")
BATCH = 128
SEEDS = range(5)
STEPS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["compile", "precision", "graphs", "processes"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=14)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    if args.what == "compile":
        torch.set_num_threads(args.threads)
        Output().result({}, compile_table(args.repeats, torch.device(args.device)))
        return
    if args.what == "precision":
        torch.set_num_threads(args.threads)
        Output().result({}, precision_table(args.repeats, torch.device(args.device)))
        return
    torch.set_num_threads(1)
    if args.what == "graphs":
        Output().result({}, graphs_table(torch.device(args.device)))
        return
    with connected(CPU):
        rows = [[f"{batch}", accuracies(batch)] for batch in (128, 32)]
        if is_main():
            title = f"test top-1 on digits, {world_size()} processes, {len(SEEDS)} seeds"
            Output().result({}, Table.of(title, ["global batch", ">top-1 %"], rows))


class Steps:
    """A network, a teacher like it, and their steps."""

    def __init__(
        self, network: Network, device: torch.device, *, compiled: bool, bf16: bool = False
    ) -> None:
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=bf16)
        where = {"device": device, "memory_format": torch.channels_last}
        self.network = copy.deepcopy(network).to(**where).train()
        self.optimizer = build_optimizer(self.network, TrainConfig(lr=0.01))
        self.student = Forward(self.network, compiled=compiled)
        self.teacher = Forward(copy.deepcopy(network).to(**where).eval(), compiled=compiled)
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(BATCH, 3, 32, 32, generator=generator)
        self.images = images.to(**where)
        self.labels = torch.randint(10, (BATCH,), generator=generator).to(device)
        for forward in (self.student, self.teacher):
            forward.expect(images.shape)

    def seconds(self, *, taught: bool) -> float:
        start = time.perf_counter()
        with self.autocast:
            logits, teaching = self.student(self.images), None
            if taught:
                with torch.no_grad():
                    teaching = self.teacher(self.images)
        loss = classification_loss(logits, self.labels, teaching, LossConfig(0.0, 0.5, 4.0))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.images.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - start


def compile_table(repeats: int, device: torch.device) -> Table:
    network = trace_network(CifarResNet(20).eval(), torch.zeros(2, 3, 32, 32))
    eager, compiled = (Steps(network, device, compiled=compiled) for compiled in (False, True))
    first = [compiled.seconds(taught=False), compiled.seconds(taught=True)]
    eager.seconds(taught=True)
    times: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for _ in range(repeats):
        for taught, pairs in times.items():
            pairs.append((eager.seconds(taught=taught), compiled.seconds(taught=taught)))
    rows = [
        [
            "with a teacher" if taught else "labels alone",
            *(f"{statistics.median(column):.4f}" for column in zip(*pairs, strict=True)),
            f"{statistics.median(fast / slow for slow, fast in pairs):.2f}",
            f"{seconds:.0f}",
        ]
        for (taught, pairs), seconds in zip(times.items(), first, strict=True)
    ]
    heads = ["ResNet-20, batch 128", ">eager s", ">compiled s", ">ratio", ">first step s"]
    title = f"a training step, {device}, {torch.get_num_threads()} threads"
    return Table.of(title, heads, rows)


def precision_table(repeats: int, device: torch.device) -> Table:
    """Steps with a teacher in fp32 and bf16, eager, in turns."""
    rows: list[list[str]] = []
    for depth in (20, 56):
        network = trace_network(CifarResNet(depth).eval(), torch.zeros(2, 3, 32, 32))
        full, half = (Steps(network, device, compiled=False, bf16=bf16) for bf16 in (False, True))
        pairs = [(full.seconds(taught=True), half.seconds(taught=True)) for _ in range(repeats)]
        times = [f"{statistics.median(column):.4f}" for column in zip(*pairs[1:], strict=True)]
        faster = statistics.median(slow / fast for slow, fast in pairs[1:])
        rows.append([f"ResNet-{depth}, with a teacher", *times, f"{faster:.2f}"])
    heads = ["batch 128, 32 px", ">fp32 s", ">bf16 s", ">times as fast"]
    title = f"a training step, {device}, {torch.get_num_threads()} threads"
    return Table.of(title, heads, rows)


def graphs_table(device: torch.device) -> Table:
    """Steps by ``fit``, its loader included: eager, and as CUDA graphs."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (STEPS * BATCH, 32, 32, 3), dtype=np.uint8)
    split = Split(generator.integers(0, 10, len(images)), images)
    preprocess = Preprocess(size=(32, 32), mean=(0.5,) * 3, std=(0.25,) * 3)
    rows: list[list[str]] = []
    for depth in (20, 56):
        network = trace_network(CifarResNet(depth).eval(), torch.zeros(2, 3, 32, 32))
        for taught in (False, True):
            seconds: list[float] = []
            for graph in (False, True):
                loader = Loader(
                    split,
                    preprocess,
                    BATCH,
                    sampling=Sampling(shuffle=True),
                    augment=Augment(pad=4, flip=True),
                )
                teacher = copy.deepcopy(network) if taught else None
                config = TrainConfig(epochs=3, lr=0.01, compile=False, cuda_graph=graph)
                student = copy.deepcopy(network)
                found = fit(student, loader, config, device=device, teacher=teacher)
                assert found.graphed is graph, found.notes
                seconds.append(found.history[-1].seconds / STEPS)
            who = "with a teacher" if taught else "labels alone"
            cells = [f"{1000 * own:.2f}" for own in seconds]
            rows.append([f"ResNet-{depth}, {who}", *cells, f"{seconds[0] / seconds[1]:.2f}"])
    heads = ["batch 128, 32 px, fp32", ">eager ms", ">graph ms", ">times as fast"]
    return Table.of(f"a training step, {torch.cuda.get_device_name(device)}", heads, rows)


def accuracies(batch: int) -> str:
    data, found = load_data("digits"), []
    for seed in SEEDS:
        network = small(seed)
        images = Loader(
            data.train,
            data.preprocess,
            batch,
            sampling=Sampling(shuffle=True, seed=seed, drop_last=True),
            augment=data.augment,
        )
        fit(network, images, TrainConfig(epochs=8, lr=0.1, seed=seed), device=CPU)
        test = Loader(data.test, data.preprocess, 500)
        found.append(network_accuracy(network.eval(), test, CPU).top1_pct)
    return f"{statistics.mean(found):.1f} ± {statistics.stdev(found):.1f}"


def small(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after, stride in ((1, 16, 1), (16, 32, 2), (32, 32, 1)):
        convolution = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


if __name__ == "__main__":
    main()
