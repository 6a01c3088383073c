"""How much faster than the naive loop are exact scores, and are they the same?

    python -m tests.benchmarks.saliency_speed [CHECKPOINT ...] [--data DATA] [--images 64]

Without checkpoints, CIFAR ResNet-20 and ResNet-56 with random weights; without data, random images.
Round by round in one process: naive (zero a channel's incoming slices, run the whole network),
replayed (the same, from the first node that reads the channel on), and ``measured``, in turn. The
first two run ``--channels`` channels of every group; the others are taken to cost as much.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nnslim.channels import ChannelMap, channel_groups
from nnslim.channels.places import reading_places
from nnslim.cli.output import Output
from nnslim.data import Loader, Sampling, load_data, stratified_indices
from nnslim.models.cifar import CifarResNet
from nnslim.models.opening import open_model
from nnslim.network import Network, trace_network
from nnslim.network.interpreter import Step
from nnslim.pruning.scores.jacobian import jacobian
from nnslim.pruning.scores.measured import measured
from nnslim.pruning.scores.removal import Reading, find_reading
from nnslim.pruning.scores.replay import Replay
from nnslim.pruning.scores.streamline import channels_last
from nnslim.report import Table
from nnslim.settings.inputs import ModelSettings, PreprocessSettings
from nnslim.settings.parse import parse_floats

WAYS = ("naive", "replayed", "new", "jacobian")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoints", nargs="*", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--mean")
    parser.add_argument("--std")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = [_measure(name, network, batches, args) for name, network, batches in _cases(args)]
    heads = ["network", ">channels"]
    heads += [f">{way} s" for way in WAYS] + [f">{way} CPU s" for way in WAYS]
    heads += [">naive / new", ">in CPU s", ">replayed / new", ">in CPU s"]
    heads += [">naive error", ">new error", ">new to naive", ">out of order, naive", ">new"]
    title = f"{args.rounds} x {args.images} images, {args.threads} threads"
    Output().result({"rows": rows}, Table.of(title, heads, rows))


def _cases(args: argparse.Namespace) -> Iterator[tuple[str, Network, list[tuple[Tensor, Tensor]]]]:
    n = args.images * args.rounds
    if not args.checkpoints:
        for depth in (20, 56):
            torch.manual_seed(0)
            network = trace_network(CifarResNet(depth).eval(), torch.zeros(2, 3, 32, 32))
            yield f"ResNet-{depth}, random", network, _split(torch.randn(n, 3, 32, 32), args)
        return
    data = load_data(args.data)
    mean, std = (
        text and parse_floats(text, name) for name, text in (("mean", args.mean), ("std", args.std))
    )
    said = PreprocessSettings(mean=mean or None, std=std or None)
    for path in args.checkpoints:
        network = open_model(path, ModelSettings(), said, data, Output()).network
        split = data.train.subset(stratified_indices(data.train.labels, n, seed=0))
        loader = Loader(
            split,
            network.preprocess or data.preprocess,
            n,
            sampling=Sampling(shuffle=True),
            augment=data.augment,
        )
        yield path.stem, network, _split(next(iter(loader))[0], args)


def _split(images: Tensor, args: argparse.Namespace) -> list[tuple[Tensor, Tensor]]:
    return [(part, torch.zeros(len(part)).long()) for part in images.split(args.images)]


@dataclass
class _Clock:
    """Seconds by what ran: of the wall, and of the processors."""

    wall: dict[str, float] = field(default_factory=lambda: dict.fromkeys(WAYS, 0.0))
    cpu: dict[str, float] = field(default_factory=lambda: dict.fromkeys(WAYS, 0.0))

    def time(self, way: str, function, *args, times: float = 1.0):
        start = time.perf_counter(), time.process_time()
        result = function(*args)
        self.wall[way] += times * (time.perf_counter() - start[0])
        self.cpu[way] += times * (time.process_time() - start[1])
        return result


def _measure(
    name: str, network: Network, batches: list[tuple[Tensor, Tensor]], args: argparse.Namespace
) -> list[str]:
    channels, clock = channel_groups(network.eval()), _Clock()
    places = reading_places(channels)
    readings = [find_reading(network, places, group) for group in channels.prunable]
    readings = sorted(readings, key=lambda r: r.start)
    network(batches[0][0])
    found, naive, exact = [], [], []
    for images, labels in batches:
        naive.append(_loop("naive", network, readings, images, clock, args.channels))
        _loop("replayed", _copy(network), readings, images, clock, args.channels)
        batch = [(images, labels)]
        found.append(clock.time("new", measured, network, channels, batch, "logits"))
        clock.time("jacobian", jacobian, network, channels, batch)
        double = copy.deepcopy(network).double()
        exact.append(_loop("", double, readings, images.double(), _Clock(), args.channels))
    new = [
        np.array([scores[r.group.name][c] for r in readings for c in _sample(r, args.channels)])
        for scores in found
    ]
    return [name, str(_width(channels)), *_times(clock), *_errors(naive, exact, new)]


def _copy(network: Network) -> Network:
    return channels_last(copy.deepcopy(network)).eval()


def _width(channels: ChannelMap) -> int:
    return sum(group.width for group in channels.prunable)


def _sample(reading: Reading, n: int) -> list[int]:
    width = reading.group.width
    return sorted({int(c) for c in np.linspace(0, width - 1, min(n, width))})


@torch.inference_mode()
def _loop(
    way: str, network: Network, readings: list[Reading], images: Tensor, clock: _Clock, n: int
) -> np.ndarray:
    """Scores of a sample of every group's channels, each by a run of its own."""
    layout = torch.channels_last if way == "replayed" else torch.contiguous_format
    images = images.contiguous(memory_format=layout)
    replay = Replay(network, (images,))
    dense = network(images)
    scores = []
    for reading in readings:
        sample = _sample(reading, n)
        if way == "replayed":
            clock.time(way, replay.advance, reading.start)
        for channel in sample:
            args = (network, replay, reading, channel)
            times = reading.group.width / len(sample)
            run = _replayed if way == "replayed" else _naive
            logits = clock.time(way, run, *args, times=times) if way else run(*args)
            scores.append(float((logits - dense).square().mean()))
    return np.array(scores)


def _plain(step: Step, args: list[object], kwargs: dict[str, object]) -> object:
    return step.function(*args, **kwargs)


def _naive(network: Network, replay: Replay, reading: Reading, channel: int) -> Tensor:
    with reading.without(network, channel):
        return network(replay.value(network.graph.inputs[0].name))


def _replayed(network: Network, replay: Replay, reading: Reading, channel: int) -> Tensor:
    with reading.without(network, channel):
        return replay.finish(_plain)


def _times(clock: _Clock) -> list[str]:
    seconds = [f"{times[way]:.1f}" for times in (clock.wall, clock.cpu) for way in WAYS]
    ratios = [
        f"{times[way] / times['new']:.2f}"
        for way in ("naive", "replayed")
        for times in (clock.wall, clock.cpu)
    ]
    return [*seconds, *ratios]


def _errors(
    naive: list[np.ndarray], exact: list[np.ndarray], new: list[np.ndarray]
) -> Iterator[str]:
    """Largest relative differences; then neighbours in the exact order that have swapped."""
    truth, others = np.concatenate(exact), (np.concatenate(naive), np.concatenate(new))
    alive = truth > 1e-9 * truth.max()
    for found, reference in ((others[0], truth), (others[1], truth), (others[1], others[0])):
        yield f"{np.max(np.abs(found - reference)[alive] / reference[alive]):.1e}"
    for found in (naive, new):
        swapped = (
            np.diff(scores[np.argsort(e, kind="stable")]) < 0
            for scores, e in zip(found, exact, strict=True)
        )
        yield str(sum(int(s.sum()) for s in swapped))


if __name__ == "__main__":
    main()
