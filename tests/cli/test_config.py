"""Configuration files: who wins, and what is refused."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Annotated

import numpy as np
import onnx
import pytest
import typer
from typer.testing import CliRunner

from nnslim.cli import options
from nnslim.cli.main import app as nnslim
from nnslim.cli.options import COMMAND_SETTINGS, option
from nnslim.errors import ConfigError, GateFailedError, InputError
from nnslim.measure import evaluation
from nnslim.settings.eval import Gates, LatencySettings

app = typer.Typer()


@app.command(context_settings=COMMAND_SETTINGS)
def shrink(
    context: typer.Context,
    params: Annotated[str, option()] = "50%",
    epochs: Annotated[int, option(min=0)] = 10,
    lr: Annotated[float, option()] = 0.1,
    batch_size: Annotated[str, option()] = "1",
    keep: Annotated[list[str] | None, option()] = None,
    distill: Annotated[bool, option("--distill/--no-distill")] = True,
    trust_pickle: options.TrustPickle = False,
    config: options.Config = None,
):
    typer.echo((params, epochs, lr, batch_size, keep or [], distill, trust_pickle))


@app.command(context_settings=COMMAND_SETTINGS)
def other(context: typer.Context, config: options.Config = None):
    typer.echo("other")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    folder = tmp_path / "project" / "deep"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return tmp_path / "project"


def run(*arguments, env=None, command="shrink"):
    done = CliRunner().invoke(app, [command, *arguments], env=env)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def values(*arguments, env=None):
    done = run(*arguments, env=env)
    assert done.exit_code == 0, done.output
    return eval(done.stdout)


def test_flag_beats_variable_beats_file_beats_default(here):
    assert values()[1] == 10
    (here / "nnslim.toml").write_text("[shrink]\nepochs = 20\n")
    assert values()[1] == 20
    assert values(env={"NNSLIM_EPOCHS": "30"})[1] == 30
    assert values("--epochs", "40", env={"NNSLIM_EPOCHS": "30"})[1] == 40


def test_every_kind_of_value_is_carried(here):
    (here / "nnslim.toml").write_text(
        "[shrink]\nparams = 130_000\nlr = 1e-4\nbatch_size = [1, 32]\nkeep = ['a', 'b']\n"
        "distill = false\n"
    )
    assert values() == ("130000", 10, 1e-4, "1,32", ["a", "b"], False, False)


def test_one_value_for_a_repeatable_flag_is_a_list_of_one(here):
    (here / "nnslim.toml").write_text("[shrink]\nkeep = 'conv1'\n")
    assert values()[4] == ["conv1"]


def test_flag_replaces_the_list_of_the_file(here):
    (here / "nnslim.toml").write_text("[shrink]\nkeep = ['a', 'b']\n")
    assert values("--keep", "c")[4] == ["c"]


def test_negative_flag_beats_file_and_variable(here):
    (here / "nnslim.toml").write_text("[shrink]\ndistill = true\n")
    assert values("--no-distill", env={"NNSLIM_DISTILL": "1"})[5] is False
    assert values(env={"NNSLIM_DISTILL": "false"})[5] is False


def test_nearest_file_wins_and_a_pyproject_without_our_table_is_passed_by(here):
    (here / "pyproject.toml").write_text("[tool.nnslim.shrink]\nepochs = 7\n")
    (here / "deep" / "pyproject.toml").write_text("[tool.ruff]\n")
    assert values()[1] == 7
    (here / "deep" / "nnslim.toml").write_text("[shrink]\nepochs = 8\n")
    assert values()[1] == 8


def test_nnslim_toml_beats_pyproject_beside_it(here):
    (here / "pyproject.toml").write_text("[tool.nnslim.shrink]\nepochs = 7\n")
    (here / "nnslim.toml").write_text("[shrink]\nepochs = 8\n")
    assert values()[1] == 8


@pytest.mark.parametrize("name", ["other.toml", "pyproject.toml"])
def test_named_file_replaces_the_nearest(here, name):
    (here / "nnslim.toml").write_text("[shrink]\nepochs = 7\n")
    folder = here / "elsewhere"
    folder.mkdir()
    table = "tool.nnslim.shrink" if name == "pyproject.toml" else "shrink"
    (folder / name).write_text(f"[{table}]\nepochs = 9\n")
    assert values("--config", str(folder / name))[1] == 9
    assert values(env={"NNSLIM_CONFIG": str(folder / name)})[1] == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[shrink]\nepoch = 1\n", r"\[shrink\] has no key epoch; did you mean epochs\?"),
        ("[shrink]\nbatch-size = 1\n", "no key batch-size; did you mean batch_size"),
        ("[shrinc]\n", "table has no key shrinc; did you mean shrink"),
        ("epochs = 1\n", "table has no key epochs"),
        ("[other]\nepochs = 1\n", r"\[other\] has no key epochs"),
        ("shrink = 1\n", "shrink must be a table"),
        ("[shrink]\nepochs = 'many'\n", r"\[shrink\] epochs = 'many': .*integer"),
        ("[shrink]\nepochs = -1\n", r"\[shrink\] epochs = -1: "),
        ("[shrink]\nepochs = true\n", "must be not true or false"),
        ("[shrink]\nepochs = [1, 2]\n", r"epochs = \[1, 2\]: "),
        ("[shrink]\nepochs = {a = 1}\n", r"epochs = \{'a': 1\}: "),
        ("[shrink]\ndistill = 1\n", "must be true or false"),
        ("[shrink]\ndistill = 'yes'\n", "must be true or false"),
        ("[shrink]\ntrust_pickle = true\n", "only be given as the flag --trust-pickle"),
        ("[shrink]\nconfig = 'x'\n", "only be given as the flag --config"),
    ],
)
def test_wrong_file_is_refused_and_names_file_and_key(here, text, message):
    path = here / "nnslim.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        run()
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("command", ["shrink", "other"])
def test_mistake_in_another_commands_table_is_found_too(here, command):
    (here / "nnslim.toml").write_text("[shrink]\nepoch = 1\n")
    with pytest.raises(ConfigError):
        run(command=command)


@pytest.mark.parametrize("content", [b"[shrink\n", b"\xff\xfe", None])
def test_unreadable_file_is_refused(here, content):
    path = here / "named.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"named\.toml"):
        run("--config", str(path))


def test_no_variable_makes_a_pickle_trusted():
    assert values(env={"NNSLIM_TRUST_PICKLE": "1"})[6] is False
    assert values("--trust-pickle")[6] is True


def test_help_works_beside_a_broken_file(here):
    (here / "nnslim.toml").write_text("[shrink\n")
    assert "--epochs" in run("--help").stdout


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """What ``nnslim eval`` can open: 30 parameters."""
    w = onnx.numpy_helper.from_array(np.zeros((10, 3, 1, 1), np.float32), "w")
    x = onnx.helper.make_tensor_value_info("x", 1, ["batch", 3, 2, 2])
    y = onnx.helper.make_tensor_value_info("y", 1, ["batch", 10, 1, 1])
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["c"]),
        onnx.helper.make_node("GlobalAveragePool", ["c"], ["y"]),
    ]
    graph = onnx.helper.make_graph(nodes, "g", [x], [y], [w])
    opset = onnx.helper.make_opsetid("", 20)
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    onnx.save(onnx.helper.make_model(graph, ir_version=10, opset_imports=[opset]), path)
    return path


@pytest.fixture
def quick(monkeypatch):
    """Time one call instead of seconds of them."""
    settings = LatencySettings(
        warmup_runs=0, warmup_s=0, rounds=1, calls_per_round=1, min_s=0, max_s=0
    )
    measure = evaluation.measure_latency
    monkeypatch.setattr(evaluation, "measure_latency", lambda runs, _: measure(runs, settings))


def gates(model, *arguments, env=None):
    """The limits that the real command applies."""
    arguments = ("eval", str(model), "--device", "cpu", "--json", "-q", *arguments)
    done = CliRunner().invoke(nnslim, arguments, env=env)
    if done.exception is not None and not isinstance(done.exception, SystemExit | GateFailedError):
        raise done.exception
    return {gate["gate"]: gate["limit"] for gate in json.loads(done.stdout)["gates"]}


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("name", ["nnslim.toml", "pyproject.toml"])
def test_gates_have_a_table_of_their_own_and_flags_go_first(here, model, name):
    prefix = "tool.nnslim." if name == "pyproject.toml" else ""
    text = f"[{prefix}eval]\nmax_macs = '1M'\n[{prefix}eval.gates]\nmax_params = 300_000\n"
    (here / name).write_text(text + "max_bytes = '2M'\n")
    wanted = {"max-macs": 10**6, "max-params": 300_000, "max-bytes": 2 * 10**6}
    assert gates(model) == wanted
    variable = {"NNSLIM_MAX_PARAMS": "29"}
    assert gates(model, env=variable) == wanted | {"max-params": 29}
    assert gates(model, "--max-params", "31", env=variable) == wanted | {"max-params": 31}


def test_every_limit_can_stand_among_the_gates(here, model):
    values = {"latency_device": "'cuda'"}
    limits = [field.name for field in fields(Gates)]
    lines = [f"{name} = {values.get(name, 7)}" for name in limits]
    (here / "nnslim.toml").write_text("\n".join(["[eval.gates]", *lines]))
    with pytest.raises(ConfigError, match="--min-top1 needs images to measure on"):
        gates(model)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[eval.gates]\nmax_param = 1\n", r"\[eval.gates\] has no key max_param; .*max_params\?"),
        ("[eval.gates]\ndevice = 'cpu'\n", r"\[eval.gates\] has no key device"),
        ("[eval]\ngate = 1\n", r"\[eval\] has no key gate; did you mean gates"),
        ("[eval]\ngates = 1\n", r"eval.gates must be a table, written as \[eval.gates\]"),
        ("[eval.gates]\nmin_top1 = 'all'\n", r"\[eval.gates\] min_top1 = 'all': "),
        ("[eval.gates]\nmin_top1 = 101\n", r"\[eval.gates\] min_top1 = 101: "),
        (
            "[eval]\nmax_drop = 1\n[eval.gates]\nmax_drop = 1\n",
            r"max_drop stands in \[eval\] and in \[eval.gates\]; keep one",
        ),
        ("[prune.gates]\nmax_drop = 1\n", r"\[prune\] has no key gates"),
    ],
)
def test_wrong_gates_are_refused_and_name_file_and_key(here, model, text, message):
    path = here / "nnslim.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        gates(model)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2
