"""The learning rate as a pure function of the step: nothing to save, nothing to resume."""

from __future__ import annotations

import math

from nnslim.settings.train import TrainConfig

__all__ = ["learning_rate"]

# Start and end of the one-cycle schedule below its peak, as torch's OneCycleLR has them.
_ONE_CYCLE_START = 25.0
_ONE_CYCLE_END = 1e4


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """Return the learning rate of one step.

    ``cosine``: a linear rise to ``config.lr`` over the first ``W = round(warmup_fraction * steps)``
    steps, then ``lr * (1 + cos(pi * (step - W) / (steps - W))) / 2``.

    ``one-cycle``: from ``lr / 25`` to ``lr`` and down to ``lr / 250000``, each half of a cosine
    (torch's ``OneCycleLR``; the momentum is not cycled).

    Args:
        step: 0 for the first step of the run.
        steps: Number of steps of the whole run.
        config: Gives the peak, the schedule and the warm-up.

    Example:
        >>> from nnslim.settings.train import TrainConfig
        >>> config = TrainConfig(lr=1.0, warmup_fraction=0.0)
        >>> learning_rate(0, 100, config), round(learning_rate(50, 100, config), 6)
        (1.0, 0.5)
    """
    assert 0 <= step < steps, f"step {step} of {steps}"
    match config.schedule:
        case "cosine":
            return _cosine(step, steps, config)
        case "one-cycle":
            return _one_cycle(step, steps, config)


def _cosine(step: int, steps: int, config: TrainConfig) -> float:
    warmup = round(config.warmup_fraction * steps)
    if step < warmup:
        return config.lr * (step + 1) / (warmup + 1)
    return _anneal(config.lr, 0.0, (step - warmup) / (steps - warmup))


def _one_cycle(step: int, steps: int, config: TrainConfig) -> float:
    start = config.lr / _ONE_CYCLE_START
    peak, last = max(config.warmup_fraction * steps - 1, 0.0), steps - 1
    if step < peak:
        return _anneal(start, config.lr, step / peak)
    if last <= peak:
        return config.lr
    return _anneal(config.lr, start / _ONE_CYCLE_END, (step - peak) / (last - peak))


def _anneal(start: float, end: float, fraction: float) -> float:
    """Go from start to end along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2
