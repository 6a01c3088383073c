"""A budget in accuracy: bites off the parameters while the recovered network stays close enough."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from nnslim.errors import ConfigError
from nnslim.settings.budget import Limit

if TYPE_CHECKING:
    from nnslim.pruning.course import PruneCourse

__all__ = ["remove_until_drop"]

# Shares of the parameters that a round takes; the next where one was too much.
_BITES = (0.2, 0.1, 0.05)


def remove_until_drop(course: PruneCourse, dense_top1: float | None, max_drop: float) -> None:
    """Remove and recover, round after round; a round that costs too much is taken back.

    Args:
        course: Stands before its first removal.
        dense_top1: Validation accuracy of the dense network in percent.
        max_drop: Points that the network after a round may lie below it.

    Raises:
        ConfigError: There is no accuracy to judge by, or nothing can go.
    """
    if dense_top1 is None:
        raise ConfigError(
            "[[max_drop]] is judged on validation images and there are none",
            hint="give [[data.validation=500]], or data with val images",
        )
    number, bites, obstacle = 0, list(_BITES), None
    while bites:
        number += 1
        before = (course.current, course.cuts, dict(course.seen))
        limit = Limit(int(course.current.n_parameters * (1 - bites[0])), relative=False)
        try:
            course.remove(number, {"params": limit})
        except ConfigError as error:  # the floors are reached
            obstacle = error
            bites.pop(0)
            continue
        obstacle = None  # a smaller bite can be taken: from here on accuracy decides
        course.recover(number)
        if dense_top1 - cast("float", course.stages[-1].val_top1_pct) > max_drop:
            course.current, course.cuts, course.seen = before
            course.stages = [
                replace(point, taken_back=point.taken_back or point.round == number)
                for point in course.stages
            ]
            bites.pop(0)
    if not course.cuts:
        raise _nothing_removed(max_drop, course.config.rounds.epochs, obstacle) from obstacle


def _nothing_removed(max_drop: float, epochs: int, obstacle: ConfigError | None) -> ConfigError:
    if obstacle is not None:
        why = f"[[max_drop={max_drop}]]: no channel can go: {obstacle.raw[0]}"
        return ConfigError(why, hint=obstacle.raw[1])
    return ConfigError(
        f"[[max_drop={max_drop}]]: taking {100 * _BITES[-1]:.0f}% of the parameters off"
        f" costs more than that after {epochs} epochs of recovery",
        hint="allow a larger drop, or more [[rounds.epochs]]",
    )
