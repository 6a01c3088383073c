"""Runs a graph, node by node; the one place where operators are called.

Program.run ── for each step: execute ── resolve arguments, call, store, forget dead values
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from nnslim.network.graph import Arg, DeviceRef, Graph, Node, Ref, TensorRef
from nnslim.network.operators import (
    Operator,
    argument_names,
    resolve,
    resolve_custom,
    training_argument,
)

__all__ = ["Call", "Environment", "Program", "Runtime", "Step", "compile_graph"]


@dataclass(frozen=True)
class Step:
    """One node, ready to be called."""

    node: Node
    function: Operator
    training_position: int | None
    dead: tuple[str, ...]

    def by_name(self, args: list[object], kwargs: Mapping[str, object]) -> dict[str, object]:
        """Return the resolved arguments of a call by their schema names."""
        return dict(zip(argument_names(self.node.op), args, strict=False)) | dict(kwargs)


class Runtime(Protocol):
    """What a program needs from its surroundings: tensors by name, mode and device."""

    @property
    def training(self) -> bool:
        """Whether batch norms and dropouts train."""
        ...

    def tensor(self, name: str) -> Tensor:
        """Return the parameter or buffer of this name."""
        ...


Environment: TypeAlias = MutableMapping[str, object]
Call: TypeAlias = Callable[[Step, list[object], dict[str, object]], object]


@dataclass(frozen=True)
class Program:
    """A graph with its operators resolved."""

    graph: Graph
    steps: tuple[Step, ...]

    def run(
        self,
        runtime: Runtime,
        env: Environment,
        device: torch.device,
        start: int = 0,
        call: Call | None = None,
    ) -> object:
        """Execute the steps from ``start`` on and return the output structure.

        Args:
            runtime: Gives the tensors and the mode.
            env: Values by name: the inputs, and whatever the steps before ``start`` left alive.
            device: Where created tensors go.
            start: Index of the first step to run.
            call: Replaces the operator calls; see ``execute``.
        """
        for step in self.steps[start:]:
            self.execute(step, runtime, env, device, call)
        return _resolve(self.graph.output, runtime, env, device)

    def execute(
        self,
        step: Step,
        runtime: Runtime,
        env: Environment,
        device: torch.device,
        call: Call | None = None,
    ) -> object:
        """Run one step, store its value in ``env``, forget the dead ones and return the value.

        ``call`` replaces the operator call, for runs that change or watch what a node does.
        """
        node = step.node
        args = [_resolve(arg, runtime, env, device) for arg in node.args]
        if step.training_position is not None and runtime.training:
            args[step.training_position] = True
        kwargs = {key: _resolve(arg, runtime, env, device) for key, arg in node.kwargs.items()}
        value = step.function(*args, **kwargs) if call is None else call(step, args, kwargs)
        env[node.name] = value
        for name in step.dead:
            del env[name]
        return value


def compile_graph(graph: Graph) -> Program:
    """Resolve every operator of a graph.

    Raises:
        UnsupportedModelError: An operator that is neither on the closed list nor allowed by the
            caller.
    """
    dead = graph.last_uses()
    steps = (
        Step(
            node,
            resolve_custom(node.op) if node.op in graph.custom else resolve(node.op),
            _training_position(node),
            dead[node.name],
        )
        for node in graph.nodes
    )
    return Program(graph, tuple(steps))


def _training_position(node: Node) -> int | None:
    """Position of the flag that ``train()`` flips; a flag that is True in eval is no mode."""
    flag = training_argument(node.op)
    if flag is None or node.argument(flag) is not False:
        return None
    # Weight standardisation calls batch_norm without running statistics: never flipped.
    if node.family == "batch_norm" and not isinstance(node.argument("running_mean"), TensorRef):
        return None
    return list(node.named_arguments).index(flag)


def _resolve(arg: Arg, runtime: Runtime, env: Mapping[str, object], device: torch.device) -> object:
    if isinstance(arg, Ref):
        return env[arg.name]
    if isinstance(arg, TensorRef):
        return runtime.tensor(arg.name)
    if isinstance(arg, tuple):
        return [_resolve(entry, runtime, env, device) for entry in arg]
    if isinstance(arg, DeviceRef):
        return device
    if isinstance(arg, Mapping):
        return {key: _resolve(entry, runtime, env, device) for key, entry in arg.items()}
    return arg
