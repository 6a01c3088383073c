from __future__ import annotations

import itertools
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn

from nnslim.train import flush_denormals
from nnslim.train.runtime import (
    forked_random_state,
    placed,
    random_state,
    seed_epoch,
    set_random_state,
)
from tests.train.toys import CPU


def flushes():
    return (torch.tensor([2.0**-120]) * 2.0**-20).item() == 0


def in_fresh_thread(function):
    """The setting belongs to a thread: tests leave that of the main one alone."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


@pytest.mark.parametrize("before", [False, True])
def test_denormals_are_flushed_inside_and_the_setting_restored(before):
    def look():
        torch.set_flush_denormal(before)
        with flush_denormals(CPU):
            inside = flushes()
        return inside, flushes()

    assert in_fresh_thread(look) == (True, before)


def test_denormals_are_restored_after_an_error():
    def look():
        torch.set_flush_denormal(False)
        with pytest.raises(ValueError, match="x"), flush_denormals(CPU):
            raise ValueError("x")
        return flushes()

    assert in_fresh_thread(look) is False


@pytest.mark.parametrize(
    ("module", "layout"),
    [
        (nn.Conv2d(3, 4, 3), torch.channels_last),
        (nn.Linear(3, 4), torch.contiguous_format),
        (nn.Conv3d(3, 4, 3), torch.contiguous_format),
    ],
)
def test_placed_uses_channels_last_for_images_only(module, layout):
    before = module.weight.detach().clone()
    with placed(module, CPU) as used:
        assert used is layout
        assert module.weight.is_contiguous(memory_format=layout)
    assert module.weight.is_contiguous()
    assert torch.equal(module.weight, before)


WORKERS = """
import torch
torch.set_num_threads(2)
torch.set_flush_denormal(True)
products = torch.full((2_000_000,), 2.0**-120) * 2.0**-20
print(int((products.view(torch.int32) != 0).sum()))
"""


@pytest.mark.slow
def test_worker_threads_flush_when_the_program_asks_before_anything_else():
    """What the command line does, and what ``flush_denormals`` says that a library cannot do."""
    done = subprocess.run(
        [sys.executable, "-c", WORKERS], check=True, capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "0\n"


def test_random_numbers_depend_on_seed_epoch_and_process_and_can_be_taken_up():
    drawn = set()
    with forked_random_state(CPU):
        for key in itertools.product((0, 1), (0, 1), (0, 1)):
            seed_epoch(*key)
            drawn.add(torch.rand(1).item())
        seed_epoch(0, 0, 0)
        torch.rand(1)
        state = random_state(CPU)
        expected = torch.rand(3)
        torch.rand(5)
        set_random_state(state, CPU)
        assert torch.equal(torch.rand(3), expected)
    assert len(drawn) == 8
