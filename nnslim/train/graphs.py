"""A computation on one GPU, captured once as a CUDA graph and replayed.

A step of a small network is hundreds of kernels that each take less time than their launch. A graph
launches them all at once: the same kernels in the same order, without Python in between.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["GraphReplay"]

# cuDNN and the allocator settle in the first runs, which a capture must not see.
_WARM_UP_RUNS = 3

Results = TypeVar("Results", bound="tuple[Tensor, ...]")


class GraphReplay(Generic[Results]):
    """Calls a function of tensors, on a GPU as a CUDA graph where it can be one.

    The function may read and write the tensors of ``module`` in place and leave gradients in its
    parameters, which are those of this call alone. Where it cannot be captured (it looks at values
    on the CPU, say) it is called as it is, and ``problem`` says why.

    Args:
        function: Takes and returns tensors on the device; shapes follow from its arguments' shapes.
        module: Whose parameters and buffers it uses.

    Example:
        >>> scale = nn.Linear(1, 1, bias=False)
        >>> call = GraphReplay(lambda x: (scale(x),), scale)
        >>> call(torch.zeros(1, 1))[0].item(), call.problem  # on the CPU nothing is captured
        (0.0, None)
    """

    def __init__(self, function: Callable[..., Results], module: nn.Module) -> None:
        self._function = function
        self._module = module
        self._captured: _Captured[Results] | None = None
        self.problem: str | None = None

    def __call__(self, *arguments: Tensor, **constants: float) -> Results:
        """Return what the function returns; the next call may overwrite it."""
        parameters = list(self._module.parameters())
        for parameter in parameters:
            parameter.grad = None
        if not arguments[0].is_cuda or self.problem is not None:
            return self._function(*arguments, **constants)
        # A graph knows shapes and addresses, not tensors. A smaller last batch runs as it is; a
        # network that was moved needs another graph.
        shapes = [tuple(argument.shape) for argument in arguments]
        form = (shapes, constants, self._module.training)
        places = [t.data_ptr() for t in (*parameters, *self._module.buffers())]
        if self._captured is not None and self._captured.form != form:
            return self._function(*arguments, **constants)
        if self._captured is None or self._captured.places != places:
            self._captured = None
            try:
                function = partial(self._function, **constants)
                self._captured = _Captured(form, places, function, self._module, arguments)
            except RuntimeError as error:
                self.problem = str(error).strip().partition("\n")[0]
                return self._function(*arguments, **constants)
        return self._captured(arguments)


class _Captured(Generic[Results]):
    """One graph with the tensors that it reads and writes."""

    def __init__(
        self,
        form: object,
        places: list[int],
        function: Callable[..., Results],
        module: nn.Module,
        arguments: tuple[Tensor, ...],
    ) -> None:
        self.form, self.places = form, places
        self._arguments = [argument.clone() for argument in arguments]
        self._parameters = list(module.parameters())
        device = arguments[0].device
        before = {name: buffer.clone() for name, buffer in module.named_buffers()}
        random = torch.cuda.get_rng_state(device)
        self._graph = torch.cuda.CUDAGraph()
        try:
            self._warm_up(function)
            self._results = self._capture(function)
            self._gradients = [parameter.grad for parameter in self._parameters]
        finally:
            for parameter in self._parameters:
                parameter.grad = None
            torch.cuda.set_rng_state(random, device)
            with torch.no_grad():
                for name, buffer in module.named_buffers():
                    buffer.copy_(before[name])

    def _warm_up(self, function: Callable[..., Results]) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for run in range(_WARM_UP_RUNS):
                # A look at a value breaks a capture: better that the last run finds it before.
                with _refused_syncs() if run == _WARM_UP_RUNS - 1 else nullcontext():
                    function(*self._arguments)
                for parameter in self._parameters:
                    parameter.grad = None
        torch.cuda.current_stream().wait_stream(stream)

    def _capture(self, function: Callable[..., Results]) -> Results:
        try:
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                return function(*self._arguments)
        except RuntimeError:
            # The random generator stays in the broken capture until another one ends well.
            with torch.cuda.graph(torch.cuda.CUDAGraph()):
                torch.zeros(1, device=self._arguments[0].device)
            raise

    def __call__(self, arguments: tuple[Tensor, ...]) -> Results:
        for copy, argument in zip(self._arguments, arguments, strict=True):
            copy.copy_(argument)
        self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._results


@contextmanager
def _refused_syncs() -> Generator[None]:
    """Raise where the block waits for the device."""
    before = torch.cuda.get_sync_debug_mode()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it is a prototype
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
