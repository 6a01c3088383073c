"""Names that went, and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["moved_names"]

_TRAINING = {
    "schedule": "training.schedule",
    "label_smoothing": "training.label_smoothing",
    "distill": "training.distill_weight",
    "alpha": "training.distill_weight",
    "temperature": "training.temperature",
    "grad_clip": "training.grad_clip",
    "ema": "training.ema",
    "compile": "training.compile",
    "optimizer": "training.optimizer",
    "recalibrate": "recalibrate_batches",
    "subset": "data.subset",
    "validation": "data.validation",
}
_PRUNE = {
    "latency_batch": "latency.batch_sizes",
    "samples": "saliency.samples",
    "augment_samples": "saliency.augment",
    "sparse_lr": "sparse.lr",
    "regularizer_axis": "sparse.regularizer.axis",
    "strength": "sparse.regularizer.strength",
    "strength_ratio": "sparse.regularizer.ratio",
    "focus": "sparse.focus",
    "rounds": "rounds.count",
    "recovery_epochs": "rounds.epochs",
    "refit": "refit_images",
    "min_width": "min_width",
    "keep_streams": "keep_streams",
    "allocation": "allocation",
    "per_cost": "per_cost",
    "shrink": "shrink",
}
_GROW = {
    "patience": "patience",
    "seed_share": "seed_network.share",
    "seed_width": "seed_network.width",
    "seed_epochs": "seed_network.epochs",
    "seed_lr": "seed_network.lr",
    "wiring": "wiring",
    "teacher_order": "teacher_order",
    "gain": "gain",
    "per_cost": "per_cost",
    "polish_lr": "polish_lr",
    "views": "data.views",
    "seed_arch": "seed_model.arch",
    "seed_arch_arg": "seed_model.arch_arg",
}
_EVAL = {
    "max_params_ratio": "gates.max_params_ratio",
    "max_macs_ratio": "gates.max_macs_ratio",
    "max_bytes_ratio": "gates.max_bytes_ratio",
    "latency_device": "gates.latency_device",
    "input_layout": "session.layout",
    "output": "session.output",
    "threads": "session.threads",
    "latency_budget": "paired.budget_s",
    "samples": "reports.samples",
    "cuda_option": "session.cuda.NAME",
    "engine_cache": "session.engine_cache",
}
_EXPORT = {"calibration_samples": "precision.calibration_samples", "target": "format.target"}


def moved_names(command: str) -> Mapping[str, str]:
    """Return the path of each setting of a command whose flag went, by the flag's name.

    Example:
        >>> moved_names("prune")["grad_clip"]
        'training.grad_clip'
    """
    return {
        "prune": _TRAINING | _PRUNE,
        "grow": _TRAINING | _GROW,
        "eval": _EVAL,
        "export": _EXPORT,
    }.get(command, {})
