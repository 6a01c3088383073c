"""A teacher that remembers must never mistake one image for another."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from nnslim.network import trace_network
from nnslim.train.teaching import RememberingTeacher

if TYPE_CHECKING:
    from nnslim.network.network import Network


def test_images_that_differ_in_one_value_are_two():
    torch.manual_seed(0)
    shape = (2, 6, 5)
    size = torch.Size(shape).numel()
    network = trace_network(
        nn.Sequential(nn.Flatten(), nn.Linear(size, 3)), torch.zeros(2, *shape)
    ).eval()
    blank = torch.zeros(1, *shape)
    images = torch.cat([blank, torch.eye(size).reshape(-1, *shape)])
    teacher = RememberingTeacher(network)
    wanted = network(images)
    assert torch.equal(teacher(images), wanted)
    assert torch.equal(teacher(images), wanted)
    assert teacher.answered == 1
    assert len(wanted.unique(dim=0)) == size + 1


def test_the_layout_of_memory_does_not_make_another_image():
    network = trace_network(nn.Flatten(), torch.zeros(2, 3, 2, 2)).eval()
    teacher, images = RememberingTeacher(network), torch.randn(4, 3, 2, 2)
    assert torch.equal(teacher(images), teacher(images.to(memory_format=torch.channels_last)))
    assert teacher.answered == 1


def flat_teacher(*, most_bytes: int = 2**30) -> RememberingTeacher:
    network = trace_network(nn.Flatten(), torch.zeros(2, 3, 1, 1)).eval()
    return RememberingTeacher(network, most_bytes=most_bytes)


def test_what_is_remembered_is_what_was_said_however_many_images_came():
    torch.manual_seed(0)
    images, teacher = torch.randn(300, 3, 1, 1), flat_teacher()
    for batch in images.split(7):  # the table grows several times
        teacher(batch)
    order = torch.randperm(len(images))
    asked = teacher.answered
    assert torch.equal(teacher(images[order]), images[order].flatten(1))
    assert teacher.answered == asked


def test_an_image_that_comes_twice_in_a_batch_and_one_that_is_known_do_not_disturb_the_others():
    torch.manual_seed(0)
    images, teacher = torch.randn(5, 3, 1, 1), flat_teacher()
    for chosen in ([0, 1], [2, 1, 2], [3, 3, 0, 4]):
        assert torch.equal(teacher(images[chosen]), images[chosen].flatten(1))
    assert torch.equal(teacher(images), images.flatten(1))
    assert teacher.answered == 3


def test_what_was_said_first_is_said_again():
    class Moody(nn.Module):
        calls = 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return images.flatten(1) + self.calls

    images, teacher = torch.arange(9.0).reshape(3, 3, 1, 1), flat_teacher()
    teacher.network = cast("Network", Moody())
    first = teacher(images[:2])
    teacher(images)
    assert torch.equal(teacher(images)[:2], first)


def test_where_the_memory_is_full_the_network_is_asked():
    torch.manual_seed(0)
    images, teacher = torch.randn(6, 3, 1, 1), flat_teacher(most_bytes=4 * (140 + 2 * 12))
    for _ in range(2):
        for batch in images.split(2):
            assert torch.equal(teacher(batch), batch.flatten(1))
    assert teacher.answered == 4  # the last two images every time
