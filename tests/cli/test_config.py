"""Configuration files: who wins, and what is refused."""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from nnslim.cli.main import app as nnslim
from nnslim.errors import ConfigError, GateFailedError, InputError
from nnslim.measure import evaluation
from nnslim.settings.budget import Limit
from nnslim.settings.eval import Gates, LatencySettings
from nnslim.settings.option import AUTO
from tests.cli.parsing import parsed


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    folder = tmp_path / "project" / "deep"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return tmp_path / "project"


def epochs(*arguments, env=None):
    return parsed("prune", *arguments, env=env).config.training.epochs


def test_flag_beats_variable_beats_file_beats_default(here):
    assert epochs() is AUTO
    (here / "nnslim.toml").write_text("[prune]\nepochs = 20\n")
    assert epochs() == 20
    assert epochs(env={"NNSLIM_EPOCHS": "30"}) == 30
    assert epochs("--epochs", "40", env={"NNSLIM_EPOCHS": "30"}) == 40
    assert epochs("--set", "training.epochs=50", env={"NNSLIM_EPOCHS": "30"}) == 50


def test_flag_and_set_of_one_setting_are_refused():
    with pytest.raises(ConfigError, match=r"--epochs and --set training\.epochs say the same"):
        epochs("--epochs", "1", "--set", "training.epochs=1")


def test_every_kind_of_value_is_carried(here):
    (here / "nnslim.toml").write_text(
        "[prune]\nparams = 130_000\nlr = 1e-4\nkeep = ['a', 'b']\nkeep_streams = false\n"
        "[prune.latency]\nbatch_sizes = [1, 32]\n"
        "[prune.sparse.regularizer]\nname = 'group_lasso'\nstrength = 2\n"
        "[eval]\nbatch_size = [1, 32]\n"
    )
    said = parsed("prune").config
    assert said.limits == {"params": Limit(130_000, relative=False)}
    assert (said.training.lr, said.keep, said.keep_streams) == (1e-4, ("a", "b"), False)
    assert said.latency.batch_sizes == (1, 32)
    assert (said.sparse.regularizer.name, said.sparse.regularizer.strength) == ("group_lasso", 2)
    assert parsed("eval").config.batch_sizes == (1, 32)


def keep(*arguments):
    return parsed("prune", *arguments).config.keep


def test_one_value_for_a_repeatable_flag_is_a_list_of_one(here):
    (here / "nnslim.toml").write_text("[prune]\nkeep = 'conv1'\n")
    assert keep() == ("conv1",)


def test_flag_replaces_the_list_of_the_file(here):
    (here / "nnslim.toml").write_text("[prune]\nkeep = ['a', 'b']\n")
    assert keep("--keep", "c") == ("c",)
    assert keep("--set", "keep=c,d", "--set", "keep=e") == ("c", "d", "e")
    assert keep("--set", "keep=") == ()


def test_false_beats_file_and_variable(here):
    (here / "nnslim.toml").write_text("[prune]\nkeep_streams = true\nresume = true\n")
    variable = {"NNSLIM_KEEP_STREAMS": "1"}
    said = ("--set", "keep_streams=false", "--set", "resume=no")
    assert parsed("prune", *said, env=variable).config.keep_streams is False
    assert parsed("prune", *said).output.resume is False
    variable = {"NNSLIM_KEEP_STREAMS": "false"}
    assert parsed("prune", env=variable).config.keep_streams is False


def test_nearest_file_wins_and_a_pyproject_without_our_table_is_passed_by(here):
    (here / "pyproject.toml").write_text("[tool.nnslim.prune]\nepochs = 7\n")
    (here / "deep" / "pyproject.toml").write_text("[tool.ruff]\n")
    assert epochs() == 7
    (here / "deep" / "nnslim.toml").write_text("[prune]\nepochs = 8\n")
    assert epochs() == 8


def test_nnslim_toml_beats_pyproject_beside_it(here):
    (here / "pyproject.toml").write_text("[tool.nnslim.prune]\nepochs = 7\n")
    (here / "nnslim.toml").write_text("[prune]\nepochs = 8\n")
    assert epochs() == 8


@pytest.mark.parametrize("name", ["other.toml", "pyproject.toml"])
def test_named_file_replaces_the_nearest(here, name):
    (here / "nnslim.toml").write_text("[prune]\nepochs = 7\n")
    folder = here / "elsewhere"
    folder.mkdir()
    table = "tool.nnslim.prune" if name == "pyproject.toml" else "prune"
    (folder / name).write_text(f"[{table}]\nepochs = 9\n")
    assert epochs("--config", str(folder / name)) == 9
    assert epochs(env={"NNSLIM_CONFIG": str(folder / name)}) == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[prune]\nepoch = 1\n", r"\[prune\] epoch: there is no such .*; did you mean epochs\?"),
        ("[prune]\nbatch-size = 1\n", "batch-size: there is no .*; did you mean batch_size"),
        ("[prunc]\n", "there is no table prunc; did you mean prune"),
        ("epochs = 1\n", "there is no table epochs"),
        ("[eval]\nepochs = 1\n", r"\[eval\] epochs: there is no such setting"),
        ("prune = 1\n", "prune must be a table"),
        ("[prune]\ntraining = 1\n", r"training: must be a table, written as \[prune.training\]"),
        ("[prune]\nepochs = 'many'\n", r"\[prune\] epochs = many: must be a whole number or auto"),
        ("[prune]\nepochs = -1\n", r"\[prune\] epochs = -1: must be at least 0"),
        ("[prune.training]\nepochs = -1\n", r"\[prune.training\] epochs = -1: must be at least 0"),
        ("[prune]\nepochs = true\n", "must be not true or false"),
        ("[prune]\nepochs = [1, 2]\n", r"epochs = 1,2: must be a whole number"),
        ("[prune]\nepochs = {a = 1}\n", r"epochs = \{'a': 1\}: must not be a table"),
        ("[prune]\nresume = 1\n", "must be true or false"),
        ("[prune]\nresume = 'yes'\n", "must be true or false"),
        ("[prune]\ntrust_pickle = true\n", "only be given as the flag --trust-pickle"),
        ("[prune.model]\ntrust_pickle = true\n", "only be given as the flag --trust-pickle"),
        ("[prune]\nconfig = 'x'\n", "only be given as the flag --config"),
        (
            "[prune]\nepochs = 1\n[prune.training]\nepochs = 1\n",
            r"\[prune.training\] epochs and .*\[prune\] epochs say the same; keep one",
        ),
    ],
)
def test_wrong_file_is_refused_and_names_file_and_key(here, text, message):
    path = here / "nnslim.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        epochs()
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2


def test_value_that_is_out_of_its_range_is_refused_even_where_a_flag_goes_first(here):
    (here / "nnslim.toml").write_text("[prune]\nepochs = -1\n")
    with pytest.raises(ConfigError, match=r"\[prune\] epochs = -1"):
        epochs("--epochs", "3")


@pytest.mark.parametrize("command", ["prune", "eval"])
def test_mistake_in_another_commands_table_is_found_too(here, command):
    (here / "nnslim.toml").write_text("[prune]\nepoch = 1\n")
    with pytest.raises(ConfigError, match=r"\[prune\] epoch: "):
        parsed(command)


@pytest.mark.parametrize("content", [b"[prune\n", b"\xff\xfe", None])
def test_unreadable_file_is_refused(here, content):
    path = here / "named.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"named\.toml"):
        epochs("--config", str(path))


def test_no_variable_makes_a_pickle_trusted():
    variables = {"NNSLIM_TRUST_PICKLE": "1", "NNSLIM_MODEL_TRUST_PICKLE": "1"}
    assert parsed("prune", env=variables).model.trust_pickle is False
    assert parsed("prune", "--trust-pickle").model.trust_pickle is True


@pytest.mark.parametrize(
    ("arguments", "env", "message"),
    [
        (["--lr", "-1"], {}, "^--lr -1: must be above 0 and at most 1e.06$"),
        ([], {"NNSLIM_LR": "-1"}, "^NNSLIM_LR=-1: must be above 0"),
        (["--set", "training.lr=-1"], {}, "^--set training.lr=-1: must be above 0"),
        (["--set", "lr=-1"], {}, "^--set training.lr=-1: must be above 0"),
        (["--set", "training.lr"], {}, "^--set training.lr: expected NAME=VALUE"),
        (["--params", "half"], {}, "^--params half: neither a share nor a number"),
        (["--set", "params=half"], {}, "^--set params=half: neither a share nor a number"),
    ],
)
def test_wrong_value_is_named_as_it_was_written(arguments, env, message):
    with pytest.raises(ConfigError, match=message):
        epochs(*arguments, env=env)


def test_help_works_beside_a_broken_file(here):
    (here / "nnslim.toml").write_text("[prune\n")
    assert "--epochs" in CliRunner().invoke(nnslim, ["prune", "--help"]).stdout


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
    with pytest.raises(ConfigError, match=r"\[eval.gates\] min_top1 needs images to measure on"):
        gates(model)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[eval.gates]\nmax_param = 1\n",
            r"\[eval.gates\] max_param: there is no such setting; .*max_params\?",
        ),
        ("[eval.gates]\ndevice = 'cpu'\n", r"\[eval.gates\] device: there is no such setting"),
        ("[eval]\ngate = 1\n", r"\[eval\] gate: there is no such setting; did you mean gates"),
        ("[eval]\ngates = 1\n", r"\[eval\] gates: must be a table, written as \[eval.gates\]"),
        ("[eval.gates]\nmin_top1 = 'all'\n", r"\[eval.gates\] min_top1 = all: must be a number"),
        ("[eval.gates]\nmin_top1 = 101\n", r"\[eval.gates\] min_top1 = 101: .* at most 100"),
        (
            "[eval]\nmax_drop = 1\n[eval.gates]\nmax_drop = 1\n",
            r"\[eval.gates\] max_drop and .*\[eval\] max_drop say the same; keep one",
        ),
        ("[prune.gates]\nmax_drop = 1\n", r"\[prune\] gates: there is no such setting"),
    ],
)
def test_wrong_gates_are_refused_and_name_file_and_key(here, model, text, message):
    path = here / "nnslim.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        gates(model)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2
