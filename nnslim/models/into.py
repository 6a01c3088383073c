"""Brings a pruned network back into its user's module, layer by layer, and proves it equal."""

from __future__ import annotations

import copy
import difflib
import traceback
import warnings
from pathlib import Path, PurePath
from typing import TypeVar, cast, overload

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from nnslim.artifact import load_network
from nnslim.errors import InputError, UnsupportedModelError
from nnslim.models.formats import file_kind, model_file
from nnslim.models.layers import fit_layers
from nnslim.models.load import ModelOptions, load_model
from nnslim.network import BATCH, Network
from nnslim.network.graph import CustomRules

__all__ = ["load", "put_into"]

M = TypeVar("M", bound=nn.Module)

_TOLERANCE = 1e-9


@overload
def load(
    path: Path | str, *, arch: str | None = ..., operators: CustomRules | None = ...
) -> Network: ...
@overload
def load(path: Path | str, into: M, *, operators: CustomRules | None = ...) -> M: ...
def load(
    path: Path | str,
    into: nn.Module | None = None,
    *,
    arch: str | None = None,
    operators: CustomRules | None = None,
) -> nn.Module:
    """Read a model file, as a network that needs no source or into your module.

    Args:
        path: A file that nnslim wrote, or a result folder with one; without ``into`` also a state
            dict or a ``.pt2`` archive.
        into: A module of the architecture that was traced, at any widths. Its layers are resized
            and filled in place; it keeps its device, precision, mode and ``requires_grad``. Its
            parameters are new objects: build the optimizer afterwards.
        arch: Architecture of a state dict, such as ``torchvision:resnet18``; None recognises it.
        operators: Custom operators that the file may use, with their rules.

    Returns:
        The network in eval mode on the CPU, or ``into``.

    Raises:
        InputError: The file cannot be read, or the module is of another architecture.
        UnsupportedModelError: The module cannot take the widths: a layer that is not standard, or
            a size written into its ``forward``; names the place. The module is unchanged.

    Example:
        >>> import nnslim, tempfile
        >>> wide, slim = (nn.Sequential(nn.Conv2d(3, n, 3), nn.Conv2d(n, 4, 3)) for n in (8, 5))
        >>> network = nnslim.trace(slim, torch.zeros(2, 3, 8, 8))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     nnslim.save(network, f"{folder}/slim.safetensors")
        ...     nnslim.load(f"{folder}/slim.safetensors", into=wide)[0]
        Conv2d(3, 5, kernel_size=(3, 3), stride=(1, 1))
    """
    file = model_file(Path(path))
    if into is None and (arch is not None or file_kind(file) != "nnslim"):
        return load_model(file, ModelOptions(arch=arch)).network
    network = load_network(file, operators)
    return network if into is None else put_into(network, into)


def put_into(network: Network, module: M) -> M:
    """Resize and fill a module's layers from a network; see ``load``."""
    _check_names(network, module)
    trial = copy.deepcopy(module)
    _fill(network, trial)
    _check_equal(network, trial)
    _fill(network, module)
    left = [
        name
        for name, _ in module.named_parameters()
        if name not in network.tensors() and _alias(module, name, network) is None
    ]
    if left:
        warnings.warn(
            f"{len(left)} parameters are not in the file, since evaluation does not use them, and"
            f" were left as they were: {', '.join(left[:3])}",
            stacklevel=3,
        )
    return module


def _named_tensors(module: nn.Module) -> dict[str, Tensor]:
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _alias(module: nn.Module, name: str, network: Network) -> str | None:
    """The other name under which a network holds a tensor that the module has twice."""
    tensors = _named_tensors(module)
    same = (other for other, tensor in tensors.items() if tensor is tensors[name])
    return next((other for other in same if other in network.tensors()), None)


def _check_names(network: Network, module: nn.Module) -> None:
    tensors = _named_tensors(module)
    for path, child in module.named_modules():
        if parametrize.is_parametrized(child):
            raise UnsupportedModelError(
                f"layer {path!r} computes its weight (a parametrization), which cannot be resized",
                hint="remove the parametrization, or use the network itself: nnslim.load(path)",
            )
    for name, tensor in network.tensors().items():
        if name.startswith("nnslim_index.") or name.startswith("_lifted") or name in tensors:
            if name in tensors and tensors[name].dim() != tensor.dim():
                raise InputError(
                    f"{name!r} has the shape {tuple(tensor.shape)} in the file and"
                    f" {tuple(tensors[name].shape)} in the module",
                    hint="build the module with the arguments it was traced with",
                )
            continue
        if name.rpartition(".")[2].startswith(("_tensor_constant", "lifted_tensor")):
            continue
        near = difflib.get_close_matches(name, tensors, n=1, cutoff=0.0)
        raise InputError(
            f"the file is of another architecture: it has a tensor {name!r}, which"
            f" {type(module).__name__} lacks" + (f" (nearest: {near[0]!r})" if near else ""),
            hint="pass the module that was pruned, at its original widths",
        )


def _fill(network: Network, module: nn.Module) -> None:
    """Give the module the network's tensors and its layers their new sizes."""
    tensors = _named_tensors(module)
    new: dict[int, Tensor] = {}
    for name, tensor in network.tensors().items():
        if name in tensors:
            old = tensors[name]
            value = tensor.detach().clone()
            value = value.to(old.device, old.dtype if old.is_floating_point() else value.dtype)
            if isinstance(old, nn.Parameter):
                value = nn.Parameter(value, requires_grad=old.requires_grad)
            new[id(old)] = value
    for owner in module.modules():
        for table in (owner._parameters, owner._buffers):  # pyright: ignore[reportPrivateUsage]
            for leaf, old in table.items():
                if old is not None and id(old) in new:
                    table[leaf] = new[id(old)]  # pyright: ignore[reportArgumentType]
    fit_layers(network, module)


@torch.no_grad()
def _check_equal(network: Network, module: nn.Module) -> None:
    """Run both in float64 on the same input, or say where the module's code does not fit."""
    generator = torch.Generator().manual_seed(0)
    shapes = ([2 if s == BATCH else s for s in e.info.shape] for e in network.graph.inputs)
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    expected = _leaves(copy.deepcopy(network).double().eval()(*(x.clone() for x in inputs)))
    try:
        outputs = _leaves(module.cpu().double().eval()(*inputs))
    # A module's forward may raise anything when its sizes do not fit.
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnsupportedModelError(
            f"{_place(error)} does not fit the new widths: {first}",
            hint="let the size there follow its tensor's shape, or use the network itself, which"
            " needs no source: nnslim.load(path)",
        ) from error
    for ours, theirs in zip(outputs, expected, strict=False):
        difference = _difference(ours, theirs)
        if not difference <= _TOLERANCE:
            raise UnsupportedModelError(
                f"{type(module).__name__} with the new widths computes something else than the"
                f" network: the outputs differ by {difference:.1e}",
                hint="its forward depends on the widths in a way that resizing its layers does not"
                " follow (a channel shuffle, a scale); use the network itself: nnslim.load(path)",
            )


def _leaves(value: object) -> list[Tensor]:
    leaves = torch.utils._pytree.tree_leaves(value)  # pyright: ignore
    return [leaf for leaf in cast("list[object]", leaves) if isinstance(leaf, Tensor)]


def _difference(output: Tensor, expected: Tensor) -> float:
    if output.shape != expected.shape:
        return float("inf")
    scale = max(float(expected.abs().max()), 1e-30)
    return float((output - expected).abs().max()) / scale


def _place(error: BaseException) -> str:
    """The innermost line of the error that is not in torch: ``models/resnet.py:92``."""
    frames = traceback.extract_tb(error.__traceback__)
    this_file = PurePath(__file__).name
    for frame in reversed(frames):
        parts = PurePath(frame.filename).parts
        if "torch" not in parts and parts[-1] != this_file:
            return f"{'/'.join(parts[-2:])}:{frame.lineno}, in {frame.name},"
    return "the module"
