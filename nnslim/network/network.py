"""``Network``: a model that *is* its graph, and behaves like any other ``nn.Module``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from torch import Tensor, nn

from nnslim.errors import InputError
from nnslim.network.graph import BATCH, Graph, TensorInfo, refs
from nnslim.network.interpreter import Program, compile_graph

if TYPE_CHECKING:
    from nnslim.data.preprocess import Preprocess

__all__ = ["Network", "same_kind"]

_ATTRIBUTES = ("graph", "preprocess", "classes", "history", "notes")


class Network(nn.Module):
    """A convolutional network as a graph of ATen operators plus named tensors.

    It trains, evaluates, moves, copies, compiles and saves like the module it was traced from,
    without that module's source code. ``train()`` and ``eval()`` flip the batch norms that have
    running statistics, and the dropouts.

    Attributes:
        graph: The operators; immutable.
        preprocess: How an image becomes an input, or None where that is not known.
        classes: Names of the classes in the order of the logits, or None.
        history: What was done to the network, oldest first; plain JSON values.
        notes: What the trace had to leave behind, such as unused parameters.

    Example:
        >>> import torch; from nnslim.network import trace_network
        >>> model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        >>> net = trace_network(model, torch.zeros(2, 3, 8, 8))
        >>> tuple(net(torch.zeros(5, 3, 8, 8)).shape), list(net.state_dict())
        ((5, 4, 6, 6), ['0.weight', '0.bias'])
    """

    def __init__(  # noqa: PLR0913 - keyword-only descriptions
        self,
        graph: Graph,
        tensors: Mapping[str, Tensor],
        *,
        preprocess: Preprocess | None = None,
        classes: tuple[str, ...] | None = None,
        history: tuple[Mapping[str, object], ...] = (),
        notes: tuple[str, ...] = (),
    ) -> None:
        """Register ``tensors``: an ``nn.Parameter`` trains, anything else becomes a buffer.

        Raises:
            InputError: A tensor that the graph uses is missing, or one has an impossible name.
            UnsupportedModelError: An operator that is not on the closed list.
        """
        super().__init__()
        self.graph = graph
        self.preprocess = preprocess
        self.classes = classes
        self.history = history
        self.notes = notes
        self._program: Program = compile_graph(graph)
        self._owners: dict[str, tuple[nn.Module, str]] = {}
        for name in graph.tensor_names():
            if name not in tensors:
                raise InputError(f"the graph uses the tensor {name!r}, which is not there")
        for name, tensor in tensors.items():
            self._register(name, tensor)

    def _register(self, name: str, tensor: Tensor) -> None:
        *path, leaf = name.split(".")
        owner: nn.Module = self
        for part in path:
            if not part or part in owner._parameters or part in owner._buffers:
                raise InputError(f"the tensor name {name!r} cannot be used: {part!r} is taken")
            # Not add_module, which refuses names that this class uses itself, such as "graph".
            owner = cast("nn.Module", owner._modules.setdefault(part, nn.Module()))
        if not leaf or leaf in owner._modules:
            raise InputError(f"the tensor name {name!r} cannot be used: {leaf!r} is taken")
        if isinstance(tensor, nn.Parameter):
            owner._parameters[leaf] = tensor
        else:
            owner._buffers[leaf] = tensor
        self._owners[name] = owner, leaf

    def tensor(self, name: str) -> Tensor:
        """Return the parameter or buffer of this name."""
        owner, leaf = self._owners[name]
        tensor = owner._parameters.get(leaf)
        return cast("Tensor", owner._buffers[leaf]) if tensor is None else tensor

    def __setattr__(self, name: str, value: object) -> None:
        """Let the source model have a submodule of any name, also of one that is set here."""
        if name in _ATTRIBUTES:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)  # pyright: ignore[reportArgumentType]

    def tensors(self) -> dict[str, Tensor]:
        """Return all parameters and buffers by name, in the order they were given."""
        return {name: self.tensor(name) for name in self._owners}

    @property
    def program(self) -> Program:
        """The graph with its operators resolved, for runs that need to look inside."""
        return self._program

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the first input without the batch, ``(C, H, W)``."""
        return self.graph.inputs[0].info.shape[1:]

    @property
    def n_classes(self) -> int | None:
        """Number of logits, or None when the output is not one ``(N, K)`` tensor."""
        values = (self.graph.info(ref.name) for ref in refs(self.graph.output))
        shapes = [value.shape for value in values if isinstance(value, TensorInfo)]
        return shapes[0][1] if len(shapes) == 1 and len(shapes[0]) == 2 else None

    @property
    def n_parameters(self) -> int:
        """Number of trainable and frozen parameter entries; buffers are not counted."""
        return sum(p.numel() for p in self.parameters())

    def forward(self, *inputs: Tensor) -> object:
        """Run the graph on a batch.

        Args:
            *inputs: One tensor per input of the graph, ``(N, C, H, W)`` for images.

        Returns:
            The logits ``(N, K)``, or whatever structure the source model returned.

        Raises:
            InputError: The number of inputs or a shape differs from what was traced.
        """
        self.check_inputs(inputs)
        env: dict[str, object] = {
            entry.name: value for entry, value in zip(self.graph.inputs, inputs, strict=True)
        }
        return self._program.run(self, env, inputs[0].device)

    def check_inputs(self, inputs: tuple[Tensor, ...]) -> None:
        """Raise an ``InputError`` unless the inputs have the traced shapes, batch aside."""
        if len(inputs) != len(self.graph.inputs):
            raise InputError(
                f"the network takes {len(self.graph.inputs)} inputs, got {len(inputs)}"
            )
        for entry, value in zip(self.graph.inputs, inputs, strict=True):
            expected = entry.info.shape
            fits = value.dim() == len(expected) and all(
                wanted % BATCH == 0 or size == wanted
                for size, wanted in zip(value.shape, expected, strict=True)
            )
            if not fits:
                message = f"input {entry.name!r} has the shape {tuple(value.shape)}"
                raise InputError(message, hint=f"this network takes {entry.info.sizes}")

    def extra_repr(self) -> str:
        """Say how large the network is."""
        return f"nodes={len(self.graph.nodes)}, parameters={self.n_parameters}"

    def __deepcopy__(self, memo: dict[int, object]) -> Network:
        """Copy the tensors; share the graph, which never changes."""
        tensors = {name: same_kind(t, t.detach().clone()) for name, t in self.tensors().items()}
        memo[id(self)] = result = self.with_graph(self.graph, tensors)
        return result

    def with_graph(self, graph: Graph, tensors: Mapping[str, Tensor]) -> Network:
        """Return a network of other operators and tensors in this one's mode, described alike."""
        result = Network(
            graph,
            tensors,
            preprocess=self.preprocess,
            classes=self.classes,
            history=self.history,
            notes=self.notes,
        )
        return result.train(self.training)


def same_kind(tensor: Tensor, data: Tensor) -> Tensor:
    """Make a parameter of ``data`` where ``tensor`` is one, trained or frozen like it."""
    return nn.Parameter(data, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data
