"""Names that went, and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["moved_names"]


def _same(section: str, *names: str) -> dict[str, str]:
    """Names that are the same in a section now."""
    return {name: f"{section}.{name}".lstrip(".") for name in names}


_TRAINING = {
    **_same("training", "schedule", "label_smoothing", "temperature", "grad_clip", "ema"),
    **_same("training", "compile", "optimizer"),
    **_same("data", "subset", "validation"),
    "distill": "training.distill_weight",
    "alpha": "training.distill_weight",
    "recalibrate": "recalibrate_batches",
}
_MOVED: Mapping[str, Mapping[str, str]] = {
    "prune": {
        **_TRAINING,
        **_same("", "min_width", "keep_streams", "allocation", "per_cost", "shrink"),
        **_same("sparse", "focus"),
        **_same("saliency", "samples"),
        "latency_batch": "latency.batch_sizes",
        "augment_samples": "saliency.augment",
        "sparse_lr": "sparse.lr",
        "regularizer_axis": "sparse.regularizer.axis",
        "strength": "sparse.regularizer.strength",
        "strength_ratio": "sparse.regularizer.ratio",
        "rounds": "rounds.count",
        "recovery_epochs": "rounds.epochs",
        "refit": "refit_images",
    },
    "grow": {
        **_TRAINING,
        **_same("", "patience", "wiring", "teacher_order", "gain", "per_cost", "polish_lr"),
        **_same("data", "views"),
        **{f"seed_{own}": f"seed_network.{own}" for own in ("share", "width", "epochs", "lr")},
        **{f"seed_{own}": f"seed_model.{own}" for own in ("arch", "arch_arg")},
    },
    "eval": {
        **_same("gates", "max_params_ratio", "max_macs_ratio", "max_bytes_ratio", "latency_device"),
        **_same("session", "output", "threads", "engine_cache"),
        **_same("reports", "samples"),
        "input_layout": "session.layout",
        "cuda_option": "session.cuda.NAME",
        "latency_budget": "paired.budget_s",
    },
    "export": {**_same("precision", "calibration_samples"), **_same("format", "target")},
}


def moved_names(command: str) -> Mapping[str, str]:
    """Return the path of each setting of a command whose flag went, by the flag's name.

    Example:
        >>> moved_names("prune")["grad_clip"]
        'training.grad_clip'
    """
    return _MOVED.get(command, {})
