"""What a growing run did, as plain JSON values: ``report.json`` and a network's history."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from nnslim.channels import channel_groups
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
    found = result.accuracies
    polished = "polished" in found
    rounds = [
        {
            "round": own.number,
            "group": own.group,
            "count": own.count,
            "planted": dict(own.planted),
            "params": own.costs.params,
            "macs": own.costs.macs,
            "judged": asdict(own.judged),
            "latency_share": own.latency_share,
            "widths": dict(own.widths),
            "candidates": list(own.candidates),
        }
        for own in result.rounds
    ]
    grown = _state(result.network, found["grown"], result.rounds[-1].judged if rounds else None)
    final = _state(result.network, found["polished"], result.polished) if polished else grown
    return {
        "schema": SCHEMA,
        "teacher": _state(teacher, found["teacher"], result.teacher_judged),
        "seed": _state(result.seed, found["seed"], result.seed_judged),
        "grown": grown,
        "polished": final if polished else None,
        "before": _state(result.seed, found["seed"], result.seed_judged),
        "after": final,
        "split": result.split,
        "limits": dict(result.limits),
        "seed_widths": {g.name: g.width for g in channel_groups(result.seed).prunable},
        "rounds": rounds,
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
        "planted": [list(pair) for own in rounds for pair in own.planted.items()],
    }


def _state(network: Network, accuracy: Accuracy, judged: Judged | None) -> dict[str, object]:
    return {
        **asdict(count_costs(network)),
        "top1_pct": accuracy.top1_pct,
        "top5_pct": accuracy.top5_pct,
        "n_images": accuracy.n,
        "val": None if judged is None else asdict(judged),
    }
