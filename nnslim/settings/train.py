"""What a training run does, as one value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from nnslim.errors import ConfigError
from nnslim.settings.option import AUTO, flag, option
from nnslim.settings.tree import Checked, check_fields

__all__ = ["LossConfig", "Precision", "Schedule", "TrainConfig"]

Schedule = Literal["cosine", "one-cycle"]
Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True)
class TrainConfig(Checked, panel="Training", section="training."):
    """Everything that decides a training run, except the network and the data.

    The learning rate rises over the warm-up and falls with ``schedule``
    (``nnslim.train.learning_rate``). Biases and normalisation parameters are never decayed.
    Weights and optimiser state stay float32 whatever the precision of the arithmetic.

    Example:
        >>> TrainConfig(epochs=2, lr=0.1).schedule
        'cosine'
    """

    epochs: int = flag(
        AUTO,
        "Epochs of training; 0 trains nothing.",
        low=0,
        auto="by profile; while growing 15, or 2 for a single group",
    )
    lr: float = flag(AUTO, "Peak learning rate.", above=0, high=1e6, auto="by optimizer")
    optimizer: Literal["sgd", "adamw"] = option(AUTO, "Optimizer.", auto="by what is trained")
    momentum: float = option(0.9, "Momentum of SGD; the first beta of AdamW.", low=0, below=1)
    weight_decay: float = option(
        5e-4, "L2 decay of the weights of convolutions and linear layers.", low=0
    )
    nesterov: bool = option(True, "Use Nesterov's momentum.")
    schedule: Schedule = option("cosine", "Course of the learning rate over the training.")
    warmup_fraction: float = option(
        0.1, "Part of all steps in which the learning rate rises.", low=0, below=1
    )
    label_smoothing: float = option(0.0, "Label smoothing of the cross-entropy.", low=0, below=1)
    distill_weight: float = option(
        AUTO,
        "Share of the teacher in the loss; labels get the rest, 0 trains without a teacher.",
        low=0,
        high=1,
        auto="by profile; while growing 0.5",
    )
    temperature: float = option(4.0, "Temperature of the distillation.", above=0)
    grad_clip: float | None = option(
        None, "Largest norm of the whole gradient; none does not clip.", above=0
    )
    precision: Precision = flag(
        "fp32", "Precision of the training's arithmetic; fp16 not on the CPU."
    )
    ema: float | None = option(
        None,
        "Decay of an average of the weights that is evaluated and kept, such as 0.999.",
        above=0,
        below=1,
    )
    compile: bool | Literal["auto"] = option(
        AUTO, "Compile the training step.", auto="where it pays; while growing no"
    )
    cuda_graph: bool = option(True, "Run the training step as a CUDA graph where it can.")
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum > 0:
            raise ConfigError("[[training.nesterov]] needs a [[training.momentum]] above 0")
        if self.seed < 0:
            raise ConfigError(f"[[seed={self.seed}]]: must be at least 0")

    @property
    def loss(self) -> LossConfig:
        """The part of the configuration that the loss needs."""
        return LossConfig(self.label_smoothing, self.distill_weight, self.temperature)

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class LossConfig:
    """The part of a training's configuration that its loss needs.

    Attributes:
        label_smoothing: In [0, 1).
        distill_weight: Share of the teacher in the loss, in [0, 1]; the labels get the rest.
        temperature: Of the distillation; positive.

    Raises:
        ConfigError: A value is outside its range.

    Example:
        >>> LossConfig(distill_weight=0.5).label_smoothing
        0.0
    """

    label_smoothing: float = 0.0
    distill_weight: float = 0.0
    temperature: float = 4.0

    def __post_init__(self) -> None:
        check_fields(self, like=TrainConfig)
