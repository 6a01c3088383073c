"""``nnslim eval``: accuracy, latency and size of what would ship, and gates on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nnslim.cli import options
from nnslim.cli.options import command_output, option

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nnslim.cli.inputs import ModelFlags
    from nnslim.data import Data
    from nnslim.measure import EvalFile
    from nnslim.sink import Sink

__all__ = ["eval_command"]


def eval_command(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            help="Models or result folders: .onnx is measured as it is, others are exported first.",
        ),
    ],
    data: options.Data = None,
    baseline: Annotated[
        Path | None,
        option(help="One more file to compare with; no gate applies to it.", metavar="FILE"),
    ] = None,
    batch_size: Annotated[
        str, option(help="Images per run to measure latency with, such as 1,32.", metavar="N,N")
    ] = "1",
    min_top1: Annotated[
        float | None, option(help="Fail below this top-1 accuracy, in percent.", min=0, max=100)
    ] = None,
    max_drop: Annotated[
        float | None,
        option(
            help="Fail where the file may lose more top-1 accuracy than this against --baseline, "
            "in points: the upper end of the 95 % interval counts.",
            metavar="POINTS",
        ),
    ] = None,
    max_latency_ratio: Annotated[
        float | None,
        option(help="Fail where latency is surely above this share of the baseline's.", min=0),
    ] = None,
    max_latency_ms: Annotated[
        float | None, option(help="Fail above this median latency.", min=0)
    ] = None,
    max_params: Annotated[
        str | None,
        option(help="Fail above this number of parameters, such as 140k.", metavar="N"),
    ] = None,
    max_macs: Annotated[
        str | None, option(help="Fail above this number of multiply-adds.", metavar="N")
    ] = None,
    max_bytes: Annotated[
        str | None, option(help="Fail above this size of the ONNX file.", metavar="N")
    ] = None,
    max_params_ratio: Annotated[
        float | None, option(help="Fail above this share of the baseline's parameters.", min=0)
    ] = None,
    max_macs_ratio: Annotated[
        float | None, option(help="Fail above this share of its multiply-adds.", min=0)
    ] = None,
    max_bytes_ratio: Annotated[
        float | None, option(help="Fail above this share of its size.", min=0)
    ] = None,
    latency_device: Annotated[
        Literal["any", "cpu", "cuda"],
        option(help="Where limits on latency are meant; elsewhere they are skipped."),
    ] = "any",
    strict: Annotated[
        bool, option("--strict", help="Fail where a gate is inconclusive or skipped, too.")
    ] = False,
    report: Annotated[
        list[Path] | None,
        option(
            help="Write the result here too: .json, .md, .xml (JUnit) or .html; repeatable.",
            metavar="PATH",
        ),
    ] = None,
    input_layout: Annotated[
        Literal["auto", "NCHW", "NHWC"],
        option(help="Where channels are in the input of an .onnx file that does not say."),
    ] = "auto",
    output: Annotated[
        str | None,
        option(help="The logits of an .onnx file with several outputs.", metavar="NAME"),
    ] = None,
    threads: Annotated[
        int | None,
        option(help="Threads on the CPU; without it, one per core.", min=1, metavar="N"),
    ] = None,
    latency_budget: Annotated[
        float,
        option(
            help="Seconds for each file's latency against the baseline, at each batch size; it "
            "ends earlier once the interval is within 1 %.",
            min=0,
            metavar="SECONDS",
        ),
    ] = 60.0,
    samples: Annotated[
        Path | None, option(help="Write every timed call to this .npz file.", metavar="FILE")
    ] = None,
    workers: Annotated[
        int | None,
        option(help="Processes that decode image files; without it, by cores.", min=0, metavar="N"),
    ] = None,
    cuda_option: Annotated[
        list[str] | None,
        option(
            help="How CUDA is set up: prefer_nhwc, fuse_conv_bias, graph (0 or 1) and conv_search "
            "(EXHAUSTIVE, HEURISTIC); repeatable.",
            metavar="KEY=VALUE",
        ),
    ] = None,
    engine_cache: Annotated[
        Path | None,
        option(help="Folder where TensorRT keeps its engines.", metavar="DIR"),
    ] = None,
    overwrite: options.Overwrite = False,
    arch: options.Arch = None,
    arch_arg: options.ArchArg = None,
    input_size: options.InputSize = None,
    mean: options.Mean = None,
    std: options.Std = None,
    trust_pickle: options.TrustPickle = False,
    download: options.Download = False,
    device: options.Device = "auto",
    require_gpu: options.RequireGpu = False,
    seed: options.Seed = 0,
    json: options.Json = False,
    config: options.Config = None,
    verbose: options.Verbose = False,
    quiet: options.Quiet = False,
    no_progress: options.NoProgress = False,
    version: options.Version = False,
) -> None:
    """Measure accuracy, latency, parameters, multiply-adds and size in onnxruntime."""
    with command_output(context) as sink:
        from nnslim.cli.eval_output import check_reports, publish, write_reports
        from nnslim.cli.inputs import ModelFlags, PreprocessFlags, open_data
        from nnslim.errors import ConfigError
        from nnslim.measure import EvalSettings, Gates, check_gates, evaluate
        from nnslim.measure.paired import PairedSettings
        from nnslim.measure.samples import check_samples, write_samples
        from nnslim.measure.scoring import decoding_workers
        from nnslim.onnx.cuda import CudaOptions
        from nnslim.report.eval_tables import evaluation_tables, speed_notes, warning_lines
        from nnslim.settings.parse import parse_count, parse_counts

        limits = Gates(
            min_top1,
            max_drop,
            max_latency_ratio,
            max_latency_ms,
            parse_count(max_params, "--max-params") if max_params else None,
            parse_count(max_macs, "--max-macs") if max_macs else None,
            parse_count(max_bytes, "--max-bytes") if max_bytes else None,
            max_params_ratio,
            max_macs_ratio,
            max_bytes_ratio,
            None if latency_device == "any" else latency_device,
        )
        if data is None and (min_top1 is not None or max_drop is not None):
            flag = "--min-top1" if min_top1 is not None else "--max-drop"
            raise ConfigError(f"{flag} needs images to measure on", hint="give --data")
        if baseline is None and limits.needs_baseline:
            raise ConfigError(
                f"{limits.needs_baseline} needs something to compare with", hint="give --baseline"
            )
        reports = check_reports(report or [], overwrite=overwrite)
        sample_file = check_samples(samples, overwrite=overwrite) if samples else None
        settings = EvalSettings(
            device=device,
            require_gpu=require_gpu,
            threads=threads,
            batch_sizes=parse_counts(batch_size, "--batch-size"),
            workers=decoding_workers() if workers is None else workers,
            paired=PairedSettings(budget_s=latency_budget, seed=seed),
            seed=seed,
            cuda=CudaOptions.parse(cuda_option or []),
            engine_cache=engine_cache,
            layout=None if input_layout == "auto" else input_layout,
            output=output,
        )
        said = PreprocessFlags(input_size, mean, std)
        images = open_data(data, download=download, seed=seed, sink=sink) if data else None
        flags = ModelFlags(arch, tuple(arch_arg or ()), trust_pickle, said)
        subjects = _subjects(files, baseline, flags, images, sink)
        asked = images is not None or said.names_colours
        preprocess = said.over(images.preprocess if images else None) if asked else None
        n_steps = 2 * len(subjects) + len(settings.batch_sizes)
        n_steps += len(files) if baseline is not None else 0
        with sink.progress("evaluating", n_steps, each=True) as work:
            begun = 0

            def on_step(what: str) -> None:
                nonlocal begun
                work.advance(min(begun, 1), note=what)  # what was begun before is done now
                begun += 1

            found = evaluate(subjects, images, settings, preprocess=preprocess, on_step=on_step)
        gates = [verdict.to_json() for verdict in check_gates(found, limits)]
        document = {**found.to_json(), "gates": gates}
        for warning in warning_lines(document):
            sink.warn(warning)
        known = images.notes if images else ()  # said when the data was opened
        for note in (*(note for note in found.notes if note not in known), *speed_notes(document)):
            sink.info(note)
        sink.result(document, *evaluation_tables(document))
        write_reports(reports, document, overwrite=overwrite)
        if sample_file is not None:
            write_samples(sample_file, found)
        publish(document, sink)
        _require(gates, document, sink, strict=strict)


def _subjects(
    files: list[Path], baseline: Path | None, flags: ModelFlags, data: Data | None, sink: Sink
) -> list[EvalFile]:
    """Open what is not ONNX; ``--arch`` is for the files that do not bring their own graph."""
    from nnslim.cli.inputs import open_model
    from nnslim.measure import EvalFile
    from nnslim.models.formats import file_kind, model_file

    paths = [(model_file(path), False) for path in files]
    if baseline is not None:
        paths.append((model_file(baseline), True))
    subjects: list[EvalFile] = []
    for path, is_baseline in paths:
        kind = file_kind(path)
        brings_graph = kind in ("nnslim", "exported")
        own = flags.without_arch() if brings_graph and len(paths) > 1 else flags
        network = None if kind == "onnx" else open_model(path, own, data, sink).network
        subjects.append(EvalFile(path, baseline=is_baseline, network=network))
    return subjects


def _require(
    gates: Sequence[Mapping[str, object]],
    document: Mapping[str, object],
    sink: Sink,
    *,
    strict: bool,
) -> None:
    """End with exit code 1 where a gate failed; warn of what is unclear, or fail under strict."""
    from nnslim.errors import GateFailedError
    from nnslim.report.eval_tables import gate_sentence

    broken = ("fail", "inconclusive", "skipped") if strict else ("fail",)
    for gate in gates:
        if gate["status"] in ("inconclusive", "skipped"):
            sink.warn(gate_sentence(gate, document))
    failed = [gate_sentence(gate, document) for gate in gates if gate["status"] in broken]
    if failed:
        raise GateFailedError(f"{len(failed)} of {len(gates)} gates failed: {'; '.join(failed)}")
