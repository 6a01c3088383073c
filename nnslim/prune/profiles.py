"""How much work a run puts in where nobody says so: three profiles (docs/prune.md has figures)."""

from __future__ import annotations

from dataclasses import dataclass
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
        allocation: See ``Rules``.
        sparse_epochs: Epochs of sparse training.
        rounds: Rounds of removal.
        recovery_epochs: Epochs between two rounds.
        epochs: Epochs of fine-tuning.
    """

    saliency: Saliency
    samples: int
    allocation: Allocation
    sparse_epochs: int
    rounds: int
    recovery_epochs: int
    epochs: int


def profile_named(name: ProfileName) -> Profile:
    """Return a profile.

    Example:
        >>> profile_named("fast").epochs < profile_named("best").epochs
        True
    """
    match name:
        case "fast":
            return Profile("jacobian", 512, "global", 0, 1, 0, 3)
        case "balanced":
            return Profile("jacobian", 512, "global", 0, 1, 1, 13)
        case "best":
            return Profile("jacobian", 512, "even", 0, 1, 1, 30)
