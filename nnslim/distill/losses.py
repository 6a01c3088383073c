"""Classification losses, from labels, from a teacher's logits, or both (Hinton et al., 2015).

Shapes: N images, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch.nn import functional

from nnslim.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["LossConfig", "classification_loss", "distillation_loss"]


@dataclass(frozen=True)
class LossConfig:
    """How much of the loss comes from labels and how much from a teacher.

    Attributes:
        label_smoothing: Probability mass spread evenly over all classes, in [0, 1).
        distill_weight: Share of the distillation loss (alpha), in [0, 1]; the labels get the rest.
            Used only where teacher logits are given.
        temperature: Softens both distributions of the distillation loss; positive.

    Raises:
        ConfigError: A value is outside its range.

    Example:
        >>> LossConfig(distill_weight=0.9, temperature=2.0).label_smoothing
        0.0
    """

    label_smoothing: float = 0.0
    distill_weight: float = 0.0
    temperature: float = 4.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label smoothing must be in [0, 1), got {self.label_smoothing}")
        if not 0 <= self.distill_weight <= 1:
            raise ConfigError(f"distillation weight must be in [0, 1], got {self.distill_weight}")
        if not self.temperature > 0:
            raise ConfigError(f"temperature must be positive, got {self.temperature}")


def distillation_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Return ``T**2 * KL(teacher || student)`` of the softened distributions, averaged over images.

    The factor ``T**2`` keeps the gradient's size independent of T to first order: for a large T it
    tends to ``(student - teacher) / (N * K)`` on centred logits.

    Args:
        student_logits: (N, K); gradients flow here.
        teacher_logits: (N, K); taken as constant.
        temperature: Positive.

    Returns:
        A scalar, computed in at least float32.

    Raises:
        ConfigError: The shapes differ.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[1.0, 0.0]])
        >>> distillation_loss(logits, logits, temperature=2.0).item()
        0.0
    """
    if student_logits.shape != teacher_logits.shape:
        shapes = f"{tuple(student_logits.shape)} and {tuple(teacher_logits.shape)}"
        message = f"student and teacher logits have different shapes, {shapes}"
        raise ConfigError(message, hint="use a teacher with the same classes")
    student = functional.log_softmax(_full(student_logits) / temperature, dim=1)  # (N, K)
    teacher = functional.log_softmax(_full(teacher_logits.detach()) / temperature, dim=1)  # (N, K)
    divergence = functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def classification_loss(
    logits: Tensor, labels: Tensor, teacher_logits: Tensor | None, config: LossConfig
) -> Tensor:
    """Return ``(1 - alpha) * cross-entropy(labels) + alpha * distillation``, averaged over images.

    Without teacher logits it is the (smoothed) cross-entropy alone, whatever alpha is.

    Args:
        logits: (N, K).
        labels: (N,), int64.
        teacher_logits: (N, K), or None.
        config: The shares, the smoothing and the temperature.

    Returns:
        A scalar, computed in at least float32.

    Raises:
        ConfigError: Student and teacher logits have different shapes.

    Example:
        >>> import torch
        >>> loss = classification_loss(torch.zeros(1, 2), torch.tensor([0]), None, LossConfig())
        >>> round(loss.item(), 4)
        0.6931
    """
    alpha = config.distill_weight if teacher_logits is not None else 0.0
    terms: list[Tensor] = []
    if alpha < 1:
        hard = functional.cross_entropy(
            _full(logits), labels, label_smoothing=config.label_smoothing
        )
        terms.append(hard * (1 - alpha))
    if alpha > 0 and teacher_logits is not None:
        terms.append(distillation_loss(logits, teacher_logits, config.temperature) * alpha)
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


def _full(logits: Tensor) -> Tensor:
    """Half-precision logits as float32, others as they are: a softmax needs the range."""
    return logits.float() if logits.itemsize < 4 else logits
