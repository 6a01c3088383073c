"""What a growing run did, as plain JSON values: ``report.json`` and a network's history."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from nnslim.measure.macs import count_costs
from nnslim.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnslim.growing.judging import Judged
    from nnslim.growing.result import GrowResult, Round
    from nnslim.measure.accuracy import Accuracy
    from nnslim.network.network import Network
    from nnslim.settings.grow import GrowConfig

__all__ = ["SCHEMA", "grow_json", "history_entry"]

SCHEMA = "nnslim.grow/1"


def grow_json(result: GrowResult, teacher: Network) -> dict[str, object]:
    """Return the networks, every round with every candidate, and the settings."""
    accuracies, rounds = result.accuracies, result.rounds
    seed = _state(result.seed, accuracies["seed"], result.seed_judged)
    grown = _state(result.network, accuracies["grown"], rounds[-1].judged if rounds else None)
    polished = None
    if "polished" in accuracies:
        polished = _state(result.network, accuracies["polished"], result.polished)
    return {
        "schema": SCHEMA,
        "teacher": _state(teacher, accuracies["teacher"], result.teacher_judged),
        "seed": seed,
        "grown": grown,
        "polished": polished,
        "before": seed,
        "after": polished or grown,
        "split": result.split,
        "limits": dict(result.limits),
        "seed_widths": dict(result.seed_widths),
        "rounds": [_round(entry) for entry in rounds],
        "stopped": result.stopped,
        "settings": asdict(result.config),
        "warnings": list(result.warnings),
    }


def history_entry(
    config: GrowConfig, seed: Network, network: Network, rounds: Sequence[Round]
) -> dict[str, object]:
    """Return what a network's history says of the run that it came from."""
    before, after = count_costs(seed), count_costs(network)
    return {
        "step": "grow",
        "nnslim": __version__,
        "seed": config.seed,
        "rounds": len(rounds),
        "init": config.init,
        "polish_epochs": config.polish_epochs,
        "params": [before.params, after.params],
        "macs": [before.macs, after.macs],
        "planted": [list(pair) for entry in rounds for pair in entry.planted.items()],
    }


def _round(entry: Round) -> dict[str, object]:
    return {
        "round": entry.number,
        "group": entry.group,
        "count": entry.count,
        "planted": dict(entry.planted),
        "params": entry.costs.params,
        "macs": entry.costs.macs,
        "judged": asdict(entry.judged),
        "latency_share": entry.latency_share,
        "widths": dict(entry.widths),
        "candidates": list(entry.candidates),
    }


def _state(network: Network, accuracy: Accuracy, judged: Judged | None) -> dict[str, object]:
    return {
        **asdict(count_costs(network)),
        "top1_pct": accuracy.top1_pct,
        "top5_pct": accuracy.top5_pct,
        "n_images": accuracy.n,
        "val": None if judged is None else asdict(judged),
    }
