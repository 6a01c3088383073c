from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnslim.errors import InputError
from nnslim.run.events import EventLog, read_events
from nnslim.train import Callbacks, Checkpoints, EpochRecord, TrainConfig, TrainEvent, fit
from tests.train.toys import CPU, separable_batches, toy_net

CONFIG = TrainConfig(epochs=3, lr=0.05)


class StopHereError(Exception):
    """Raised by a test in place of a crash."""


def train(log, stage="tuning", directory=None, stop=None, epochs=3, minutes=5):
    listen = log.stage(stage)

    def on_event(event):
        listen(event)
        if stop is not None and (event.kind, event.epoch, event.step) == stop:
            raise StopHereError

    return fit(
        toy_net(),
        separable_batches(),
        TrainConfig(epochs=epochs, lr=0.05),
        device=CPU,
        callbacks=Callbacks(lambda network: 50.0, on_event),
        checkpoints=Checkpoints(directory, minutes=minutes),
    )


def places(entries, stage="tuning"):
    return [
        (entry["kind"], entry["epoch"], entry.get("step"))
        for entry in entries
        if entry["stage"] == stage and entry["kind"] in ("step", "epoch")
    ]


def test_the_log_says_what_the_result_says(tmp_path):
    log = EventLog(tmp_path / "events.jsonl", every=2, clock=lambda: 12.0)
    result = train(log)
    entries = read_events(log.path)
    steps = [(e, s) for e in (1, 2, 3) for s in (2, 4)]
    assert [(n["epoch"], n["step"]) for n in entries if n["kind"] == "step"] == steps
    records = [
        EpochRecord(**{k: e[k] for k in vars(r)})
        for r, e in zip(result.history, [e for e in entries if e["kind"] == "epoch"], strict=True)
    ]
    assert records == list(result.history)
    assert entries[0] == {"time": 12.0, "stage": "tuning", "kind": "start", "epoch": 0, "step": 0}
    assert all(math.isfinite(e["loss"]) and e["lr"] >= 0 for e in entries if e["kind"] == "step")


@pytest.mark.parametrize("minutes", [0, 5])
@pytest.mark.parametrize("stop", [("step", 1, 3), ("step", 2, 2), ("epoch", 2, 4), ("step", 3, 4)])
def test_a_resumed_run_has_every_step_and_epoch_once(tmp_path, stop, minutes):
    whole = EventLog(tmp_path / "whole.jsonl", every=1)
    train(whole)
    path = tmp_path / "events.jsonl"
    with pytest.raises(StopHereError):
        train(EventLog(path, every=1), directory=tmp_path, stop=stop, minutes=minutes)
    with path.open("a") as file:
        file.write('{"time": 1.0, "sta')  # torn by a kill
    train(EventLog(path, every=1), directory=tmp_path, minutes=minutes)
    assert places(read_events(path)) == places(read_events(whole.path))
    kind, epoch, step = stop
    place = (epoch, 0) if kind == "epoch" else (epoch - 1, 0 if minutes else step)
    starts = [(e["epoch"], e["step"]) for e in read_events(path) if e["kind"] == "start"]
    assert starts == [(0, 0), place]


def test_an_epoch_whose_line_was_lost_is_logged_again(tmp_path):
    log = EventLog(tmp_path / "events.jsonl", every=1)
    with pytest.raises(StopHereError):
        train(log, directory=tmp_path, stop=("epoch", 2, 4))
    lines = log.path.read_text().splitlines(keepends=True)
    assert '"epoch"' in lines[-1]
    log.path.write_text("".join(lines[:-1]))
    result = train(EventLog(log.path, every=1), directory=tmp_path)
    losses = [e["loss"] for e in read_events(log.path) if e["kind"] == "epoch"]
    assert losses == [record.loss for record in result.history]


def test_other_stages_stay_as_they_are(tmp_path):
    """A resumed pipeline calls its finished stages again, which repeat nothing."""
    log = EventLog(tmp_path / "events.jsonl", every=1)
    train(log, "first", tmp_path / "1", epochs=1)
    with pytest.raises(StopHereError):
        train(log, "second", tmp_path / "2", ("step", 2, 1))
    before = read_events(log.path)
    train(log, "first", tmp_path / "1", epochs=1)
    assert [e for e in read_events(log.path) if e in before] == before
    train(log, "second", tmp_path / "2")
    entries = read_events(log.path)
    assert len(places(entries, "first")) == 5
    assert places(entries, "second") == places(before, "second")[:5] + [
        (kind, epoch, step)
        for epoch in (2, 3)
        for kind, step in (*(("step", s) for s in (1, 2, 3, 4)), ("epoch", None))
    ]


@given(st.integers(min_value=0))
def test_a_log_cut_anywhere_is_read_and_continued(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    log = EventLog(path)
    for number in range(4):
        log.append("a", "note", note=f"Grüße {number}")
    data = path.read_bytes()
    cut %= len(data) + 1
    path.write_bytes(data[:cut])
    whole = data[:cut].count(b"\n")
    assert [entry["note"] for entry in read_events(path)] == [f"Grüße {n}" for n in range(whole)]
    EventLog(path).append("a", "note", note="more")
    assert [entry["note"] for entry in read_events(path)][whole:] == ["more"]


def test_numbers_that_json_has_not_are_null(tmp_path):
    log = EventLog(tmp_path / "events.jsonl")
    log.append("a", "epoch", epoch=1, val_top1=math.nan, loss=math.inf)
    line = log.path.read_text().splitlines()[0]
    assert json.loads(line, parse_constant=pytest.fail)["val_top1"] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [("no json\n", "not a readable log"), ('{"stage": "a"}\n', "line 1 is no event")],
)
def test_another_file_is_refused_and_left(tmp_path, text, message):
    path = tmp_path / "events.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_events(path)
    with pytest.raises(InputError, match=message):
        EventLog(path).take_back("a", 0, 0)
    assert path.read_text() == text
    with pytest.raises(InputError, match="not a readable log"):
        read_events(tmp_path / "missing.jsonl")


def test_notes_and_warnings_are_logged(tmp_path):
    log = EventLog(tmp_path / "events.jsonl")
    for kind in ("note", "warning"):
        log.stage("a")(TrainEvent(kind, 0, 1, 0, 1, note=f"a {kind}"))
    assert [(e["kind"], e["note"]) for e in read_events(log.path)] == [
        ("note", "a note"),
        ("warning", "a warning"),
    ]
