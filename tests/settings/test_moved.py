"""Names that went: as a flag, a key or a variable each gives an error that names the new place."""

from __future__ import annotations

import re
import sys

import pytest

from nnslim.cli.main import _run
from nnslim.errors import ConfigError
from nnslim.settings.commands import settings_by_command
from nnslim.settings.moved import moved_names
from nnslim.settings.tree import settings_of
from tests.cli.parsing import parsed

SETTINGS = {command: list(settings_of(cls)) for command, cls in settings_by_command().items()}
MOVED = [(command, old, new) for command in SETTINGS for old, new in moved_names(command).items()]


def variable(name):
    return f"NNSLIM_{name.replace('.', '_').upper()}"


def said(monkeypatch, capsys, *arguments):
    """Run the program; it ends with exit code 2 and one error, which is returned."""
    monkeypatch.setattr(sys, "argv", ["nnslim", *arguments])
    assert _run() == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("error: ") == 1
    return " ".join(captured.err.split())


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("command", "old", "new"), MOVED)
def test_the_new_place_exists(command, old, new):
    paths = {own.path for own in SETTINGS[command]}
    start, _, last = new.rpartition(".")
    assert new in paths or (last == "NAME" and any(own.startswith(f"{start}.") for own in paths))
    assert old.replace("_", "-") not in {own.option.flag for own in SETTINGS[command]}


@pytest.mark.parametrize(("command", "old", "new"), MOVED)
def test_a_flag_that_went_names_its_setting(command, old, new, monkeypatch, capsys):
    flag = f"--{old.replace('_', '-')}"
    error = said(monkeypatch, capsys, command, "m.pt", flag, "1")
    assert error.startswith(f"error: {flag} is a setting without a flag now")
    assert error.endswith(f"write --set {new}=VALUE")
    error = said(monkeypatch, capsys, command, f"{flag}=1", "m.pt")
    assert error.endswith(f"write --set {new}=1")


@pytest.mark.parametrize(
    ("flag", "hint"),
    [
        ("--no-distill", "training.distill_weight=0"),
        ("--no-focus", "sparse.focus=false"),
        ("--no-keep-streams", "keep_streams=false"),
    ],
)
def test_a_negative_flag_that_went_names_its_value(flag, hint, monkeypatch, capsys):
    assert said(monkeypatch, capsys, "prune", "m.pt", flag).endswith(f"write --set {hint}")


def test_what_stands_behind_a_double_dash_is_no_flag(monkeypatch, capsys):
    error = said(monkeypatch, capsys, "prune", "--", "--refit")
    assert "--refit: no such file" in error


@pytest.mark.parametrize(("command", "old", "new"), MOVED)
def test_a_key_that_went_names_its_table(command, old, new, monkeypatch, capsys, here):
    path = here / "nnslim.toml"
    path.write_text(f"[{command}]\n{old} = 1\n")
    if old == new:  # only the flag went
        assert "now" not in said(monkeypatch, capsys, command, "none.pt")
        return
    error = said(monkeypatch, capsys, command, "m.pt")
    table, _, key = f"{command}.{new}".rpartition(".")
    assert f"{path}: [{command}] {old}: {old} is {new} now" in error
    assert error.endswith(f"write {key} in [{table}]")


@pytest.mark.parametrize(("command", "old", "new"), MOVED)
def test_a_variable_that_went_names_the_new_one(command, old, new, monkeypatch, capsys):
    known = {variable(own.key) for own in SETTINGS[command]}
    assert variable(new) in known or new.endswith(".NAME")
    monkeypatch.setenv(variable(old), "1")
    error = said(monkeypatch, capsys, command, "none.pt")
    if variable(old) in known:
        assert " now" not in error
        return
    assert f"{variable(old)} is {variable(new)} now" in error
    assert error.endswith(f"set {variable(new)}")


@pytest.mark.parametrize(
    ("command", "name", "nearest"),
    [
        ("prune", "traning.lr", "training.lr"),
        ("prune", "training.momentun", "training.momentum"),
        ("prune", "epoch", "epochs"),
        ("prune", "warmup_fraction", "training.warmup_fraction"),
        ("prune", "strengths", "sparse.regularizer.strength"),
        ("grow", "seed_network.widht", "seed_network.width"),
        ("eval", "max_bites", "max_bytes"),
        ("export", "target", "format.target"),
    ],
)
def test_a_name_that_there_is_not_gives_the_nearest(command, name, nearest):
    with pytest.raises(ConfigError) as caught:
        parsed(command, "--set", f"{name}=1")
    assert caught.value.exit_code == 2
    assert f"--set {name}: " in caught.value.message
    assert caught.value.hint in {f"did you mean {nearest}?", f"write {nearest}"}


def test_a_name_like_no_other_leads_to_the_list():
    with pytest.raises(ConfigError, match=re.escape("--settings lists them all")):
        parsed("prune", "--set", "qqqq=1")
