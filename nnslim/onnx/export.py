"""Write a network as one self-contained ONNX file, proven equal to it, or write nothing."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import inspect
import re
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import nn

from nnslim.artifact.replacing import check_place, new_file
from nnslim.errors import ConfigError, ExportMismatchError, UnsupportedModelError
from nnslim.network.network import Network
from nnslim.onnx.model_file import network_metadata, weights_sha256
from nnslim.onnx.parity import DEFAULT_RTOL, Parity, check_parity
from nnslim.onnx.prepare import HalfInside, PixelsIn, images_for, with_plain_attention
from nnslim.report.shown import Shown
from nnslim.settings.export import ExportSettings
from nnslim.version import __version__

__all__ = ["ExportReport", "export_onnx", "weights_sha256"]

_IR_VERSION = 10  # what torch pins; onnxruntime reads it and later ones
_HALF_RTOL = 2e-2


@dataclass(frozen=True, repr=False)
class ExportReport(Shown):
    """What was written.

    Attributes:
        path: The file.
        sha256: Its hash.
        n_bytes: Its size.
        opset: As read back from the file.
        ir_version: As read back from the file.
        n_nodes: Number of operators.
        batch: Fixed number of images per run, or None for any.
        metadata: Properties of the file.
        parity: How close it is to the network.
    """

    path: Path
    sha256: str
    n_bytes: int
    opset: int
    ir_version: int
    n_nodes: int
    batch: int | None
    metadata: Mapping[str, str]
    parity: Parity

    def summary(self) -> str:
        """Say what was written and how close it is to the network."""
        difference = f"largest difference {self.parity.max_rel:.1e}"
        return f"{self.path}: {self.n_bytes:,} bytes, {self.n_nodes} nodes, {difference}"

    @classmethod
    def of(cls, path: Path, parity: Parity, batch: int | None) -> ExportReport:
        """Describe a file as it stands on the disk."""
        content = path.read_bytes()
        model = onnx.load_model_from_string(content)
        return cls(
            path=path,
            sha256=hashlib.sha256(content).hexdigest(),
            n_bytes=len(content),
            opset=next(entry.version for entry in model.opset_import if not entry.domain),
            ir_version=model.ir_version,
            n_nodes=len(model.graph.node),
            batch=batch,
            metadata={entry.key: entry.value for entry in model.metadata_props},
            parity=parity,
        )

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        plain: dict[str, object] = asdict(self)
        return plain | {"path": str(self.path), "parity": self.parity.to_json()}


def export_onnx(
    network: nn.Module, path: Path, *, settings: ExportSettings | None = None
) -> ExportReport:
    """Write ``network`` to ``path``; an existing file is replaced only by a verified one.

    A float32 evaluation copy on the CPU is exported: BatchNorm is folded into convolutions by the
    exporter. The file maps ``input`` (N, C, H, W) to ``logits`` (N, K), all float32; with
    ``with_preprocess`` it takes uint8 (N, H, W, C).

    Args:
        network: Has ``input_shape`` (C, H, W); where it has ``preprocess`` and ``classes``, they
            go into the metadata. It is not changed.
        path: Where to write.
        settings: Opset, batch and metadata.

    Raises:
        UnsupportedModelError: The network holds something that ONNX cannot express, has other
            inputs or outputs, or weights beyond float16.
        ConfigError: The preprocessing is to be inside and is not known.
        ExportMismatchError: onnxruntime computes something else, or the batch is hard-coded.
        InputError: ``path`` cannot be written.
    """
    settings = settings or ExportSettings()
    check_place(path)
    reference, exported = _modules(network, settings)
    precision = "float16" if settings.half else "float32"
    metadata = network_metadata(network, precision=precision, pixels=settings.with_preprocess)
    content = _finish(_to_onnx(exported, settings), metadata | dict(settings.provenance))
    with new_file(path) as temporary:
        temporary.write_bytes(content)
        _read_back(temporary, settings)
        parity = _prove(reference, temporary, settings)
        report = ExportReport.of(temporary, parity, settings.batch)
    return replace(report, path=path)


def _modules(network: nn.Module, settings: ExportSettings) -> tuple[nn.Module, nn.Module]:
    """The float32 copy that the file is compared with, and the module that is exported."""
    frozen = copy.deepcopy(network).cpu().float().eval()
    if isinstance(frozen, Network):
        _check_ends(frozen)
        frozen = with_plain_attention(frozen).eval()
    reference = _with_pixels(frozen, network, settings)
    if not settings.half:
        return reference, reference
    half = HalfInside(copy.deepcopy(frozen), frozen.input_shape)  # pyright: ignore
    return reference, _with_pixels(half, network, settings)


def _with_pixels(inner: nn.Module, network: nn.Module, settings: ExportSettings) -> nn.Module:
    """Put the normalisation of ``network`` before ``inner``, where that was asked for."""
    if not settings.with_preprocess:
        return inner
    preprocess = getattr(network, "preprocess", None)
    if preprocess is None:
        raise ConfigError("how pixels become inputs is not known", hint="give [[mean]] and [[std]]")
    return PixelsIn(inner, preprocess, network.input_shape)  # pyright: ignore


def _to_onnx(frozen: nn.Module, settings: ExportSettings) -> ir.Model:
    frozen = frozen.eval()
    example = images_for(frozen, settings.batch or 2)
    try:
        # Some of torch.onnx's messages go to stdout even with verbose=False.
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            # torch 2.11 warns of what it does itself.
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
            program = torch.onnx.export(
                frozen,
                (example,),
                input_names=["input"],
                output_names=["logits"],
                dynamic_shapes=None if settings.batch else _any_batch(frozen),
                opset_version=settings.opset,
                dynamo=True,
                optimize=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise _explain(error) from error
    assert program is not None  # only dynamo=False returns None
    _adopt_constants(program.model)
    return program.model


def _adopt_constants(model: ir.Model) -> None:
    """Put constants back that the exporter's optimizer lost from the graph's list.

    It names the bounds of a fused ``Clip`` after the input; two on one input take one name.
    """
    for node in model.graph.all_nodes():
        for value in node.inputs:
            lost = value is not None and value.producer() is None and not value.is_initializer()
            if value is not None and lost and value.const_value is not None:
                model.graph.register_initializer(value)


def _any_batch(network: nn.Module) -> tuple[object, ...]:
    """Mark the batch as free; ``forward(*inputs)`` wants one more level."""
    (first, *_) = inspect.signature(network.forward).parameters.values()
    batch = {0: "batch"}
    return ((batch,),) if first.kind is inspect.Parameter.VAR_POSITIONAL else (batch,)


def _explain(error: BaseException) -> UnsupportedModelError:
    """Name the innermost error: torch's summary is a page of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    if fixed := re.search(r"inferred a static shape of (\d+)", str(error)):
        message = f"the network hard-codes its batch: it works for {fixed.group(1)} images only"
        return UnsupportedModelError(
            message, hint="make it take any number, or export a fixed batch"
        )
    lines = (line.strip() for line in str(error).splitlines())
    cause = next((line for line in lines if line), type(error).__name__)
    return UnsupportedModelError(f"the network cannot be written as ONNX: {cause[:300]}")


def _finish(model: ir.Model, metadata: Mapping[str, str]) -> bytes:
    """Serialise without the stack traces, which name the files of this machine."""
    ClearMetadataAndDocStringPass()(model)
    model.metadata_props.clear()
    model.metadata_props.update(metadata)  # onnx_ir writes them in the order of keys
    model.ir_version = _IR_VERSION
    model.producer_name, model.producer_version = "nnslim", __version__
    return ir.to_proto(model).SerializeToString(deterministic=True)


def _prove(frozen: nn.Module, path: Path, settings: ExportSettings) -> Parity:
    batches = (1, 2, 5) if settings.batch is None else (settings.batch,)
    rtol = settings.rtol or (_HALF_RTOL if settings.half else DEFAULT_RTOL)
    try:
        return check_parity(frozen, path, batches, rtol=rtol, seed=settings.seed)
    except ExportMismatchError as error:
        message = error.message.replace(str(path), "the exported file")
        hint = error.hint or "nothing was written; please report this network"
        raise ExportMismatchError(message, hint=hint) from error


def _read_back(path: Path, settings: ExportSettings) -> None:
    """Check the written bytes: valid, and of the versions that were asked for."""
    try:
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        first_line = str(error).partition("\n")[0]
        raise ExportMismatchError(f"the exported file is not valid ONNX: {first_line}") from error
    model = onnx.load_model(path, load_external_data=False)
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if versions != {"": settings.opset} or model.ir_version != _IR_VERSION:
        actual = f"opsets {versions}, IR {model.ir_version}"
        raise ExportMismatchError(f"asked for opset {settings.opset}, the file has {actual}")


def _check_ends(network: Network) -> None:
    n_inputs = len(network.graph.inputs)
    if n_inputs == 1 and network.n_classes is not None:
        return
    ends = f"{n_inputs} inputs" if n_inputs > 1 else "no single output of shape (N, K)"
    raise UnsupportedModelError(
        f"the network has {ends}; what is written maps one batch of images to logits",
        hint="a network is a torch module: torch.onnx.export takes it as it is",
    )
