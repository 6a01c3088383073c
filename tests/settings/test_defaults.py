"""What a command does without flags is what the library does without arguments."""

from __future__ import annotations

import pytest

from nnslim.settings.commands import settings_by_command
from nnslim.settings.eval import EvalSettings
from nnslim.settings.export import ExportSettings
from nnslim.settings.grow import GrowConfig
from nnslim.settings.prune import PruneConfig
from nnslim.settings.resolve import resolved
from nnslim.settings.tree import settings_of, value_at
from tests.cli.parsing import parsed

CONFIGS = {
    "prune": PruneConfig,
    "grow": GrowConfig,
    "eval": EvalSettings,
    "export": ExportSettings,
}


@pytest.mark.parametrize(("command", "config"), CONFIGS.items())
def test_a_command_without_flags_has_the_librarys_defaults(command, config):
    said, default = parsed(command).config, config()
    different = {
        setting.path: (value_at(said, setting.path), value_at(default, setting.path))
        for setting in settings_of(config)
        if value_at(said, setting.path) != value_at(default, setting.path)
    }
    assert different == {}
    assert said == default  # with what no setting reaches


@pytest.mark.parametrize("config", [PruneConfig, GrowConfig])
@pytest.mark.parametrize("has_images", [True, False])
def test_so_has_it_once_everything_is_decided(config, has_images):
    command = "prune" if config is PruneConfig else "grow"
    assert resolved(parsed(command).config, has_images) == resolved(config(), has_images)


def test_decided_defaults_are_the_measured_ones():
    """The figures that issue 28 names: a change of them is a change of results."""
    prune, grow = resolved(PruneConfig()), resolved(GrowConfig())
    assert (prune.saliency.kind, prune.saliency.samples) == ("jacobian", 512)
    assert (prune.training.epochs, prune.training.lr, prune.training.optimizer) == (13, 0.05, "sgd")
    assert (prune.rounds.count, prune.sparse.epochs, prune.refit_images) == (1, 0, 0)
    assert str(prune.limits["params"]) == "50%"
    assert (grow.where, grow.init, grow.training.epochs) == ("everywhere", "teacher", 15)
    assert (grow.training.lr, grow.training.optimizer) == (0.1, "sgd")
    assert str(grow.limits["params"]) == "20%"
    by_layer = resolved(GrowConfig(where="group")).training
    assert (by_layer.epochs, by_layer.lr, by_layer.optimizer) == (2, 0.03, "adamw")


def test_no_two_settings_of_a_command_share_a_name():
    for command, cls in settings_by_command().items():
        settings = list(settings_of(cls))
        names = [{own.path, own.key} for own in settings]
        assert sum(map(len, names)) == len(set().union(*names)), command
        variables = [own.key.replace(".", "_").upper() for own in settings]
        assert len(variables) == len(set(variables)), command
