"""The commands on small networks: what they write, refuse and exit with."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from nnslim.artifact import load_network, save_network
from nnslim.cli.main import app
from nnslim.data import load_data
from nnslim.data.preprocess import Preprocess
from nnslim.errors import ConfigError, DeviceError, GateFailedError, InputError, NnslimError
from nnslim.measure import evaluation
from nnslim.measure.latency import measure_latency
from nnslim.models.opening import chosen_preprocess, open_model
from nnslim.network import trace_network
from nnslim.onnx import export_onnx
from nnslim.pruning import (
    LatencyBudget,
    LatencyConfig,
    Limit,
    PruneConfig,
    RegularizerConfig,
    RoundConfig,
    SaliencyConfig,
    SparseConfig,
)
from nnslim.pruning.report import config_json
from nnslim.run.device import training_device
from nnslim.settings.eval import LatencySettings
from nnslim.settings.inputs import DeviceSettings, ModelSettings, PreprocessSettings
from nnslim.settings.resolve import resolved
from nnslim.sink import SILENT
from nnslim.train import TrainConfig
from tests.cli.parsing import parsed

GRAY = Preprocess(size=(8, 8), mean=(0.5,), std=(0.25,))


class _Net(nn.Module):
    def __init__(self, channels=1):
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 10)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).relu().mean((2, 3)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A network as nnslim stores it, and as ONNX: made once."""
    torch.manual_seed(0)
    network = trace_network(_Net(), torch.zeros(2, 1, 8, 8))
    network.preprocess = GRAY
    folder = tmp_path_factory.mktemp("made")
    save_network(network, folder / "net.safetensors")
    export_onnx(network, folder / "net.onnx")
    return folder


@pytest.fixture
def stored(made, tmp_path, monkeypatch):
    """A file that nnslim wrote, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copy(made / "net.safetensors", tmp_path))


@pytest.fixture
def exported(made, tmp_path):
    return Path(shutil.copy(made / "net.onnx", tmp_path))


def set_(*assignments):
    return [text for assignment in assignments for text in ("--set", assignment)]


def run(*arguments, expect=None):
    """Run a command; return its stdout and stderr, or the error that it ended with."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if expect is not None:
        assert isinstance(done.exception, expect), (done.exception, done.output)
        return done.stdout, done.exception
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


class TestExport:
    def test_file_stands_beside_the_model_and_says_how_images_become_inputs(self, stored):
        out, err = run("export", stored, "--onnx", "--json")
        document = json.loads(out)
        assert document["schema"] == "nnslim.export/1"
        assert Path(document["path"]) == stored.with_suffix(".onnx")
        properties = {p.key: p.value for p in onnx.load(document["path"]).metadata_props}
        assert Preprocess.from_json(json.loads(properties["nnslim.preprocess"])) == GRAY
        assert "8 x 8 pixels, mean 0.5, std 0.25 (the file)" in err

    def test_batch_opset_and_place_are_the_users(self, stored, tmp_path):
        run("export", stored, "--onnx", "-o", tmp_path / "b.onnx", "--batch", 3, "--opset", 19)
        model = onnx.load(tmp_path / "b.onnx")
        assert model.opset_import[0].version == 19
        assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 3

    def test_existing_file_is_kept_unless_said_otherwise(self, stored, tmp_path):
        target = tmp_path / "x.onnx"
        target.write_bytes(b"precious")
        run("export", stored, "--onnx", "-o", target, expect=ConfigError)
        assert target.read_bytes() == b"precious"
        run("export", stored, "--onnx", "-o", target, "--overwrite")
        onnx.checker.check_model(target)

    def test_unknown_preprocessing_is_a_warning_and_flags_settle_it(self, tmp_path):
        path = tmp_path / "bare.safetensors"
        save_network(trace_network(_Net(), torch.zeros(2, 1, 8, 8)), path)
        _, err = run("export", path, "--onnx", "-o", tmp_path / "a.onnx")
        assert "warning: the file will not say how an image becomes an input" in err
        _, err = run(
            "export", path, "--onnx", "-o", tmp_path / "b.onnx", "--mean", 0.1, "--std", 0.2
        )
        assert "warning" not in err
        assert "mean 0.1, std 0.2 (as given)" in err

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            (["net.onnx", "--onnx"], ConfigError),
            (["--onnx"], ConfigError),
            (["none.safetensors", "--onnx"], InputError),
            (["net.safetensors", "--onnx", "--batch", "0"], ConfigError),
            (["net.safetensors", "--onnx", "--batch", "50%"], ConfigError),
            (["net.safetensors", "--onnx", "--opset", "3"], ConfigError),
            (["net.safetensors", "--onnx", "--mean", "0.5,0.5", "--std", "1,1"], InputError),
            (["net.safetensors", "--onnx", "--arch", "cifar_resnet20"], ConfigError),
        ],
    )
    def test_what_cannot_be_is_refused_and_nothing_is_left(self, stored, arguments, error):
        _, raised = run("export", *arguments, expect=error)
        assert raised.exit_code == 2
        assert [path.name for path in stored.parent.iterdir()] == [stored.name]


class TestEval:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch):
        """Time one call instead of seconds of them."""
        settings = LatencySettings(
            warmup_runs=0, warmup_s=0.0, rounds=1, calls_per_round=1, min_s=0.0, max_s=0.0
        )
        monkeypatch.setattr(
            evaluation, "measure_latency", lambda runs, _: measure_latency(runs, settings)
        )

    def test_network_and_its_export_measure_the_same(self, stored, exported):
        out, _ = run(
            "eval", stored, exported, "--data", "digits", "--device", "cpu",
            "--batch-size", "1,4", "--json",
        )  # fmt: skip
        document = json.loads(out)
        first, second = document["files"]
        assert document["schema"] == "nnslim.eval/1"
        assert first["top1_pct"] == second["top1_pct"]
        assert first["n_parameters"] == sum(t.numel() for t in load_network(stored).parameters())
        assert [entry["batch_size"] for entry in first["latency"]] == [1, 4]
        assert (first["provider_requested"], first["provider_used"]) == (
            "CPUExecutionProvider",
        ) * 2

    def test_table_has_a_row_per_file(self, exported):
        out, _ = run("eval", exported, "--data", "digits", "--device", "cpu", "-q")
        lines = out.splitlines()
        assert lines[0].startswith("onnxruntime, digits, ")
        assert [line.split()[0] for line in lines[1:]] == ["file", lines[2].strip(), exported.name]

    def test_gate_that_fails_exits_1_after_the_result(self, exported):
        arguments = ("eval", exported, "--data", "digits", "--device", "cpu")
        out, raised = run(
            *arguments, "--max-params", 20, "--min-top1", 0, "--json", expect=GateFailedError
        )
        assert raised.exit_code == 1
        assert "1 of 2 gates failed" in raised.message
        assert {gate["gate"]: gate["status"] for gate in json.loads(out)["gates"]} == {
            "min-top1": "pass",
            "max-params": "fail",
        }
        run(*arguments, "--max-params", "20k", "--min-top1", 0)

    def test_baseline_is_measured_and_not_gated(self, exported, tmp_path):
        big = Path(shutil.copy(exported, tmp_path / "big.onnx"))
        arguments = ("--max-params", "1k", "--json", "--device", "cpu")
        samples = ("--set", "paired.budget_s=1")
        samples += ("--set", f"reports.samples={tmp_path / 'samples.npz'}")
        document = json.loads(run("eval", exported, "--baseline", big, *arguments, *samples)[0])
        (found,) = document["files"][0]["against_baseline"]["latency"]
        with np.load(tmp_path / "samples.npz") as table:
            assert set(table["clock"]) == {"compute", "e2e", "baseline", "paired", "control"}
            assert np.sum(table["clock"] == "paired") * 2 == found["n_calls"]
        assert [entry["baseline"] for entry in document["files"]] == [False, True]
        assert [gate["path"] for gate in document["gates"]] == [str(exported)]

    @pytest.mark.parametrize(
        ("arguments", "error", "code"),
        [
            (["net.safetensors", "--min-top1", "50"], ConfigError, 2),
            (["net.safetensors", "--batch-size", "0"], ConfigError, 2),
            (["net.safetensors", "--max-params", "50%"], ConfigError, 2),
            (["none.onnx"], InputError, 2),
            (["net.safetensors", "--data", "nowhere"], InputError, 2),
            (["net.safetensors", "--device", "tpu"], ConfigError, 2),
            (["net.safetensors", "--device", "cpu", "--require-gpu"], ConfigError, 2),
        ],
    )
    def test_what_cannot_be_is_refused(self, stored, arguments, error, code):
        out, raised = run("eval", *arguments, expect=error)
        assert (out, raised.exit_code) == ("", code)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
    @pytest.mark.parametrize("flags", [["--device", "cuda"], ["--require-gpu"]])
    def test_gpu_that_is_not_there_exits_3(self, exported, flags):
        _, raised = run("eval", exported, *flags, expect=DeviceError)
        assert raised.exit_code == 3


# What the profiles are, in numbers: `resolved` must not be asked what it should have said.
TUNED = {"lr": 0.05, "optimizer": "sgd", "compile": "auto"}
BALANCED = PruneConfig(
    limits={"params": Limit(0.5, relative=True)},
    saliency=SaliencyConfig("jacobian", 512),
    keep_streams=False,
    allocation="global",
    per_cost=True,
    sparse=SparseConfig(0),
    rounds=RoundConfig(1, 1),
    refit_images=0,
    recalibrate_batches=50,
    training=TrainConfig(epochs=13, distill_weight=0.5, **TUNED),
)
BEST = replace(
    BALANCED,
    profile="best",
    saliency=SaliencyConfig("magnitude", 512),
    keep_streams=True,
    allocation="even",
    per_cost=False,
    training=TrainConfig(epochs=30, distill_weight=0.9, **TUNED),
)
PENALTY = RegularizerConfig("group_lasso")


def trained(config, **changes):
    return replace(config, training=replace(config.training, **changes))


class TestPrune:
    @pytest.mark.parametrize(
        ("flags", "expected"),
        [
            (["--data", "d"], BALANCED),
            (
                ["--data", "d", "--macs", "20M"],
                replace(BALANCED, limits={"macs": Limit(20e6, False)}),
            ),
            (["--data", "d", "--keep", "a", "--keep", "b"], replace(BALANCED, keep=("a", "b"))),
            (["--data", "d", "--set", "keep_streams=true"], replace(BALANCED, keep_streams=True)),
            (
                ["--data", "d", "--regularizer", "group_lasso"],
                replace(BALANCED, sparse=SparseConfig(2, regularizer=PENALTY)),
            ),
            (
                ["--data", "d", "--regularizer", "group_lasso", "--sparse-epochs", "0"],
                replace(BALANCED, sparse=SparseConfig(0, regularizer=PENALTY)),
            ),
            (
                ["--data", "d", *set_("training.distill_weight=0.7", "training.temperature=2")],
                trained(BALANCED, distill_weight=0.7, temperature=2.0),
            ),
            (
                ["--data", "d", *set_("training.distill_weight=0")],
                trained(BALANCED, distill_weight=0.0),
            ),
            (
                ["--data", "d", "--latency", "1.5ms", "--align", "auto", *set_("rounds.count=1")],
                replace(
                    BALANCED,
                    limits={},
                    align="auto",
                    latency=LatencyConfig(LatencyBudget(1.5, relative=False)),
                ),
            ),
            (
                ["--data", "d", "--profile", "best"],
                BEST,
            ),
            (
                [
                    "--data",
                    "d",
                    "--profile",
                    "best",
                    *set_("allocation=global"),
                    *set_("training.distill_weight=0"),
                ],
                trained(replace(BEST, allocation="global"), distill_weight=0.0),
            ),
            (
                [
                    "--data",
                    "d",
                    "--profile",
                    "best",
                    *set_("keep_streams=no"),
                    "--saliency",
                    "loss",
                ],
                replace(
                    BEST, keep_streams=False, saliency=SaliencyConfig("loss", 512), per_cost=True
                ),
            ),
            (
                ["--profile", "best"],
                replace(
                    BEST,
                    keep_streams=False,
                    allocation="global",
                    rounds=RoundConfig(1, 0),
                    recalibrate_batches=0,
                    training=TrainConfig(epochs=0, distill_weight=0.9, **TUNED),
                ),
            ),
            (
                ["--data", "d", "--profile", "fast", "--size", "2M", *set_("training.ema=0.99")],
                replace(
                    BALANCED,
                    profile="fast",
                    limits={"size": Limit(2e6, False)},
                    rounds=RoundConfig(1, 0),
                    training=TrainConfig(epochs=3, distill_weight=0.5, ema=0.99, **TUNED),
                ),
            ),
        ],
    )
    def test_flags_that_are_not_given_leave_the_librarys_defaults(self, flags, expected):
        said = parsed("prune", *flags)
        assert resolved(said.config, said.data.source is not None) == expected

    def test_plan_is_shown_and_nothing_is_written(self, stored):
        out, _ = run("prune", stored, "--params", "60%", "--dry-run")
        assert out.splitlines()[0] == "Channel groups"
        assert "network output" in out
        assert [path.name for path in stored.parent.iterdir()] == [stored.name]

    def test_run_without_data_says_what_was_not_done(self, stored, tmp_path):
        out, err = run("prune", stored, "--params", "60%", "-o", "slim", "--json")
        report = json.loads(out)
        assert report["schema"] == "nnslim.prune/2"
        assert report["after"]["params"] <= 0.6 * report["before"]["params"]
        assert report["check"]["error"] <= 1e-9
        assert "warning: no data: accuracy was neither measured nor recovered" in err
        assert (
            load_network(tmp_path / "slim" / "model.safetensors").n_parameters
            == (report["after"]["params"])
        )

    def test_run_on_images_measures_trains_and_prints_where_the_files_are(self, stored, tmp_path):
        flags = [
            *("--params", "60%", "--epochs", "1", "--batch-size", "50", "--sparse-epochs", "1"),
            *set_("saliency.samples=16", "data.subset=200", "rounds.count=2", "rounds.epochs=1"),
            *set_("training.momentum=0.8"),
        ]
        out, err = run("prune", stored, "--data", "digits", *flags, "-o", "slim")
        assert "Accuracy on 360 images" in out
        assert out.splitlines()[-1] == "wrote slim"
        assert "images of 8 x 8 pixels, mean 0.5, std 0.25 (the file)" in err
        report = json.loads((tmp_path / "slim" / "report.json").read_text())
        said = parsed("prune", "--data", "digits", *flags).config
        assert report["settings"] == json.loads(json.dumps(config_json(resolved(said))))
        assert report["settings"]["training"]["momentum"] == 0.8
        stages = [epoch["stage"] for epoch in report["training"]]
        assert stages == ["sparse", "recovered 1", "tuned"]
        assert report["latency"][0]["parent_ms"] > 0
        assert report["onnx"]["top1_pct"] == report["after"]["top1_pct"]

    def test_without_validation_all_images_train_and_the_test_images_measure(self, stored):
        out, err = run(
            "prune", stored, "--data", "digits", *set_("data.validation=0"), "--epochs", "1",
            "--saliency", "magnitude", "--params", "60%", "-o", "slim", "--json",
        )  # fmt: skip
        report = json.loads(out)
        sizes = {name: report["data"][name] for name in ("train", "val", "test")}
        assert sizes == {"train": 1437, "val": 0, "test": 360}
        assert "digits: val: no image validates, all are trained on" in err
        assert [epoch["val_top1_pct"] for epoch in report["training"]] == [None]

    @pytest.mark.parametrize(
        ("flags", "said"),
        [
            (["--sparse-epochs", "2"], "--sparse-epochs 2: there are no images to train on"),
            (set_("rounds.count=2"), "=2: without images there is nothing to recover with"),
            (["--max-drop", "1"], "--max-drop is judged on validation images"),
            (
                ["--max-drop", "1", *set_("rounds.count=3")],
                "rounds.count=3: --max-drop takes as many rounds as it needs",
            ),
            (set_("sparse.regularizer.strength=2"), "strength=2: fading has none"),
            (["--max-drop", "1", "--params", "50%", "--data", "digits"], "--params says how far"),
            (
                ["--max-drop", "1", "--data", "digits", *set_("data.validation=0")],
                "judged on validation",
            ),
            (set_("data.validation=0"), "--set data.validation=0: there are no images"),
            (["--latency", "60"], "--latency 60: not a latency"),
            (
                ["--latency", "60%", *set_("rounds.count=2"), "--data", "digits"],
                "--latency is met in one round",
            ),
            (["--align", "0"], "--align 0: must be at least 1"),
            (["--align", "none"], "--align none: must be a whole number or auto"),
            (["--regularizer", "lasso", "--data", "digits"], "--regularizer lasso: must be fading"),
            (
                [*set_("sparse.regularizer.strength=hard"), "--regularizer", "group_lasso"],
                "--set sparse.regularizer.strength=hard: must be a number or auto",
            ),
            (
                [*set_("sparse.focus=false"), "--sparse-epochs", "2", "--data", "digits"],
                "fading needs to know which channels will go",
            ),
        ],
    )
    def test_flags_that_contradict_each_other_are_refused(self, stored, flags, said):
        _, raised = run("prune", stored, *flags, expect=ConfigError)
        assert said in raised.message

    def test_epochs_without_images_are_refused(self, stored):
        _, raised = run("prune", stored, "--epochs", 3, expect=ConfigError)
        assert "no images to train on" in raised.message


class TestInputs:
    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (PreprocessSettings(), None),
            (PreprocessSettings((16, 16)), Preprocess((16, 16), (0.5,), (0.25,))),
            (PreprocessSettings((8, 4), (0.1,), (1.0,)), Preprocess((8, 4), (0.1,), (1.0,))),
            (PreprocessSettings(std=(1.0,)), Preprocess((8, 8), (0.5,), (1.0,))),
        ],
    )
    def test_what_is_given_goes_over_what_is_known(self, given, said):
        assert chosen_preprocess(given, GRAY) == said

    def test_flags_are_read_as_pixels_and_numbers(self):
        said = parsed("eval", "--input-size", "8x4", "--mean", "0.1", "--std", "1").preprocess
        assert said == PreprocessSettings((8, 4), (0.1,), (1.0,))
        assert parsed("eval", "--input-size", "16").preprocess.input_size == (16, 16)

    def test_scaling_before_the_crop_keeps_its_proportion(self):
        imagenet = Preprocess((224, 224), (0.5,), (0.5,), resize=256)
        said = chosen_preprocess(PreprocessSettings((112, 112)), imagenet)
        assert (said.size, said.resize) == ((112, 112), 128)

    @pytest.mark.parametrize(
        "given", [PreprocessSettings((8, 8)), PreprocessSettings((8, 8), mean=(0.5,))]
    )
    def test_incomplete_flags_without_a_default_are_refused(self, given):
        with pytest.raises(ConfigError, match="incomplete"):
            chosen_preprocess(given, None)

    def test_file_beats_data_and_flags_beat_both(self, stored):
        data, model = load_data("digits"), ModelSettings()
        opened = open_model(stored, model, PreprocessSettings(), data, SILENT)
        assert opened.network.preprocess == GRAY
        given = PreprocessSettings(mean=(0.1,), std=(0.3,))
        said = open_model(stored, model, given, data, SILENT).network.preprocess
        assert (said.mean, said.std) == ((0.1,), (0.3,))

    def test_bare_weights_take_the_size_and_the_default_of_the_data(self, tmp_path):
        from nnslim.models import architecture

        data, path = load_data("digits"), tmp_path / "w.safetensors"
        save_file(architecture("cifar_resnet20").make({"in_channels": 1}).state_dict(), path)
        opened = open_model(path, ModelSettings(), PreprocessSettings(), data, SILENT)
        assert opened.network.preprocess == data.preprocess
        assert opened.network.input_shape[1:] == data.preprocess.size

    def test_images_of_another_kind_are_refused(self, tmp_path):
        path = tmp_path / "colour.safetensors"
        save_network(trace_network(_Net(channels=3), torch.zeros(2, 3, 8, 8)), path)
        with pytest.raises(InputError, match="3 channels, but the preprocessing has 1"):
            open_model(path, ModelSettings(), PreprocessSettings(), load_data("digits"), SILENT)

    @pytest.mark.parametrize(
        ("n_gpus", "name", "require", "expected"),
        [
            (0, "auto", False, "cpu"),
            (0, "cpu", False, "cpu"),
            (2, "auto", False, "cuda:0"),
            (2, "auto", True, "cuda:0"),
            (2, "cuda", False, "cuda:0"),
            (2, "cuda:1", True, "cuda:1"),
            (0, "auto", True, DeviceError),
            (0, "cuda", False, DeviceError),
            (2, "cuda:2", False, DeviceError),
            (2, "cpu", True, ConfigError),
            (2, "gpu", False, ConfigError),
        ],
    )
    def test_training_device(self, monkeypatch, n_gpus, name, require, expected):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
        if isinstance(expected, str):
            assert training_device(DeviceSettings(name, require_gpu=require)) == torch.device(
                expected
            )
        else:
            with pytest.raises(NnslimError) as caught:
                training_device(DeviceSettings(name, require_gpu=require))
            assert type(caught.value) is expected


@pytest.fixture(scope="module")
def grown(made, tmp_path_factory):
    """A growing run of one round, with the tiny network as the teacher."""
    out = tmp_path_factory.mktemp("grown") / "run"
    arguments = ["--data", "digits", "--params", "90%", "--where", "group"]
    seed = set_("data.subset=128", "seed_network.width=2", "seed_network.epochs=1")
    quick = [*seed, "--epochs", "1", "--rounds", "1", "--batch-size", "32"]
    flags = ["--teacher", str(made / "net.safetensors"), *arguments, *quick, "-o", str(out)]
    result = CliRunner().invoke(app, ["grow", *flags], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return out, result, flags


def test_grow_writes_a_directory_that_the_other_commands_take(grown, tmp_path):
    out, result, flags = grown
    names = {path.name for path in out.iterdir()}
    assert {"model.safetensors", "model.onnx", "report.json", "report.html", "README.md"} <= names
    report = json.loads((out / "report.json").read_text())
    schema = files("nnslim.report").joinpath("grow.schema.json").read_text(encoding="utf-8")
    jsonschema.Draft202012Validator(json.loads(schema)).validate(report)
    said = resolved(parsed("grow", *flags).config)
    assert report["settings"] == json.loads(json.dumps(asdict(said)))
    assert report["settings"]["seed_network"]["epochs"] == 1
    assert [own["round"] for own in report["rounds"]] == [1]
    assert report["rounds"][0]["group"] == "conv"
    assert report["after"]["params"] <= 0.9 * report["teacher"]["params"]
    assert "rounds, on the validation images" in result.stdout
    assert "growing ended: 1 rounds were asked for" in result.stdout
    page = (out / "report.html").read_text()
    assert "Channels over the rounds" in page
    assert "planted in round 1" in page
    onnx_file = tmp_path / "again.onnx"
    exported = CliRunner().invoke(app, ["export", str(out), "--onnx", "-o", str(onnx_file)])
    assert exported.exit_code == 0
    again = CliRunner().invoke(app, ["export", str(out), "--onnx"], catch_exceptions=True)
    assert f"{out / 'model.onnx'} exists" in str(again.exception)
    judged = CliRunner().invoke(app, ["eval", str(out), "--data", "digits", "--json"])
    assert judged.exit_code == 0, judged.output
    assert json.loads(judged.stdout)["files"][0]["path"].endswith("model.safetensors")
    pruned = CliRunner().invoke(
        app, ["prune", str(out), "--params", "80%", "-o", str(tmp_path / "p")]
    )
    assert pruned.exit_code == 0, pruned.output
    history = load_network(tmp_path / "p" / "model.safetensors").history
    assert [entry["step"] for entry in history] == ["grow", "prune"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "digits"], "growing needs a teacher"),
        (["--teacher", "{net}"], "growing needs images"),
        (["--teacher", "{net}", "--data", "digits", "--params", "1%"], "nothing can be planted"),
        (["--teacher", "{net}", "--data", "digits", *set_("seed_network.share=4")], "not a share"),
        (
            [
                *("--teacher", "{net}", "--data", "digits"),
                *set_("seed_network.share=40%", "seed_network.width=2"),
            ],
            "--set seed_network.width and --set seed_network.share say the same",
        ),
        (
            ["--teacher", "{net}", "--data", "digits", "--candidates", "0"],
            "--candidates 0: must be a whole number of at least 1",
        ),
        (
            ["{odd}", "--teacher", "{net}", "--data", "digits"],
            r"name the network.* with --set seed_model\.arch",
        ),
        (
            ["--teacher", "{net}", "--data", "digits", *set_("data.validation=0")],
            "judges candidates on validation images",
        ),
    ],
)
def test_grow_refuses_in_one_sentence(made, tmp_path, arguments, message):
    odd = tmp_path / "odd.safetensors"
    save_file({"odd.weight": torch.zeros(3, 3)}, odd)
    given = [entry.format(net=made / "net.safetensors", odd=odd) for entry in arguments]
    with pytest.raises(NnslimError, match=message):
        CliRunner().invoke(
            app,
            ["grow", *given, *set_("seed_network.epochs=0"), "-o", str(tmp_path / "o")],
            catch_exceptions=False,
        )
    assert not (tmp_path / "o").exists()
