"""A budget in accuracy: bites off the parameters while the recovered network stays close enough."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from nnslim.errors import ConfigError
from nnslim.pruning.course import PruneCourse
from nnslim.settings.budget import Limit

__all__ = ["DropCourse"]

# Shares of the parameters that a round takes; the next where one was too much.
_BITES = (0.2, 0.1, 0.05)


class DropCourse(PruneCourse):
    """A run that removes and recovers until ``max_drop``; a round that costs more is taken back."""

    def _remove_all(self) -> None:
        """Remove until nothing can go without too large a drop.

        Raises:
            ConfigError: There is no accuracy to judge by, or nothing can go.
        """
        dense_top1 = self.stages[0].val_top1_pct
        if dense_top1 is None:
            raise ConfigError(
                "[[max_drop]] is judged on validation images and there are none",
                hint="give [[data.validation=500]], or data with val images",
            )
        number, bites, obstacle = 0, list(_BITES), None
        while bites:
            number += 1
            before = (self.current, self.cuts, dict(self.seen))
            limit = Limit(int(self.current.n_parameters * (1 - bites[0])), relative=False)
            try:
                self._remove(number, {"params": limit})
            except ConfigError as error:  # the floors are reached
                obstacle = error
                bites.pop(0)
                continue
            obstacle = None  # a smaller bite can be taken: from here on accuracy decides
            self._recover(number)
            drop = dense_top1 - cast("float", self.stages[-1].val_top1_pct)
            if drop > cast("float", self.config.max_drop):
                self.current, self.cuts, self.seen = before
                self.stages = [
                    replace(point, taken_back=point.taken_back or point.round == number)
                    for point in self.stages
                ]
                bites.pop(0)
        if not self.cuts:
            raise self._nothing_removed(obstacle) from obstacle

    def _nothing_removed(self, obstacle: ConfigError | None) -> ConfigError:
        setting = f"[[max_drop={self.config.max_drop}]]"
        if obstacle is not None:
            why = f"{setting}: no channel can go: {obstacle.raw[0]}"
            return ConfigError(why, hint=obstacle.raw[1])
        return ConfigError(
            f"{setting}: taking {100 * _BITES[-1]:.0f}% of the parameters off costs more than that"
            f" after {self.config.rounds.epochs} epochs of recovery",
            hint="allow a larger drop, or more [[rounds.epochs]]",
        )
