"""How much work a run puts in where nobody says so: three profiles (docs/prune.md has figures)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from nnslim.prune.rules import Allocation
    from nnslim.prune.saliency import Saliency

__all__ = ["Profile", "ProfileName", "profile_named"]

ProfileName: TypeAlias = Literal["fast", "balanced", "best"]


@dataclass(frozen=True)
class Profile:
    """Settings that cost time and buy accuracy.

    Attributes:
        saliency: How channels are scored.
        samples: Images to score on.
        allocation: See ``PruneConfig``.
        keep_streams: Whether residual streams stay whole.
        sparse_epochs: Epochs of sparse training.
        rounds: Rounds of removal.
        recovery_epochs: Epochs between two rounds.
        epochs: Epochs of fine-tuning.
        alpha: Share of the teacher in its loss.
    """

    saliency: Saliency
    samples: int
    allocation: Allocation
    keep_streams: bool
    sparse_epochs: int
    rounds: int
    recovery_epochs: int
    epochs: int
    alpha: float


def profile_named(name: ProfileName) -> Profile:
    """Return a profile.

    Example:
        >>> profile_named("fast").epochs < profile_named("best").epochs
        True
    """
    balanced = Profile(
        saliency="jacobian",
        samples=512,
        allocation="global",
        keep_streams=False,
        sparse_epochs=0,
        rounds=1,
        recovery_epochs=1,
        epochs=13,
        alpha=0.5,
    )
    match name:
        case "fast":
            return replace(balanced, recovery_epochs=0, epochs=3)
        case "balanced":
            return balanced
        case "best":
            cut = replace(balanced, saliency="magnitude", allocation="even", keep_streams=True)
            return replace(cut, epochs=30, alpha=0.9)
