"""Classification losses, from labels, from a teacher's logits, or both (Hinton et al., 2015).

Shapes: N images, K classes.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from nnslim.errors import ConfigError
from nnslim.settings.train import LossConfig

__all__ = ["classification_loss", "distillation_loss"]


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
        >>> import torch; from nnslim.settings.train import LossConfig
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
