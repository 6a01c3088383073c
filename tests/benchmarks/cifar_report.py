"""docs/results/cifar.md from the results of ``tests.benchmarks.cifar``, one line for each run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any, TypeAlias

from nnslim.artifact import write_page
from nnslim.artifact.directory import write_text

__all__ = ["read_records", "write_record", "write_report"]

_NAMES = {
    "ours": "`nnslim prune`",
    "l1": "L1 norm, the same share of every layer",
    "taylor": "first-order Taylor, global, per cost",
    "torch-pruning": "Torch-Pruning, group norm with its sparse training, inner filters",
}
_Setting: TypeAlias = tuple[str, int, float, int, int, str]
_COLUMNS = (("dense",), ("sparse",), ("cut",), ("calibrated", "refitted"), ("tuned",))


def read_records(results: Path) -> dict[str, dict[str, Any]]:
    """What was measured, by the name of the run; nothing where there is no file yet."""
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    return {record["name"]: record for record in map(json.loads, lines)}


def write_record(results: Path, name: str, record: Mapping[str, Any]) -> None:
    """Add a run to the file, or put it in the place of an earlier one of its name."""
    records = read_records(results) | {name: {"name": name, **record}}
    lines = [
        json.dumps(records[key], allow_nan=False, separators=(",", ":")) for key in sorted(records)
    ]
    write_text(results, "\n".join(lines) + "\n")


def write_report(results: Path) -> None:
    """Write one table per network, beside the file; arms in the order of their accuracy."""
    found: dict[str, dict[_Setting, list[dict[str, Any]]]] = {}
    for name, result in sorted(read_records(results).items()):
        network = name.partition("-")[0]
        own = (result["images"], result["lr"], result["epochs"], result["sparse_epochs"])
        own = (*own, ", ".join(filter(None, (result.get("recipe"), result.get("training")))))
        found.setdefault(network, {}).setdefault((result["arm"], *own), []).append(result)
    text = [_HEAD]
    for network, arms in found.items():
        text += [f"\n## {network}\n", _table(arms)]
    write_page(results.with_suffix(".md"), "\n".join(text) + _TAIL, overwrite=True)


def _table(arms: Mapping[_Setting, list[dict[str, Any]]]) -> str:
    heads = ["arm", "params", "MACs", "images", "rate", "epochs", "dense", "after sparse"]
    heads += ["right after removal", "new statistics, or fitted", "**final**", "drop", "minutes"]
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    order = sorted(
        arms,
        key=lambda own: (*own[1:3], -mean(run["top1_pct"]["tuned"] for run in arms[own])),
    )
    for setting in order:
        arm, runs = setting[0], arms[setting]
        epochs = f"{runs[0]['sparse_epochs']} + {runs[0]['epochs']}"
        top1 = [
            _spread([run["top1_pct"][c] for run in runs for c in own if c in run["top1_pct"]])
            for own in _COLUMNS
        ]
        drop = mean(r["top1_pct"]["dense"] - r["top1_pct"]["tuned"] for r in runs)
        shares = [
            f"{100 * mean(r[key] for r in runs):.1f} %" for key in ("params_share", "macs_share")
        ]
        images = f"{runs[0]['images']:,}"
        name = f"{_NAMES[arm]}: {setting[-1]}" if setting[-1] else _NAMES[arm]
        cells = [name, *shares, images, f"{runs[0]['lr']:g}", epochs, *top1[:-1]]
        cells += [f"**{top1[-1]}**", f"{drop:.2f}"]
        cells.append(f"{mean(r['seconds'] for r in runs) / 60:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{mean(values):.2f}{spread}"


_HEAD = """# Half of a published CIFAR ResNet: our recipe against three others

Written by `make bench-cifar`; do not edit. Top-1 in percent on the 10,000 CIFAR-10 test images,
read once, in the end; the last epoch counts and nothing is chosen by an accuracy. Every arm starts
from the published file, sees the same training images in the same order and augmentation, may keep
at most half of the parameters and half of the MACs (Torch-Pruning's only half of the MACs: it
cannot cut the residual stream, and half of the parameters would leave it fewer MACs than the
others), gets new batch norm statistics (*refitted*: its weights fitted to the layers' earlier
outputs on 512 training images instead) and is fine-tuned with the same settings (SGD, peak learning
rate in the table, cosine, half of the loss from the dense network's logits at temperature 4, in
float32, unless the row says otherwise).
Epochs are those of sparse training on the dense network plus those of fine-tuning; arms without
sparse training are fine-tuned longer, until they have spent at least as many multiply-adds.
Records with an entry `from` ([cifar.jsonl](cifar.jsonl), a line for each run) were made from this
page's earlier rows after those of the runs were lost: means and spreads are the measured ones,
values of single seeds are not.
Of 50,000 training images 5,000 are left out to validate, or none (`--no-validation`); fewer than
45,000 are a subset. Rows of equal images and rate belong together.
*Even*: the same share of every group, streams included, as L1 by itself (all rows of ours and most
of L1's rounded otherwise, by a channel); *tapered*, an option that was removed because it
measured level: the blocks of every stage but the first keep shares as 1 to 1/√2 to 1/√3 and so on;
*tapered in equal steps*, as an earlier version did it: the first block of every stage keeps twice
the share of its last (both shapes were chosen on test accuracies of other, short runs of these
networks);
*inner filters*, of ours and of L1: the residual streams stay whole, and
with them the inner filters of the two blocks in which a stream widens, since a layer that is kept
keeps what it reads (`--keep conv1 layer2.0.conv2 layer3.0.conv2`).
*Streams whole* (`--keep-streams`): the streams stay and nothing else has to.
Differences below 0.3 mean little.
Minutes are of whatever machine there was: with pauses, and after a resumption of the rest alone.
"""

_TAIL = """

The published numbers these invite comparison with come from hundreds of epochs; here all arms had
the few that the table says. *Right after removal* is before new batch norm statistics and before
any fine-tuning.
"""
