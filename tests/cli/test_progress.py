from __future__ import annotations

import io

import pytest
from rich.console import Console

from nnslim.cli.progress import LogProgress, TerminalProgress


def test_skipped_steps_count_but_not_for_the_speed():
    now, said = [0.0], []
    work = LogProgress(said.append, "tuning", 100, interval_s=10.0, clock=lambda: now[0])
    work.skip(50)
    now[0] = 5.0
    work.advance(5)
    now[0] = 10.0
    work.advance(5)
    assert said == ["tuning 60/100 eta 40s"]


@pytest.mark.parametrize(
    ("step_s", "eta"),
    [(1.0, "eta 99s"), (1.3, "eta 2m"), (60.0, "eta 99m"), (80.0, "eta 2h 12m"), (0.0, "")],
)
def test_the_time_left_is_readable(step_s, eta):
    now, said = [0.0], []
    work = LogProgress(said.append, "tuning", 100, interval_s=0.0, clock=lambda: now[0])
    now[0] = step_s
    work.advance()
    assert said == [f"tuning 1/100 {eta}".strip()]


def test_the_bar_measures_its_speed_after_what_was_skipped():
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    bar = TerminalProgress(console, "tuning", 100)
    with bar.bars:
        bar.skip(90, "loss 1")
        task = bar.bars.tasks[0]
        assert (task.completed, task.speed, task.fields["note"]) == (90, None, "loss 1")
        bar.advance(2, "loss 0.5")
        bar.skip(3)
        assert task.completed == 95
