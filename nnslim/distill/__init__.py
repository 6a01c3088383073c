"""Distillation: a small network learns from the outputs of a larger one."""

from __future__ import annotations

from nnslim.distill.losses import classification_loss, distillation_loss

__all__ = ["classification_loss", "distillation_loss"]
