"""Every setting of every command: settable from each source, shown with its origin, recorded."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass

import pytest

from nnslim.errors import ConfigError
from nnslim.pruning.report import config_json
from nnslim.settings.commands import settings_by_command
from nnslim.settings.resolve import resolved
from nnslim.settings.tree import settings_of, value_at
from tests.cli.parsing import parsed, run
from tests.settings.values import ALL, CONFIGS, IDS, WITH, another

BUDGETS = {"params", "macs", "size"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def shown(capsys):
    """Value and origin of a setting as ``--settings`` shows them."""

    def row(command, setting, *arguments, env=None):
        given = [] if setting.path == "talk.json" else ["--json"]
        given += [] if setting.path == "talk.quiet" else ["--quiet"]
        given += ["--set", WITH[setting.path]] if setting.path in WITH else []
        run(command, "--settings", *given, *arguments, env=env)
        rows = json.loads(capsys.readouterr().out)["settings"]
        return next((own["value"], own["from"]) for own in rows if own["setting"] == setting.path)

    return row


def toml(table, key, setting, text):
    bare = setting.switch or ("true" in setting.metavar and text in {"true", "false"})
    return f"[{table}]\n{key} = {text if bare else json.dumps(text)}\n"


@pytest.mark.parametrize(("command", "setting"), ALL, ids=IDS)
def test_a_setting_is_taken_from_every_source_and_shown_with_it(command, setting, here, shown):
    text, path, facts = another(command, setting), setting.path, setting.option
    table, _, key = f"{command}.{path}".rpartition(".")
    file, variable = here / "nnslim.toml", f"NNSLIM_{setting.key.replace('.', '_').upper()}"
    wanted = {"set": (text, f"--set {path}")}
    found = {"set": shown(command, setting, "--set", f"{path}={text}")}
    if facts.flag:
        given = [f"--{facts.flag}"] if setting.switch else [f"--{facts.flag}", text]
        found["flag"] = shown(command, setting, *given)
        wanted["flag"] = (text, f"--{facts.flag}")
    if facts.file:
        found["variable"] = shown(command, setting, env={variable: text})
        wanted["variable"] = (text, variable)
        for own_table, own_key in {(table, key), (command, setting.key)}:
            if "." in own_key:
                continue
            file.write_text(toml(own_table, own_key, setting, text))
            found[own_table] = shown(command, setting)
            wanted[own_table] = (text, f"{file}: [{own_table}] {own_key}")
    assert found == wanted
    said = ["--set", f"{path}={text}", *(["--set", WITH[path]] if path in WITH else [])]
    value = value_at(parsed(command, *said), path)
    assert value == (tuple(text.split(",")) if setting.repeatable else setting.read(text))
    assert value != setting.default


@pytest.mark.parametrize("command", settings_by_command())
def test_what_is_shown_without_a_word_reads_back(command, here, capsys):
    run(command, "--settings", "--json", "-q")
    rows = json.loads(capsys.readouterr().out)["settings"]
    values = {row["setting"]: row["value"] for row in rows}
    del values["talk.json"], values["talk.quiet"]  # given by flags here
    said = [text for own in values.items() for text in ("--set", "=".join(own))]
    run(command, "--settings", "--json", "-q", *said)
    again = {row["setting"]: row for row in json.loads(capsys.readouterr().out)["settings"]}
    assert {path: again[path]["value"] for path in values} == values
    origins = {path: again[path]["from"] for path in values}
    assert {path for path, own in origins.items() if own != f"--set {path}"} <= {
        path for path, value in values.items() if value == "auto" or path in BUDGETS
    }


@pytest.mark.parametrize("value", [0.1 + 0.2, 1e-7, 123456.789, 1 / 3])
def test_a_number_is_shown_with_all_its_digits(value, here, shown):
    setting = next(own for name, own in ALL if own.path == "latency.min_s")
    assert float(shown("eval", setting, "--set", f"latency.min_s={value}")[0]) == value


def test_only_the_command_line_may_say_what_runs_code(here):
    refused = [(command, own) for command, own in ALL if not own.option.file]
    assert {own.path for _, own in refused} == {"model.trust_pickle"}
    for command, own in refused:
        table, _, key = f"{command}.{own.path}".rpartition(".")
        (here / "nnslim.toml").write_text(toml(table, key, own, "true"))
        with pytest.raises(ConfigError, match="only be given as the flag --trust-pickle"):
            run(command, "--settings")


def recorded(command, config):
    """What report.json says of the settings, read back."""
    values = config_json(config) if command == "prune" else asdict(config)
    return json.loads(json.dumps(values, allow_nan=False))


def at(record, path):
    for name in ("limits", path) if path in BUDGETS else path.split("."):
        record = record.get(name)
    return record


@pytest.mark.parametrize(
    ("command", "setting"),
    [(name, own) for name, cls in CONFIGS.items() for own in settings_of(cls)],
    ids=lambda own: own if isinstance(own, str) else own.path,
)
def test_a_setting_is_recorded_as_it_was_given(command, setting):
    path, text = setting.path, another(command, setting)
    said = ["--set", f"{path}={text}", *(["--set", WITH[path]] if path in WITH else [])]
    config = parsed(command, *said).config
    value = value_at(config, path)
    wanted = json.loads(json.dumps(asdict(value) if is_dataclass(value) else value))
    assert at(recorded(command, resolved(config)), path) == wanted
    assert at(recorded(command, resolved(CONFIGS[command]())), path) != wanted
