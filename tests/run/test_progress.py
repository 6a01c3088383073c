from __future__ import annotations

import io

from nnslim.cli.output import Output
from nnslim.cli.progress import LogProgress
from nnslim.run.progress import ShowTraining
from nnslim.settings.commands import TalkSettings
from nnslim.sink import SILENT
from nnslim.train import Callbacks, EpochRecord, TrainConfig, TrainEvent, fit
from tests.train.toys import CPU, separable_batches, toy_net


class Lines:
    """A sink that keeps what it is told."""

    def __init__(self):
        self.said, self.warned = [], []

    def info(self, message):
        self.said.append(message)

    def warn(self, message):
        self.warned.append(message)


def step(number, epoch=1, steps=100):
    return TrainEvent("step", epoch, 4, number, steps, loss=0.5, lr=0.1)


def test_a_long_run_in_a_log_has_a_line_every_half_minute_not_one_a_step():
    """The first step compiles for 50 s; the others take 1 s each."""
    now, lines = [0.0], []
    progress = LogProgress(lines.append, "tuning", 400, interval_s=30.0, clock=lambda: now[0])
    show = ShowTraining(progress, SILENT)
    show(TrainEvent("start", 0, 4, 0, 100))
    for number in range(1, 101):
        now[0] += 50.0 if number == 1 else 1.0
        show(step(number))
    assert lines == [
        "tuning 1/400 epoch 1/4 loss 0.500",
        "tuning 31/400 epoch 1/4 loss 0.500 eta 6m",
        "tuning 61/400 epoch 1/4 loss 0.500 eta 6m",
        "tuning 91/400 epoch 1/4 loss 0.500 eta 5m",
    ]


def test_steps_done_before_do_not_make_a_resumed_run_look_fast():
    now, lines = [0.0], []
    progress = LogProgress(lines.append, "tuning", 400, interval_s=30.0, clock=lambda: now[0])
    show = ShowTraining(progress, SILENT)
    show(TrainEvent("start", 2, 4, 50, 100))
    for number in range(51, 82):
        now[0] += 1.0
        show(step(number, epoch=3))
    assert lines == ["tuning 280/400 epoch 3/4 loss 0.500 eta 2m"]


def test_steps_that_a_gpu_reports_together_all_count():
    now, lines = [0.0], []
    progress = LogProgress(lines.append, "tuning", 400, interval_s=0.0, clock=lambda: now[0])
    show = ShowTraining(progress, SILENT)
    for number in (25, 50):
        show(step(number))
    assert [line.split()[1] for line in lines] == ["25/400", "50/400"]


def test_epochs_notes_and_warnings_are_said():
    lines = Lines()
    with SILENT.progress("tuning", 1) as progress:
        show = ShowTraining(progress, lines)
        record = EpochRecord(2, 0.25, 90.0, 88.5, 0.01, 61.4)
        show(TrainEvent("epoch", 2, 4, 100, 100, record=record))
        show(TrainEvent("note", 2, 4, 0, 100, note="resumed"))
        show(TrainEvent("warning", 2, 4, 0, 100, note="slow"))
    assert lines.said == [
        "epoch 2/4: loss 0.2500, training top-1 90.00%, validation top-1 88.50%, 61 s",
        "resumed",
    ]
    assert lines.warned == ["slow"]


def test_a_whole_run_shows_the_same_on_a_terminal(tmp_path):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    out = Output(TalkSettings(), stdout=io.StringIO(), stderr=Terminal())
    config = TrainConfig(epochs=2, lr=0.05)
    with out.progress("tuning", 8) as progress:
        show = ShowTraining(progress, out)
        fit(
            toy_net(),
            separable_batches(),
            config,
            device=CPU,
            callbacks=Callbacks(on_event=show),
        )
        assert progress.bars.tasks[0].completed == 8
