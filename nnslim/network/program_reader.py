"""From a program that ``torch.export`` wrote to a graph and the tensors it uses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_unflatten

from nnslim.errors import UnsupportedModelError
from nnslim.network.arguments import Arg, DeviceRef, Plain, Ref, TensorRef, map_arg
from nnslim.network.graph import BATCH, CustomRules, Graph, Input, Node, TensorInfo, Value
from nnslim.network.inline import inline_regions
from nnslim.network.operators import OPERATORS, operator_name
from nnslim.network.traced import Traced, plain_structure, settled_arguments, source_line

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["ProgramReader"]

_IGNORED = ("_assert", "sym_constrain", "lift_fresh_copy_guard")


class ProgramReader:
    """Reads an exported program into a graph.

    Args:
        program: What ``torch.export`` gave for a module in eval mode.
        custom: Operators beside those of the closed list, with their rules.
    """

    def __init__(self, program: ExportedProgram, custom: CustomRules) -> None:
        self.program = program
        self.custom = custom
        self.signature = program.graph_signature
        self.state: dict[str, Tensor] = {**program.state_dict, **program.constants}  # pyright: ignore
        targets = {**self.signature.inputs_to_parameters, **self.signature.inputs_to_buffers}
        # Tied tensors appear under one name only: the first.
        first: dict[int, str] = {}
        self.primary = {
            name: first.setdefault(id(self.state[name]), name)
            for name in targets.values()
            if name in self.state
        }
        self.tensors = {key: self.primary.get(name, name) for key, name in targets.items()}
        self.tensors |= self.signature.inputs_to_lifted_tensor_constants

    def traced(self) -> Traced:
        """Return the graph as it was exported.

        Raises:
            UnsupportedModelError: An operator or value that cannot be stored; says where.
        """
        inline_regions(self.program.graph_module)
        users = set(self.signature.user_inputs)
        inputs: list[Input] = []
        nodes: list[Node] = []
        output: Arg = None
        for node in self.program.graph.nodes:
            if node.op == "placeholder" and node.name in users:
                inputs.append(Input(str(node.name), cast("TensorInfo", _value(node))))
            elif node.op == "call_function" and not self._ignored(node):
                nodes.append(self._node(node))
            elif node.op == "output":
                flat = cast("tuple[Arg, ...]", map_arg(node.args[0], self._leaf))
                structure = self.program.call_spec.out_spec
                output = plain_structure(tree_unflatten(flat, structure))  # pyright: ignore
        graph = Graph(tuple(inputs), tuple(nodes), output, self.custom)
        names = (self.primary.get(name, name) for name in self.signature.parameters)
        return Traced(graph, self.state, tuple(names))

    def _ignored(self, node: fx.Node) -> bool:
        return not node.users and any(part in str(node.target) for part in _IGNORED)

    def _node(self, node: fx.Node) -> Node:
        op = operator_name(node.target)
        module, source = _place(node)
        if op not in OPERATORS and op not in self.custom:
            where = ", ".join(part for part in (module, source) if part)
            raise UnsupportedModelError(
                f"the model uses the operator {op} ({where}), which nnslim does not know",
                hint="replace it in the model's forward, or allow it with operators={...}",
            )
        given = (map_arg(node.args, self._leaf), map_arg(node.kwargs, self._leaf))
        args, kwargs = settled_arguments(op, *given)
        return Node(node.name, op, args, kwargs, _value(node), module, source)

    def _leaf(self, arg: object) -> Arg:
        if isinstance(arg, fx.Node):
            return TensorRef(self.tensors[arg.name]) if arg.name in self.tensors else Ref(arg.name)
        if isinstance(arg, torch.device):
            return DeviceRef()
        if arg is None or isinstance(arg, Plain):
            return arg
        message = f"the model passes a {type(arg).__name__} to an operator, which cannot be stored"
        raise UnsupportedModelError(message)


def _concrete(size: object) -> int:
    """An integer for a size, with every symbol set to the batch."""
    if isinstance(size, int):
        return size
    expression = size.node.expr  # pyright: ignore
    return int(expression.subs(dict.fromkeys(expression.free_symbols, BATCH)))


def _value(node: fx.Node) -> Value:
    def info(value: object) -> Value:
        if isinstance(value, Tensor):
            return TensorInfo(tuple(_concrete(size) for size in value.shape), value.dtype)
        if isinstance(value, (list, tuple)):
            return tuple(info(item) for item in value)  # pyright: ignore
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if isinstance(value, (torch.SymInt, torch.SymFloat)):
            return _concrete(value)
        raise UnsupportedModelError(
            f"the value {node.name} is a {type(value).__name__}, which cannot be stored"
        )

    return info(node.meta.get("val"))


def _place(node: fx.Node) -> tuple[str, str]:
    """Module path and the innermost source line that is not inside torch itself."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [str(entry[0]) for entry in stack.values()]
    # Sizes of the input are read outside of any module, under a name that torch gives.
    module = next((path for path in reversed(paths) if "stack_from_metadata" not in path), "")
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    for path, line in reversed(frames):
        if source := source_line(path, line):
            return module, source
    return module, ""
