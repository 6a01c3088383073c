"""One run in several processes (``torchrun``, ``accelerate launch``); all of it works in one too.

Every process runs the same program. What is decided once is decided by the main process and
``broadcast``; files are written where ``is_main()``.
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar, cast

import torch
from torch import distributed

from nnslim.errors import NnslimError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from torch import Tensor

__all__ = [
    "alone",
    "barrier",
    "broadcast",
    "broadcast_tensors",
    "by_main",
    "connected",
    "from_main",
    "is_main",
    "local_device",
    "rank",
    "same_everywhere",
    "share_of",
    "sum_",
    "world_size",
]

T = TypeVar("T")
_LAUNCHER_SETS = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_ALONE: ContextVar[bool] = ContextVar("alone", default=False)
# What one process does while the others wait may be a whole training.
_PATIENCE = timedelta(days=7)
_BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}


def rank() -> int:
    """Return the number of this process, 0 for the main one.

    Example:
        >>> rank(), world_size(), is_main()
        (0, 1, True)
    """
    if _ALONE.get():
        return 0
    return distributed.get_rank() if distributed.is_initialized() else _launched("RANK", 0)


def world_size() -> int:
    """Return the number of processes."""
    if _ALONE.get():
        return 1
    return (
        distributed.get_world_size() if distributed.is_initialized() else _launched("WORLD_SIZE", 1)
    )


def is_main() -> bool:
    """Return whether this process decides, writes and reports."""
    return rank() == 0


@contextmanager
def alone() -> Generator[None]:
    """Work as if there were no other process: this one decides, writes, and exchanges nothing.

    Example:
        >>> with alone():
        ...     rank(), world_size()
        (0, 1)
    """
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


@contextmanager
def connected(device: torch.device) -> Generator[None]:
    """Connect the processes that a launcher started; does nothing where they are, or for one.

    Wrap the whole program in it: connections cannot be made twice under some launchers.
    """
    if distributed.is_initialized() or world_size() == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(local_device(device))
    distributed.init_process_group(_BACKENDS[device.type], timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """Return the GPU of this process, when several on one machine have a GPU each.

    Example:
        >>> local_device(torch.device("cuda:2")), local_device(torch.device("cpu"))
        (device(type='cuda', index=2), device(type='cpu'))
    """
    if device.type != "cuda" or world_size() == 1:
        return device
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", rank())))


def barrier() -> None:
    """Wait until every process is here."""
    sum_([torch.zeros(1)])


def broadcast(value: T) -> T:
    """Return the main process's value, made of JSON's types, in every process.

    Example:
        >>> broadcast({"keep": [0, 2]})
        {'keep': [0, 2]}
    """
    if world_size() == 1:
        return value
    text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
    size = torch.tensor([len(text)])
    distributed.broadcast(size, src=0)
    if not is_main():
        text = torch.empty(int(size.item()), dtype=torch.uint8)
    distributed.broadcast(text, src=0)
    return json.loads(bytes(text.tolist()))


def by_main(compute: Callable[[], T]) -> T | None:
    """Return what the main process computes, and None elsewhere; its failure is everybody's.

    Raises:
        Exception: What it raised; elsewhere an ``NnslimError`` that says the same.

    Example:
        >>> by_main(lambda: 3)
        3
    """
    result, failure = None, None
    if is_main():
        try:
            result = compute()
        except Exception as error:  # raised again, once the others know
            failure = error
    message = broadcast(_message(failure))
    if failure is not None:
        raise failure
    if message is not None:
        raise _MainError(*message)
    return result


def from_main(compute: Callable[[], T]) -> T:
    """Return in every process what the main one computes, of JSON's types; fails as ``by_main``.

    Example:
        >>> from_main(lambda: [1.5])
        [1.5]
    """
    return cast("T", broadcast(by_main(compute)))


class _MainError(NnslimError):
    """The main process's exception, raised in another one."""

    def __init__(self, message: str, hint: str | None, exit_code: int) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code


def _message(failure: Exception | None) -> tuple[str, str | None, int] | None:
    if isinstance(failure, NnslimError):
        return failure.message, failure.hint, failure.exit_code
    return None if failure is None else (repr(failure), None, 3)


def broadcast_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the main process's tensors, on the CPU, in every process; others' are ignored.

    Example:
        >>> broadcast_tensors({"scores": torch.ones(2)})
        {'scores': tensor([1., 1.])}
    """
    copies = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    if world_size() == 1:
        return copies
    heads = broadcast(
        [[n, str(t.dtype).removeprefix("torch."), *t.shape] for n, t in copies.items()]
    )
    if not is_main():
        copies = {
            str(name): torch.empty([int(size) for size in shape], dtype=getattr(torch, str(dtype)))
            for name, dtype, *shape in heads
        }
    for tensor in copies.values():
        distributed.broadcast(tensor, src=0)
    return copies


def sum_(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over all processes; same shapes and types in each."""
    if world_size() == 1:
        return
    # By type and device: one exchange of a long vector beats many of short ones.
    groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for group in groups.values():
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in group])
        distributed.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in group])
        for tensor, part in zip(group, parts, strict=True):
            tensor.detach().copy_(part.view(tensor.shape))


def same_everywhere(digest: str) -> bool:
    """Return, in every process, whether all of them called with the same text.

    Example:
        >>> same_everywhere("3f5a")
        True
    """
    differs = torch.tensor([int(broadcast(digest) != digest)])
    sum_([differs])
    return not differs.item()


def share_of(batch: Tensor) -> Tensor:
    """Return this process's part of a batch: consecutive images, as many as elsewhere or one less.

    Example:
        >>> share_of(torch.arange(3))
        tensor([0, 1, 2])
    """
    return batch if world_size() == 1 else batch.tensor_split(world_size())[rank()]


def _launched(name: str, alone: int) -> int:
    """Read a launcher's variable; one alone, which batch systems may set, does not count."""
    launched = all(key in os.environ for key in _LAUNCHER_SETS)
    return int(os.environ[name]) if launched else alone
