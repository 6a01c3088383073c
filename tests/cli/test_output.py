"""What is written where: results to stdout, the rest to stderr, nothing interpreted as markup."""

from __future__ import annotations

import io
import json
import math

import pytest

from nnslim.cli.output import Output
from nnslim.cli.progress import LogProgress
from nnslim.report import Table
from nnslim.settings.commands import TalkSettings

TABLE = Table.of("Files", ["file", ">MACs"], [["a.onnx", "12.3 M"], ["[bold]b[/bold].onnx", "7"]])


class _Terminal(io.StringIO):
    def isatty(self):
        return True


def _output(**flags):
    out = Output(TalkSettings(**flags), stdout=io.StringIO(), stderr=io.StringIO())
    return out, out.stdout, out._err.file


def test_one_call_through_four_modes():
    seen = {}
    for mode in ({}, {"json": True}, {"quiet": True}, {"verbose": True}):
        out, stdout, stderr = _output(**mode)
        out.info("read 3 files")
        out.detail("in 2 ms")
        out.warn("one is empty")
        out.result({"files": 2}, TABLE, "2 files")
        seen[next(iter(mode), "text")] = (stdout.getvalue(), stderr.getvalue())
    text = (
        "Files\n"
        "file                    MACs\n"
        "----------------------------\n"
        "a.onnx                12.3 M\n"
        "[bold]b[/bold].onnx        7\n"
        "2 files\n"
    )
    said = "read 3 files\nwarning: one is empty\n"
    assert _ruled(seen["text"][0]) == _ruled(text)
    assert seen["text"][1] == said
    assert seen["json"] == ('{\n  "files": 2\n}\n', said)
    assert seen["quiet"] == (seen["text"][0], "warning: one is empty\n")
    assert seen["verbose"] == (
        seen["text"][0],
        "read 3 files\nin 2 ms\nwarning: one is empty\n",
    )


def _ruled(text):
    """Compare cells, whatever the rule and the padding look like."""
    return [line.split() for line in text.splitlines() if not set(line) <= {"-", " "}]


def test_columns_align_as_asked_and_stay_ascii():
    out, stdout, _ = _output()
    out.result({}, TABLE)
    lines = [line for line in stdout.getvalue().splitlines() if line.strip()]
    assert stdout.getvalue().isascii()
    assert {len(line.rstrip()) for line in (lines[1], lines[3], lines[4])} == {
        len(lines[4].rstrip())
    }
    assert lines[3].startswith("a.onnx ")
    assert lines[3].rstrip().endswith("12.3 M")


def test_long_cells_fold_within_a_hundred_columns_and_lose_nothing(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    name = "features." + "layer." * 30 + "weight"
    out, stdout, _ = _output()
    out.result({}, Table.of("", ["layer", ">width"], [[name, "12"]]))
    text = stdout.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "12" in text
    cells = [line.split()[0] for line in text.splitlines() if "layer." in line or "weight" in line]
    assert name == "".join(cells)


def test_columns_variable_widens_tables(monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    name = "n" * 200
    out, stdout, _ = _output()
    out.result({}, Table.of("", ["layer"], [[name]]))
    assert name in stdout.getvalue()


def test_messages_are_neither_wrapped_nor_read_as_markup():
    out, _, stderr = _output()
    message = "[red]x[/red] :smile: " + "word " * 60 + "end"
    out.info(message)
    assert stderr.getvalue() == message + "\n"


def test_control_characters_are_shown_not_obeyed():
    out, stdout, stderr = _output()
    out.error("class \x1b[2J\r\a", hint="line\nbreak")
    out.result({}, Table.of("", ["class"], [["\x1b[31mred"]]))
    assert stderr.getvalue() == "error: class \\x1b[2J\\r\\x07\nhint: line\nbreak\n"
    assert "\\x1b[31mred" in stdout.getvalue()
    assert "\x1b" not in stdout.getvalue()


def test_stream_that_cannot_encode_gets_escapes():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    Output(stdout=stream).result({}, "café")
    assert raw.getvalue() == b"caf\\xe9\n"


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_has_no_numbers_that_json_has_not(value):
    out, stdout, _ = _output(json=True)
    with pytest.raises(ValueError, match="not JSON compliant"):
        out.result({"loss": value})
    assert stdout.getvalue() == ""


def test_json_is_sorted_whole_and_free_of_tables():
    out, stdout, _ = _output(json=True)
    document = {"b": ["x" * 500, "é[bold]"], "a": {"d": 1.25, "c": None}}
    out.result(document, TABLE, "text")
    assert json.loads(stdout.getvalue()) == document
    assert stdout.getvalue().index('"a"') < stdout.getvalue().index('"b"')


@pytest.mark.parametrize(("variable", "colour"), [(None, True), ("NO_COLOR", False)])
def test_colour_on_a_terminal_unless_no_color(monkeypatch, variable, colour):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if variable:
        monkeypatch.setenv(variable, "1")
    stderr = _Terminal()
    Output(stdout=io.StringIO(), stderr=stderr).error("no")
    assert ("\x1b[" in stderr.getvalue()) is colour


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "GITHUB_ACTIONS", "TTY_COMPATIBLE"])
def test_no_colour_and_no_bar_in_a_log_whatever_the_environment_says(monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    out, _, stderr = _output()
    out.error("no")
    with out.progress("scoring", 1, each=True) as work:
        work.advance()
    assert stderr.getvalue() == "error: no\nscoring 1/1\n"


def test_progress_is_a_line_per_step_only_where_asked():
    out, _, stderr = _output()
    with out.progress("fine-tuning", 3, each=True) as work:
        for epoch in range(3):
            work.advance(note=f"loss 0.{epoch}")
    with out.progress("scoring", 1000) as work:
        for _ in range(1000):
            work.advance()
    lines = stderr.getvalue().splitlines()
    assert [line.split(" eta ")[0] for line in lines] == [
        "fine-tuning 1/3 loss 0.0",
        "fine-tuning 2/3 loss 0.1",
        "fine-tuning 3/3 loss 0.2",
    ]


def test_log_has_a_line_every_interval_and_the_time_left():
    said, now = [], iter(range(0, 1000, 10))
    work = LogProgress(said.append, "scoring", 20, interval_s=30.0, clock=lambda: float(next(now)))
    for _ in range(10):
        work.advance(steps=2)
    assert said == ["scoring 6/20 eta 70s", "scoring 12/20 eta 40s", "scoring 18/20 eta 10s"]


@pytest.mark.parametrize("flags", [{"quiet": True}, {"no_progress": True}])
def test_progress_can_be_silenced(flags):
    out, stdout, stderr = _output(**flags)
    with out.progress("fine-tuning", 1, each=True) as work:
        work.advance()
    assert (stdout.getvalue(), stderr.getvalue()) == ("", "")


def test_progress_on_a_terminal_stays_on_stderr():
    stdout, stderr = io.StringIO(), _Terminal()
    out = Output(stdout=stdout, stderr=stderr)
    with out.progress("[b]scoring", 2) as work:
        work.advance(note="loss 0.4")
    assert stdout.getvalue() == ""
    assert "[b]scoring" in stderr.getvalue()


def test_table_refuses_ragged_rows():
    with pytest.raises(ValueError, match="2 columns"):
        Table.of("t", ["a", "b"], [["1"]])
