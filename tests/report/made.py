"""Reports of made-up runs."""

from __future__ import annotations

import copy
import math

STATE = {
    "params": 1000,
    "macs": 50_000,
    "bytes": 4000,
    "top1_pct": None,
    "top5_pct": None,
    "n_images": None,
}


def group(
    name: str = "conv1", before: int = 8, kept: tuple[int, ...] = (0, 1, 2, 5), **changes: object
) -> dict:
    made = {
        "name": name,
        "layers": [name, f"{name}_bn", "conv2", "conv3"],
        "status": "free",
        "reason": None,
        "width_before": before,
        "width_after": len(kept),
        "kept": list(kept),
        "tensors": [{"name": f"{name}.weight", "dim": 0, "start": 0, "positions_per_channel": 1}],
    }
    return made | changes


def frozen(name: str = "head", width: int = 4, reason: str = "network output") -> dict:
    return group(name, width, tuple(range(width)), status="frozen", reason=reason)


def plan() -> dict:
    """A dry run."""
    return copy.deepcopy(
        {
            "schema": "nnslim.prune/2",
            "before": STATE,
            "after": STATE | {"params": 480, "macs": 21_000, "bytes": 1920},
            "groups": [
                group(),
                group("conv2", 6, tuple(range(6)), reason="kept on request"),
                frozen(),
            ],
            "model": {
                "source": "net.pt",
                "sha256": "0" * 64,
                "arch": "cifar_resnet20",
                "parameters": 1000,
                "classes": ["a", "b", "c", "d"],
                "preprocess": None,
                "notes": ["the architecture was recognised"],
            },
            "settings": {
                "limits": {"params": {"amount": 0.5, "relative": True}},
                "keep": ["conv2"],
            },
        }
    )


def cut_only() -> dict:
    """A run without data."""
    return plan() | {
        "data": None,
        "check": {
            "error": 1.3e-15,
            "float32_noise": 7e-7,
            "n_values": 76,
            "largest_removed_activation": 7.71,
            "worst_node": "batch_norm_17",
            "tolerance": 1e-9,
            "rounds": 1,
        },
        "training": [],
        "stages": [],
        "latency_search": None,
        "alignment": None,
        "onnx": None,
        "warnings": ["no data: accuracy was neither measured nor recovered"],
        "versions": {"nnslim": "0.1.0", "torch": "2.14.1"},
    }


def whole(epochs: int = 3) -> dict:
    """A run with data, fine-tuning and export."""
    report = cut_only()
    report["before"] |= {
        "top1_pct": 91.73,
        "top5_pct": 99.71,
        "n_images": 10_000,
    }
    report["after"] |= {
        "top1_pct": 90.41,
        "top5_pct": 99.62,
        "n_images": 10_000,
    }
    report["data"] = {
        "name": "cifar10",
        "notes": ["val: split off"],
        "train": 45_000,
        "val": 5000,
        "test": 10_000,
    }
    report["training"] = [
        {
            "epoch": n + 1,
            "stage": "sparse" if n == 0 and epochs > 3 else "tuned",
            "loss": math.exp(-n),
            "train_top1_pct": 90.0 + n,
            "val_top1_pct": 89.0 + n if n != 1 else None,
            "lr": 0.05 / (n + 1),
            "seconds": 41.2,
        }
        for n in range(epochs)
    ]
    report["latency"] = [
        {
            "batch_size": 1,
            "ratio": 0.562,
            "low": 0.55,
            "high": 0.574,
            "parent_ms": 0.73,
            "candidate_ms": 0.41,
        }
    ]
    stages = (
        ("dense", 0, 1000, 92.1, 91.73),
        ("cut", 1, 480, 40.2, 38.2),
        ("calibrated", 1, 480, 73.0, 71.3),
        ("tuned", 1, 480, 90.9, 90.41),
    )
    report["stages"] = [
        {
            "stage": stage,
            "round": n,
            "params": params,
            "macs": 50 * params,
            "top1_pct": top1,
            "val_top1_pct": val,
            "taken_back": False,
        }
        for stage, n, params, val, top1 in stages
    ]
    report["onnx"] = {
        "path": "model.onnx",
        "opset": 20,
        "parity": {"max_rel": 4.1e-7},
        "top1_pct": 90.41,
    }
    report["warnings"] = []
    return report
