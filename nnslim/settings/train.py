"""What a training run does, as one value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from nnslim.distill import LossConfig
from nnslim.errors import ConfigError

__all__ = ["Precision", "Schedule", "TrainConfig"]

Schedule = Literal["cosine", "one-cycle"]
Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run, except the network and the data.

    The defaults fine-tune a pruned CIFAR ResNet for ten epochs at batch size 128.

    Attributes:
        epochs: Passes over the training data; 0 trains nothing.
        lr: Peak learning rate.
        optimizer: ``sgd`` or ``adamw``.
        momentum: Of SGD, in [0, 1); the first beta of AdamW.
        weight_decay: L2 decay of weights of two or more dimensions (convolution, linear). Biases
            and normalisation parameters are not decayed.
        nesterov: Whether momentum is Nesterov's.
        schedule: See ``nnslim.train.learning_rate``.
        warmup_fraction: Part of all steps in which the learning rate rises, in [0, 1).
        label_smoothing: In [0, 1).
        distill_weight: Share of the teacher in the loss, in [0, 1]; used only where there is one.
        temperature: Of the distillation; positive.
        grad_clip: Largest norm of the whole gradient; None does not clip.
        precision: ``fp32``, or autocast to ``bf16`` or ``fp16`` (``fp16`` not on the CPU). Weights
            and optimiser state stay float32.
        ema: Decay of the average of the weights that is evaluated and returned, such as 0.999;
            None returns the last weights.
        compile: Whether ``torch.compile`` compiles the step; ``auto`` does where it pays.
        cuda_graph: Whether the step runs as a CUDA graph where it can (one GPU, not ``fp16``, not
            compiled): the same kernels, launched at once.
        seed: Of what the training itself draws (dropout); the loader has its own.

    Raises:
        ConfigError: A value is outside its range.

    Example:
        >>> TrainConfig(epochs=2, lr=0.1).schedule
        'cosine'
    """

    epochs: int = 10
    lr: float = 0.05
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    nesterov: bool = True
    schedule: Schedule = "cosine"
    warmup_fraction: float = 0.1
    label_smoothing: float = 0.0
    distill_weight: float = 0.5
    temperature: float = 4.0
    grad_clip: float | None = None
    precision: Precision = "fp32"
    ema: float | None = None
    compile: bool | Literal["auto"] = "auto"
    cuda_graph: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if problem := self._problem():
            raise ConfigError(f"training configuration: {problem}")
        _ = self.loss

    @property
    def loss(self) -> LossConfig:
        """The part of the configuration that the loss needs."""
        return LossConfig(self.label_smoothing, self.distill_weight, self.temperature)

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return asdict(self)

    def _problem(self) -> str | None:
        checks = {
            f"epochs must be 0 or more, got {self.epochs}": self.epochs >= 0,
            f"lr must be positive and at most 1e6, got {self.lr}": 0 < self.lr <= 1e6,
            f"momentum must be in [0, 1), got {self.momentum}": 0 <= self.momentum < 1,
            f"weight_decay must be 0 or more, got {self.weight_decay}": self.weight_decay >= 0,
            "nesterov needs a momentum above 0": self.momentum > 0 or not self.nesterov,
            f"optimizer must be sgd or adamw, got {self.optimizer}": self.optimizer
            in ("sgd", "adamw"),
            f"schedule must be cosine or one-cycle, got {self.schedule}": self.schedule
            in ("cosine", "one-cycle"),
            f"warmup_fraction must be in [0, 1), got {self.warmup_fraction}": 0
            <= self.warmup_fraction
            < 1,
            f"grad_clip must be positive, got {self.grad_clip}": self.grad_clip is None
            or self.grad_clip > 0,
            f"precision must be fp32, bf16 or fp16, got {self.precision}": self.precision
            in ("fp32", "bf16", "fp16"),
            f"ema must be in (0, 1), got {self.ema}": self.ema is None or 0 < self.ema < 1,
            f"compile must be true, false or auto, got {self.compile}": self.compile
            in (True, False, "auto"),
            f"seed must be 0 or more, got {self.seed}": self.seed >= 0,
        }
        return next((problem for problem, holds in checks.items() if not holds), None)
