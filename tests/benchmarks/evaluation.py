"""``make bench-eval``: is onnxruntime kept busy while accuracy is measured?

    python -m tests.benchmarks.evaluation [--images 300] [--workers 0,1] [--models resnet18,...]

Networks with random weights, on images of CIFAR's size in memory and on a folder of JPEG files of
256 to 400 pixels. ``decode`` is what an image costs without a network, ``run`` what it costs in
onnxruntime without decoding; ``in turns`` waits for each batch, as ``ahead`` no longer does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import nn

from nnslim.cli.output import Output
from nnslim.data import Augment, Data, Loader, Preprocess, Split, load_data
from nnslim.measure.accuracy import onnx_accuracy
from nnslim.measure.overlap import Stopwatch
from nnslim.measure.scoring import images_per_run, score
from nnslim.models.cifar import CifarResNet
from nnslim.network import trace_network
from nnslim.onnx import Session, export_onnx, open_session
from nnslim.report import Table
from nnslim.settings.eval import EvalSettings
from nnslim.settings.session import SessionSettings

CLASSES = 10
LARGE = Preprocess((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), resize=256)
MODELS = "cifar_resnet20,mobilenet_v3_small,resnet18,resnet50"


def main() -> None:
    """Print a row for every network and number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--images", type=int, default=300, help="JPEG files; 10 times as many small"
    )
    parser.add_argument("--workers", default="0,1", help="processes that decode; 0 is a thread")
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--folder", type=Path, help="take these JPEG files, in class folders")
    args = parser.parse_args()
    rows: list[list[str]] = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        large = load_data(str(args.folder or _jpegs(place / "jpeg", args.images)))
        small = _small(10 * args.images)
        for model in args.models.split(","):
            data = small if model.startswith("cifar") else large
            path = _exported(model, data, place)
            for workers in map(int, args.workers.split(",")):
                if workers == 0 or data is large:
                    rows.append([model, *_measured(path, data, workers)])
                    Output().info("  ".join(rows[-1]))
    heads = ["network", "images", ">workers", ">decode ms", ">run ms", ">images/s in turns"]
    heads += [">ahead", ">onnxruntime busy, %"]
    threads = SessionSettings().n_threads
    title = f"accuracy in onnxruntime on {threads} cores, onnxruntime with as many threads"
    Output().result({"rows": rows}, Table.of(title, heads, rows))


def _measured(path: Path, data: Data, workers: int) -> Iterator[str]:
    chosen = data.preprocess
    settings = EvalSettings(SessionSettings("cpu"), workers=workers)
    size = images_per_run(settings, chosen)
    session = open_session(path, SessionSettings(device="cpu", batch=size))
    loader = Loader(data.test, chosen, size)
    images, _ = next(iter(loader))
    count = len(data.test)
    decode = _seconds(loader) / count
    run = min(_run_seconds(session, images.numpy()) for _ in range(3)) / size
    watch = Stopwatch()
    onnx_accuracy(session, loader, CLASSES, watch)
    in_turns = count / watch.total_s
    found = score(session, data, settings, chosen)
    kind = f"{count:,} x {chosen.size[0]} px"
    yield from (kind, str(workers), f"{1e3 * decode:.2f}", f"{1e3 * run:.2f}")
    yield from (f"{in_turns:.0f}", f"{found.images_per_s:.0f}", f"{100 * found.busy:.0f}")


def _seconds(loader: Loader) -> float:
    begin = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - begin


def _run_seconds(session: Session, images: np.ndarray) -> float:
    begin = time.perf_counter()
    session.run(images)
    return time.perf_counter() - begin


def _exported(name: str, data: Data, place: Path) -> Path:
    torch.manual_seed(0)
    made: nn.Module
    if name.startswith("cifar_resnet"):
        made = CifarResNet(int(name.removeprefix("cifar_resnet")))
    else:
        made = getattr(torchvision.models, name)(num_classes=CLASSES)
    network = trace_network(made.eval(), torch.zeros(2, 3, *data.preprocess.size))
    return export_onnx(network, place / f"{name}.onnx").path


def _small(count: int) -> Data:
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (count, 32, 32, 3), np.uint8)
    split = Split(np.arange(count) % CLASSES, pixels)
    preprocess = Preprocess((32, 32), LARGE.mean, LARGE.std)
    names = tuple(str(number) for number in range(CLASSES))
    return Data("small", names, preprocess, {"test": split}, Augment(pad=0, flip=False))


def _jpegs(folder: Path, count: int) -> Path:
    """Smooth random images: their files are as large as those of photographs of this size."""
    generator = np.random.default_rng(0)
    for number in range(count):
        height, width = (int(side) for side in generator.integers(256, 400, 2))
        coarse = Image.fromarray(generator.integers(0, 256, (32, 32, 3), np.uint8))
        place = folder / "test" / str(number % CLASSES)
        place.mkdir(parents=True, exist_ok=True)
        image = coarse.resize((width, height), Image.Resampling.BICUBIC)
        image.save(place / f"{number}.jpg", quality=90)
    return folder


if __name__ == "__main__":
    main()
