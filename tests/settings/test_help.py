"""The help of the commands: fits 80 columns, has its panels in order, and reads alone."""

from __future__ import annotations

import re
import shlex

import pytest
import typer.main
from typer.testing import CliRunner

from nnslim.cli.main import app
from nnslim.settings.option import PANELS
from tests.cli.parsing import COMMANDS, run
from tests.settings.values import ALL, IDS


@pytest.fixture(scope="module")
def pages():
    runner = CliRunner(env={"COLUMNS": "80", "TERM": "dumb"})
    return {name: runner.invoke(app, [name, "--help"]).stdout for name in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_line_is_wider_than_80_columns(command, pages):
    lines = pages[command].splitlines()
    assert len(lines) > 40
    assert [line for line in lines if len(line) > 80] == []
    assert [line for line in lines if "…" in line] == []  # nothing is cut off


@pytest.mark.parametrize("command", COMMANDS)
def test_panels_stand_in_order(command, pages):
    found = re.findall(r"^╭─ (.+?) ─+╮$", pages[command], re.MULTILINE)
    assert found == ["Arguments", *(own for own in PANELS if own in found)]
    assert {"Model and data", "Output", "Expert"} <= set(found)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_end_is_three_examples_that_parse(command, pages):
    lines = [line.strip() for line in pages[command].splitlines() if line.strip()]
    assert lines[-4] == "Examples:"
    assert lines[-3:] == list(COMMANDS[command].EXAMPLES)
    for line in lines[-3:]:
        program, name, *arguments = shlex.split(line)
        assert (program, name) == ("nnslim", command)
        assert len(run(name, *arguments)) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_a_switch_shows_no_value_and_a_default_is_named(command, pages):
    assert "<bool>" not in pages[command]
    text = re.sub(r"[│\s]+", " ", pages[command])
    shown = {"prune": "128", "grow": "128", "eval": "auto", "export": "20"}[command]
    assert f"[default: {shown}]" in text


def reads_alone(text):
    return (
        text[0].isupper()
        and text.endswith(".")
        and "  " not in text
        and not text.startswith(("Its ", "Of ", "The same "))
    )


@pytest.mark.parametrize(("command", "setting"), ALL, ids=IDS)
def test_the_help_of_a_setting_reads_alone(command, setting):
    assert reads_alone(setting.option.help)
    assert setting.option.panel in PANELS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_of_the_command_line_has_such_a_help(command):
    parameters = typer.main.get_command(app).commands[command].params
    assert len(parameters) > 20
    for parameter in parameters:
        assert reads_alone(parameter.help.partition(" \\[default: ")[0]), parameter.name


def test_a_setting_that_was_given_is_listed_beside_its_default():
    done = CliRunner().invoke(app, ["prune", "--settings", "--set", "training.grad_clip=1.5"])
    assert done.exit_code == 0
    assert "1.5 (default none)" in done.stdout
    assert "0.9 (default" not in done.stdout
