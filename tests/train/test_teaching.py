"""A teacher that remembers must never mistake one image for another."""

from __future__ import annotations

import torch
from torch import nn

from nnslim.network import trace_network
from nnslim.train.teaching import RememberingTeacher


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
