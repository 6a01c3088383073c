"""Opens every form of MODEL that the commands take as a ``Network``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from nnslim.artifact.directory import sha256_file
from nnslim.artifact.network_file import load_network
from nnslim.data.preprocess import Preprocess
from nnslim.errors import ConfigError, InputError
from nnslim.models.exported import read_exported
from nnslim.models.formats import file_kind, model_file
from nnslim.models.matching import match_signatures
from nnslim.models.recognise import best_fit, recognise
from nnslim.models.registry import Architecture, Argument, architecture, describe, parse_arch_args
from nnslim.models.skeleton import signature_of
from nnslim.models.state_dict import Weights, read_checkpoint
from nnslim.network import Network, trace_network

__all__ = ["LoadedModel", "ModelOptions", "load_model"]

_IMAGE_CHANNELS = 3  # of a model without convolutions that could tell


@dataclass(frozen=True)
class ModelOptions:
    """What is known of a model besides its file.

    Attributes:
        arch: Name of the architecture or None to recognise it.
        arch_args: Its ``key=value`` arguments.
        trust_pickle: Unpickle objects, which runs code from the file.
        input_size: Height and width of the images, in pixels; wins over ``preprocess.size``.
        preprocess: How an image becomes an input; replaces what a stored network brings.
        num_classes: Number of classes of the data, which the model must have.
    """

    arch: str | None = None
    arch_args: tuple[str, ...] = ()
    trust_pickle: bool = False
    input_size: tuple[int, int] | None = None
    preprocess: Preprocess | None = None
    num_classes: int | None = None


@dataclass(frozen=True)
class LoadedModel:
    """An opened model.

    Attributes:
        network: The model as a graph with its tensors, in eval mode, on the CPU.
        source: The file, or the architecture's name when there was none.
        sha256: Hash of the file, or None.
        arch: The architecture with its arguments, or None when the file holds a graph.
        notes: Everything that was decided for the user.
    """

    network: Network
    source: str
    sha256: str | None
    arch: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """A module ready to be traced, or a network that was stored as one.

    ``arch`` names it with its arguments, ``size`` is what it was made for, in pixels, and
    ``shape`` is ``(C, H, W)`` where it takes no other.
    """

    model: nn.Module
    arch: str | None = None
    size: tuple[int, int] | None = None
    shape: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()


def load_model(source: str | Path | None, options: ModelOptions | None = None) -> LoadedModel:
    """Open a model file, or build an architecture with random weights when there is no file.

    Args:
        source: An nnslim ``.safetensors`` or a result folder with one; a state dict in ``.pt``,
            ``.pth``, ``.th`` or ``.safetensors``; a ``.pt2`` archive; or None with
            ``options.arch``.
        options: What is known of the model besides.

    Raises:
        ConfigError: An unknown architecture or argument, or options that contradict each other.
        InputError: A file that is missing, damaged, unsafe, of an unknown architecture, or that
            does not fit the architecture, the preprocessing or the number of classes.
        UnsupportedModelError: A module that cannot be traced.

    Example:
        >>> loaded = load_model(None, ModelOptions(arch="cifar_resnet20"))
        >>> loaded.network.input_shape, loaded.network.n_classes
        ((3, 32, 32), 10)
    """
    options = options or ModelOptions()
    if source is None:
        opened, label, sha256 = _random(options), str(options.arch), None
    else:
        path = model_file(Path(source))
        opened, label, sha256 = _open(path, options), str(source), sha256_file(path)
    network = _network(opened, options, label)
    _check_classes(network, options, label)
    notes = (*opened.notes, *network.notes)
    return LoadedModel(network, label, sha256, opened.arch, notes)


def _open(path: Path, options: ModelOptions) -> _Source:
    match file_kind(path):
        case "onnx":
            message = f"{path}: an ONNX file has no weights that could be trained on"
            hint = "give the .safetensors or the state dict; eval and export take ONNX"
            raise InputError(message, hint=hint)
        case "nnslim":
            _refuse_arch(path, options)
            network = load_network(path)
            return _Source(network, shape=network.input_shape)
        case "exported":
            _refuse_arch(path, options)
            module, shape = read_exported(path)
            return _Source(module, shape=shape[1:])
        case _:
            return _from_checkpoint(path, options)


def _refuse_arch(path: Path, options: ModelOptions) -> None:
    if options.arch is not None or options.arch_args:
        message = f"{path}: holds a graph, so [[arch]] and [[arch_arg]] cannot change it"
        raise ConfigError(message, hint="leave them out")


def _random(options: ModelOptions) -> _Source:
    if options.arch is None:
        raise ConfigError("there is no model", hint="give a file, or a name with [[arch]]")
    entry, arguments = architecture(options.arch), parse_arch_args(options.arch_args)
    if entry.source != "factory":
        if options.num_classes is not None:
            arguments.setdefault("num_classes", options.num_classes)
        if options.preprocess is not None and options.preprocess.channels != 3:
            arguments.setdefault("in_channels", options.preprocess.channels)
    note = "no file was given: the weights are random"
    label = describe(entry.name, arguments)
    return _Source(entry.make(arguments), label, entry.size, notes=(note,))


def _from_checkpoint(path: Path, options: ModelOptions) -> _Source:
    checkpoint = read_checkpoint(path, trust_pickle=options.trust_pickle)
    if checkpoint.module is not None and options.arch is None:
        return _Source(checkpoint.module.float(), notes=checkpoint.notes)
    if options.arch is None and options.arch_args:
        hint = "name the architecture with [[arch]]"
        raise ConfigError("[[arch_arg]] is of no use without [[arch]]", hint=hint)
    shapes = signature_of(checkpoint.tensors)
    try:
        if options.arch is not None:
            entry, arguments = _named(options, shapes)
            how = ""
        else:
            recognised = recognise(shapes)
            entry, arguments = architecture(recognised.name), dict(recognised.arguments)
            how = "recognised as "
    except InputError as error:
        raise error.at(str(path)) from error
    module = entry.make(arguments)
    notes = (*checkpoint.notes, *_fill(module, checkpoint, path, entry.name))
    label = describe(entry.name, arguments)
    if how or len(arguments) > len(options.arch_args):
        notes += (f"{path.name}: {how or 'read as '}{label}",)
    return _Source(module, label, entry.size, notes=notes)


def _named(
    options: ModelOptions, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[Architecture, dict[str, Argument]]:
    """The architecture that the user named, with what they left open read off the shapes."""
    entry, arguments = architecture(str(options.arch)), parse_arch_args(options.arch_args)
    if entry.source == "factory":
        return entry, arguments
    fit = best_fit(entry, arguments, dict(shapes))
    return entry, dict(fit.arguments) if fit is not None and fit.match.same_names else arguments


def _fill(module: nn.Module, checkpoint: Weights, path: Path, name: str) -> tuple[str, ...]:
    """Copy the weights in; say so when they were not float32."""
    wanted = module.state_dict()
    match = match_signatures(signature_of(checkpoint.tensors), signature_of(wanted))
    if not match.exact:
        message = f"{path}: does not fit [[arch={name}]]: {match.describe()}"
        raise InputError(message, hint="check [[arch]] and [[arch_arg]], or leave both out")
    module.load_state_dict({**wanted, **checkpoint.tensors})
    module.float()
    kinds = {str(t.dtype)[6:] for t in checkpoint.tensors.values() if t.is_floating_point()}
    other = sorted(kinds - {"float32"})
    return (f"weights of {', '.join(other)} were converted to float32",) if other else ()


def _network(opened: _Source, options: ModelOptions, label: str) -> Network:
    shape = _input_shape(opened, options, label)
    model = opened.model
    network = model if isinstance(model, Network) else trace_network(model, torch.zeros(2, *shape))
    preprocess = options.preprocess
    if preprocess is not None:
        if preprocess.channels != shape[0]:
            message = (
                f"{label}: takes images of {shape[0]} channels, "
                f"but the preprocessing has {preprocess.channels}"
            )
            raise InputError(message, hint="give one mean and std per channel of the model")
        network.preprocess = replace(preprocess, size=(shape[1], shape[2]))
    return network


def _input_shape(opened: _Source, options: ModelOptions, label: str) -> tuple[int, ...]:
    """``(C, H, W)``: the size is the options', else the preprocessing's, else the model's."""
    wanted = options.input_size or (options.preprocess.size if options.preprocess else None)
    if opened.shape is not None:
        if len(opened.shape) != 3:
            shape = ", ".join(map(str, ("N", *opened.shape)))
            raise InputError(f"{label}: takes ({shape}), not images (N, C, H, W)")
        size = (opened.shape[1], opened.shape[2])
        if wanted is not None and wanted != size:
            message = f"{label}: takes images of {_pixels(size)}, not {_pixels(wanted)}"
            raise InputError(message, hint="its graph is made for that size")
        return opened.shape
    size = wanted or opened.size
    if size is None:
        message = f"{label}: does not say which size its images have"
        raise ConfigError(message, hint="give [[input_size]]")
    convs = (m for m in opened.model.modules() if isinstance(m, nn.Conv2d))
    return (next((conv.in_channels for conv in convs), _IMAGE_CHANNELS), *size)


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} pixels"


def _check_classes(network: Network, options: ModelOptions, label: str) -> None:
    n_classes = network.n_classes
    if n_classes is None:
        raise InputError(f"{label}: does not return one tensor of logits (N, K)")
    if options.num_classes is not None and n_classes != options.num_classes:
        message = (
            f"{label}: has {n_classes} outputs, but the data has {options.num_classes} classes"
        )
        raise InputError(message, hint="use data and a model with the same number of classes")
