"""``make bench-grow``: planting against its controls, at equal sample passes, with one teacher.

python -m tests.benchmarks.grow cifar10.npz resnet20.th --sizes 5 10 20 --seeds 0 1
    (hours on two cores for the whole of CIFAR-10; what is done is not done again)

planting     every round tries the best ``--candidates`` groups, trains only what is new
everywhere   planting into all groups at once, ``--everywhere-epochs`` in the one round there is
given        the same, the teacher's channels in the order in which they stand
trained      the same as everywhere, two of its epochs spent on training the seed
polished     the same, the last ``--polish-epochs`` of them spent on training everything
scratch      planting's final architecture with fresh weights, everything trained
uniform      the teacher narrowed evenly to the same parameters, everything trained
narrowed     the same, which starts with the weights of the teacher's largest filters
random       planting into one random group a round, trained as long as the round's candidates were
unfrozen     planting in which everything trains in every round
prune        ``nnslim prune`` of the teacher, which starts with what the teacher has learned

A pass is one epoch over the training images; all candidates count. Every size starts from a seed of
its own. What is not grown gets as many passes as the first of ``--arms`` had.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from torch import nn

from nnslim.artifact import load_network, save_network, write_page
from nnslim.artifact.directory import write_json
from nnslim.cli.output import Output
from nnslim.data import Augment, Data, Loader, Sampling, load_data
from nnslim.data.selection import stratified_indices
from nnslim.growing import GrowConfig, SeedConfig
from nnslim.growing.candidates import Proposal
from nnslim.growing.donor import largest_first
from nnslim.growing.pipeline import prepare
from nnslim.growing.rounds import Planter, RoundStart
from nnslim.growing.seed import narrowed, reset, widest
from nnslim.measure.accuracy import network_accuracy
from nnslim.measure.macs import count_costs
from nnslim.network import Network
from nnslim.pruning import Limit, PruneConfig, SaliencyConfig, SparseConfig, prune_network
from nnslim.run.context import RunContext
from nnslim.settings.commands import TalkSettings
from nnslim.surgery import Planted
from nnslim.train import TrainConfig, fit
from nnslim.train.teaching import RememberingTeacher
from tests.benchmarks.cifar import dense_network

EVERYWHERE = ("everywhere", "given", "trained", "polished")
GROWN = ("planting", *EVERYWHERE, "random", "unfrozen")
ARMS = (*GROWN, "scratch", "uniform", "narrowed", "prune")


class RandomPlanter(Planter):
    """Trains one random candidate of each round."""

    def choose(self, start: RoundStart, proposals: list[Proposal]) -> list[Proposal]:
        """One of the proposals, drawn by the run's seed and the round's number."""
        generator = np.random.default_rng((self.trainer.config.seed, start.number))
        return [proposals[int(generator.integers(len(proposals)))]]


class UnfrozenPlanter(Planter):
    """Trains everything, earlier weights and statistics too."""

    def trainable(
        self, planted: Planted, start: RoundStart
    ) -> tuple[nn.Module, Callable[[], Network]]:
        """The planted network as it is."""
        del start
        return planted.network, lambda: planted.network


PLANTERS: dict[str, type[Planter]] = {"random": RandomPlanter, "unfrozen": UnfrozenPlanter}


@dataclass(frozen=True)
class Bench:
    """One bench: its teacher, its images, its options."""

    teacher: Network
    data: Data
    options: argparse.Namespace
    out: Output

    def run(self) -> None:
        """Run every arm at every size and seed; the first says how many passes there are."""
        for seed in self.options.seeds:
            for size in self.options.sizes:
                for arm in self.options.arms:
                    place = self._place(arm, size, seed)
                    if not place.with_suffix(".json").exists():
                        self.out.info(f"== {place.name}")
                        began = time.perf_counter()
                        network, passes = self._arm(arm, size, seed)
                        self._write(place, network, passes, time.perf_counter() - began)
                        write_report(Path(self.options.build), self.options)

    def _arm(self, arm: str, size: float, seed: int) -> tuple[Network, int]:
        if arm in GROWN:
            return self._grown(arm, size, seed)
        first = self.options.arms[0]
        passes = self._found(first, size, seed)["passes"]
        if arm == "prune":
            config = PruneConfig(
                {"params": Limit(size / 100, relative=True)},
                min_width=Limit(2, relative=False),
                saliency=SaliencyConfig("jacobian", 256),
                sparse=SparseConfig(0),
                training=TrainConfig(epochs=passes, lr=0.05, seed=seed),
                batch_size=self.options.batch,
                seed=seed,
            )
            context = self._context()
            dense = copy.deepcopy(self.teacher)
            return prune_network(dense, self.data, config, context).network.cpu(), passes
        grown = load_network(self._place(first, size, seed).with_suffix(".safetensors"))
        start = grown if arm == "scratch" else self._narrowed(size)
        network = start if arm == "narrowed" else reset(copy.deepcopy(start), seed + 1)
        loader = Loader(
            self.data.train,
            self.teacher.preprocess or self.data.preprocess,
            self.options.batch,
            sampling=Sampling(shuffle=True, seed=seed, drop_last=True),
            augment=self.data.augment,
        )
        training = TrainConfig(epochs=passes, lr=0.1, seed=seed)
        device = self._context().device
        teacher = RememberingTeacher(copy.deepcopy(self.teacher)).to(device)
        fit(network, loader, training, device=device, teacher=teacher)
        return network.cpu(), passes

    def _narrowed(self, size: float) -> Network:
        """The widest even narrowing of the teacher with at most that share of its parameters."""
        most = Limit(size / 100, relative=True).of(count_costs(self.teacher).params)
        return narrowed(largest_first(self.teacher), widest(self.teacher, {"params": most}))

    def _grown(self, arm: str, size: float, seed: int) -> tuple[Network, int]:
        options = self.options
        epochs = options.epochs * (options.candidates if arm == "random" else 1)
        everywhere = arm in EVERYWHERE
        polish = options.polish_epochs if arm == "polished" else 0
        seed_epochs = options.everywhere_seed_epochs if everywhere else options.seed_epochs
        if everywhere:
            epochs = options.everywhere_epochs - polish
        if arm == "trained":
            seed_epochs, epochs = seed_epochs + _SEED_TRAINED, epochs - _SEED_TRAINED
        config = GrowConfig(
            {"params": Limit(size / 100, relative=True)},
            SeedConfig(
                options.seed_width and Limit(options.seed_width / 100, relative=True),
                None if everywhere else options.seed_share / 100,
                seed_epochs,
            ),
            growth=None if everywhere else Limit(options.growth / 100, relative=True),
            where="everywhere" if everywhere else "group",
            rounds=1 if everywhere else None,
            candidates=options.candidates,
            training=TrainConfig(
                epochs=epochs,
                lr={"unfrozen": 0.02}.get(arm, 0.1 if everywhere else 0.03),
                optimizer="sgd" if everywhere or arm == "unfrozen" else "adamw",
                compile=False,
                seed=seed,
            ),
            init=options.init,
            teacher_order="given" if arm == "given" else "largest",
            polish_epochs=polish,
            polish_lr=0.1,
            batch_size=options.batch,
            seed=seed,
        )
        teacher = copy.deepcopy(self.teacher)
        growing = prepare(teacher, self.data, config, self._context())
        result = replace(growing, planter=PLANTERS.get(arm, Planter)).run()
        passes = sum(len(own.candidates) for own in result.rounds) * epochs
        return result.network, seed_epochs + passes + polish

    def _write(self, place: Path, network: Network, passes: int, seconds: float) -> None:
        preprocess = self.teacher.preprocess or self.data.preprocess
        found = network_accuracy(network.eval(), Loader(self.data.test, preprocess, 500))
        costs = count_costs(network)
        place.parent.mkdir(parents=True, exist_ok=True)
        save_network(network, place.with_suffix(".safetensors"))
        write_json(
            place.with_suffix(".json"),
            {
                "top1_pct": found.top1_pct,
                "params": costs.params,
                "macs": costs.macs,
                "params_share": costs.params / count_costs(self.teacher).params,
                "macs_share": costs.macs / count_costs(self.teacher).macs,
                "passes": passes,
                "seconds": seconds,
            },
        )

    def _context(self) -> RunContext:
        return RunContext(torch.device(self.options.device), sink=self.out)

    def _place(self, arm: str, size: float, seed: int) -> Path:
        return Path(self.options.build) / f"{arm}-{size:g}pct-{seed}".replace(".", "_")

    def _found(self, arm: str, size: float, seed: int) -> dict[str, Any]:
        return json.loads(self._place(arm, size, seed).with_suffix(".json").read_text())


def write_report(root: Path, options: argparse.Namespace) -> None:
    """Write one table of all arms and sizes that are there."""
    lines = ["| size | arm | params | MACs | passes | top-1, % | minutes |"]
    lines.append("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for size in options.sizes:
        rows: list[tuple[float, str]] = []
        for arm in ARMS:
            runs = list(_runs(root, arm, size))
            if runs:
                top1 = [run["top1_pct"] for run in runs]
                spread = f" ± {stdev(top1):.2f}" if len(top1) > 1 else ""
                shares = [f"{100 * mean(r[k] for r in runs):.1f} %" for k in _SHARES]
                passes = f"{mean(run['passes'] for run in runs):.0f}"
                minutes = f"{mean(run['seconds'] for run in runs) / 60:.1f}"
                cells = [arm, *shares, passes, f"{mean(top1):.2f}{spread}", minutes]
                rows.append((-mean(top1), f"| {size:g} % | {' | '.join(cells)} |"))
        lines += [row for _, row in sorted(rows)]
    seen = f"{options.views} views of each" if options.views else "not augmented"
    seed = f"the widest even narrowing within {options.seed_share:g} % of the budget"
    if options.seed_width:
        seed = f"{options.seed_width:g} % of every width"
    narrow = "the same seed" if options.seed_width else "a seed of 2 channels in every group"
    head = _HEAD.format(
        **vars(options), seed=seed, narrow=narrow, name=Path(options.teacher).stem, seen=seen
    )
    write_page(Path(options.report), head + "\n".join(lines) + "\n", overwrite=True)


# Epochs that *trained* gives to its seed.
_SEED_TRAINED = 2
_SHARES = ("params_share", "macs_share")


def _runs(root: Path, arm: str, size: float) -> Iterator[dict[str, Any]]:
    for path in sorted(root.glob(f"{arm}-{size:g}pct-*".replace(".", "_") + ".json")):
        yield json.loads(path.read_text())


_HEAD = """# Planting against its controls

Written by `make bench-grow`; do not edit. Teacher: {name}. {subset} training images, {seen}, in
batches of {batch}, and {val} validation images; candidates of a round: the {candidates} with the
largest first-order gain, {epochs} epochs each (AdamW, rate 0.03); growth {growth:g} % of a group at
a time; seed network: {seed}, trained for {seed_epochs} epochs.
Top-1 on the test images, mean and standard deviation over the seeds. A pass is an epoch over the
training images, candidates that were not kept included.

- *planting*: `nnslim grow --where group`, earlier weights fixed.
- *everywhere*: `nnslim grow --where everywhere`: {narrow}, trained for
  {everywhere_seed_epochs} epochs, then as many channels as the budget has room for in one round of
  {everywhere_epochs} (SGD, rate 0.1); earlier weights fixed. What is grown starts as
  `--init {init}` says, *teacher*: with the weights of the teacher's largest filters.
- *given*: the same, the teacher's channels in the order in which they stand: `teacher_order=given`.
- *trained*: as *everywhere*, but 2 of its epochs train the seed (`--seed-epochs 2`).
- *polished*: as *everywhere*, but everything trains in the last {polish_epochs} of these epochs
  (learning rate 0.1): `--polish-epochs`, within as many passes.
- *scratch*: the same final architecture, fresh weights, everything trained, as many passes.
- *uniform*: the teacher narrowed evenly to the same parameters, trained as long.
- *narrowed*: the same, which starts with the weights of the teacher's largest filters.
- *random*: planting into a random group, trained as long as all candidates of a round.
- *unfrozen*: planting in which everything trains (SGD, learning rate 0.02).
- *prune*: `nnslim prune` of the trained teacher, fine-tuned as long. It starts with most of what
  the teacher learned from all training images, which *scratch* and *uniform* see only through its
  logits.

"""


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.grow")
    parser.add_argument("data")
    parser.add_argument("teacher")
    parser.add_argument("--sizes", nargs="+", type=float, default=[5.0, 10.0, 20.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--subset", type=int, default=4000)
    parser.add_argument("--val", type=int, default=2000, help="validation images to use")
    parser.add_argument("--candidates", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed-width", type=float, help="per cent of every width, instead of:")
    parser.add_argument("--seed-share", type=float, default=60.0, help="of the budget, per cent")
    parser.add_argument("--everywhere-seed-epochs", type=int, default=0)
    parser.add_argument("--everywhere-epochs", type=int, default=30)
    parser.add_argument("--views", type=int, default=4, help="augmented; 0: not augmented")
    parser.add_argument("--growth", type=float, default=100.0)
    parser.add_argument("--seed-epochs", type=int, default=18)
    parser.add_argument("--polish-epochs", type=int, default=8)
    parser.add_argument("--init", default="teacher", choices=("teacher", "random"))
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--build", default="build/bench-grow")
    parser.add_argument("--report", default="docs/results/grow.md")
    options = parser.parse_args()
    options.sizes = sorted(options.sizes)
    data = load_data(options.data).with_subset(options.subset, seed=0)
    few = stratified_indices(data.val.labels, min(options.val, len(data.val)), seed=0)
    splits = {**data.splits, "val": data.val.subset(few)}
    varied = Augment(pad=4, flip=True, views=options.views) if options.views else Augment(0, False)
    data = replace(data, splits=splits, augment=varied)
    teacher = dense_network(options.teacher)
    Bench(teacher, data, options, Output(TalkSettings(no_progress=True))).run()


if __name__ == "__main__":
    main()
