"""One run in two processes: ``python -m tests.pruning.test_processes DIR`` is what is launched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from nnslim.errors import ConfigError, NnslimError
from nnslim.processes import (
    barrier,
    broadcast,
    broadcast_tensors,
    by_main,
    connected,
    from_main,
    is_main,
    local_device,
    rank,
    same_everywhere,
    share_of,
    sum_,
    world_size,
)
from nnslim.train import Callbacks, Checkpoints, TrainConfig, fit
from nnslim.train.checkpoint import CheckpointStore
from tests.train.toys import CPU, Batches, Ridge, assert_same_bits, separable_batches, toy_net

CONFIG = TrainConfig(epochs=4, lr=0.05, ema=0.9, grad_clip=1.0)


class StopHereError(Exception):
    """Raised in every process in place of a crash."""


def smooth_net():
    """Nothing in it looks at other images of the batch, and nothing is random."""
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 6, 3), nn.GroupNorm(2, 6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 3)
    return nn.Sequential(*layers)


def batches(stop_at_epoch=None):
    """Four batches of 16 images and one of 7, which two processes cannot share evenly."""
    images, labels = separable_batches(n_batches=1, seed=3)[0]
    loader = Batches([*separable_batches(), (images[:7], labels[:7])])
    if stop_at_epoch is not None:

        def set_epoch(epoch):
            if epoch == stop_at_epoch:
                raise StopHereError

        loader.set_epoch = set_epoch
    return loader


def run(network, directory=None, loader=None, penalty=None, on_event=None):
    return fit(
        network,
        batches() if loader is None else loader,
        CONFIG,
        device=CPU,
        teacher=smooth_net(),
        callbacks=Callbacks(lambda network: float(rank()), on_event),
        checkpoints=Checkpoints(directory),
        gradient_penalty=penalty or Ridge(0.1, memory=0.2),
    )


class PartialPenalty(Ridge):
    """Decides differently in every process."""

    def add_(self, network, step, steps):
        network[0].weight.grad.add_(float(rank()))


def error_of(function):
    try:
        function()
    except NnslimError as error:
        return str(error)
    return None


def failing():
    raise ConfigError("no room", hint="make some")


def child(place):
    """What every process does; each leaves a file of its weights and one of its findings."""
    torch.set_num_threads(1)
    found, saved, events = {}, [], []
    save = CheckpointStore.save
    CheckpointStore.save = lambda store, checkpoint: saved.append(1) or save(store, checkpoint)
    with connected(CPU):
        number = rank()
        whole = {"smooth": smooth_net(), "normed": toy_net(dropout=0.3, seed=number)}
        for name, network in whole.items():
            result = run(network, on_event=events.append if name == "smooth" else None)
            found[name] = [[r.loss, r.train_top1, r.val_top1] for r in result.history]
        resumed = toy_net(dropout=0.3, seed=number)
        try:
            run(toy_net(dropout=0.3, seed=number), place / "run", batches(stop_at_epoch=2))
        except StopHereError:
            found["resumed_from"] = run(resumed, place / "run").resumed_from
        found["same after resume"] = all(
            torch.equal(value, whole["normed"].state_dict()[name])
            for name, value in resumed.state_dict().items()
        )
        found |= {"saved": len(saved), "events": len(events), "world": world_size()}
        found["failed"] = error_of(lambda: by_main(failing))
        found["decided"] = from_main(lambda: number + 5)
        found["plan"] = broadcast({"conv1": list(range(number, number + 3)), "né": None})
        found["scores"] = broadcast_tensors(
            {"a": torch.full((2, 3), float(number)), "n": torch.tensor(number)} if is_main() else {}
        )["a"].tolist()
        total = torch.tensor([1.0, number])
        sum_([total, torch.tensor(number)])
        found["total"] = total.tolist()
        found["share"] = share_of(torch.arange(7)).tolist()
        found["same"] = [same_everywhere("x"), same_everywhere(str(number))]
        found["diverged"] = error_of(lambda: run(smooth_net(), penalty=PartialPenalty(0.0)))
        tiny = Batches([(torch.zeros(1, 2, 6, 6), torch.zeros(1, dtype=torch.int64))])
        found["tiny"] = error_of(lambda: run(smooth_net(), loader=tiny))
        barrier()
    tensors = {f"{k}.{n}": t.clone() for k, v in whole.items() for n, t in v.state_dict().items()}
    save_file(tensors, place / f"{number}.safetensors")
    (place / f"{number}.json").write_text(json.dumps(found))


LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    # With --cpu it starts several processes through MPI only; ours train on the CPU all the same.
    "accelerate": ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"],
}


def launch(launcher, place):
    command = [sys.executable, "-m", *LAUNCHERS[launcher], "-m", __spec__.name, str(place)]
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=250,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    states = [load_file(place / f"{number}.safetensors") for number in (0, 1)]
    return states, [json.loads((place / f"{number}.json").read_text()) for number in (0, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_train_one_network(tmp_path, launcher):
    states, (main, other) = launch(launcher, tmp_path)
    assert main["world"] == other["world"] == 2
    assert_same_bits(*states)

    alone = smooth_net()
    result = run(alone)
    history = [[record.loss, record.train_top1, 0.0] for record in result.history]
    assert main["smooth"] == other["smooth"] == [pytest.approx(row, rel=1e-4) for row in history]
    for name, value in alone.state_dict().items():
        ours = states[0][f"smooth.{name}"]
        torch.testing.assert_close(ours, value, rtol=1e-4, atol=1e-5, msg=name)

    # Batch norm takes its statistics from half the images: close, and the same everywhere.
    normed = toy_net(dropout=0.3)
    losses = [record.loss for record in run(normed).history]
    assert [row[0] for row in main["normed"]] == pytest.approx(losses, rel=0.25)
    assert main["normed"][-1][0] < 0.9 * main["normed"][0][0]

    assert main["resumed_from"] == other["resumed_from"] == 2
    assert main["same after resume"]
    assert other["same after resume"]
    assert (main["saved"], other["saved"]) == (4, 0)
    assert (main["events"], other["events"]) == (1 + 4 * 6, 0)

    assert main["plan"] == other["plan"] == {"conv1": [0, 1, 2], "né": None}
    assert main["scores"] == other["scores"] == [[0.0] * 3] * 2
    assert main["total"] == other["total"] == [2.0, 1.0]
    assert main["failed"] == other["failed"] == "no room; make some"
    assert main["decided"] == other["decided"] == 5
    assert (main["share"], other["share"]) == ([0, 1, 2, 3], [4, 5, 6])
    assert main["same"] == other["same"] == [True, False]
    for found in (main, other):
        assert "the processes hold different weights after epoch 1" in found["diverged"]
        assert found["tiny"].startswith("a batch of 1 images for 2 processes")


def test_one_process_is_the_main_one_and_exchanges_nothing():
    tensor = torch.ones(2)
    sum_([tensor])
    barrier()
    with connected(CPU):
        assert not torch.distributed.is_initialized()
    assert (rank(), world_size(), is_main()) == (0, 1, True)
    assert tensor.tolist() == [1.0, 1.0]
    assert broadcast((1, 2)) == (1, 2)
    assert torch.equal(share_of(tensor), tensor)


def test_what_a_launcher_says_is_believed_whole_or_not_at_all(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    assert (rank(), world_size()) == (0, 1)
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert (rank(), world_size(), is_main()) == (3, 4, False)
    assert local_device(torch.device("cuda")) == torch.device("cuda:1")
    assert local_device(CPU) == CPU


def test_another_number_of_processes_is_another_run(tmp_path, monkeypatch):
    run(smooth_net(), tmp_path)
    monkeypatch.setattr("nnslim.train.records.world_size", lambda: 2)
    with pytest.raises(NnslimError, match=r"differs in processes \(1 there, 2 now\)"):
        run(smooth_net(), tmp_path)


if __name__ == "__main__":
    child(Path(sys.argv[1]))
