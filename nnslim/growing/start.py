"""What a run starts from: a seed that fits its teacher and leaves room to grow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnslim.errors import ConfigError, InputError
from nnslim.growing.candidates import absolute_limits, check_room
from nnslim.growing.donor import Donor, choose_donor, largest_first
from nnslim.growing.latency import check_latency
from nnslim.growing.seed import check_fit, check_images, unplanted
from nnslim.measure.macs import count_costs
from nnslim.train.checks import require_finite

if TYPE_CHECKING:
    import torch

    from nnslim.data import Data
    from nnslim.network.network import Network
    from nnslim.settings.budget import Metric
    from nnslim.settings.grow import GrowConfig

__all__ = ["Start", "check_inputs", "choose_start"]


@dataclass(frozen=True)
class Start:
    """What a run starts from."""

    network: Network  # what is planted into
    given: bool  # by the caller, and left as it is; else the narrowed teacher
    limits: Mapping[Metric, int]  # what the grown network may have at most
    donor: Donor | None  # whose channels are planted


def check_inputs(teacher: Network, data: Data, seed: Network | None) -> None:
    """Check that teacher, data and seed can be used, and fit each other.

    Raises:
        InputError: They do not.
    """
    if not data.has("val"):
        raise InputError(
            "growing judges candidates on validation images, and there are none",
            hint="give [[data.validation=500]], or data with val images",
        )
    if teacher.n_classes is None:
        raise InputError("the teacher does not return one (N, K) tensor of logits")
    data.require_classes(teacher.n_classes)
    check_images(teacher, data)
    require_finite(teacher, "the teacher")
    if seed is not None:
        check_fit(seed, teacher)
        require_finite(seed, "the seed")


def choose_start(
    teacher: Network,
    config: GrowConfig,
    device: torch.device,
    seed: Network | None,
    *,
    demanded: bool = False,
) -> Start:
    """Return the seed that is given, or the teacher narrowed to one.

    Latency is measured on the device.

    Raises:
        ConfigError: The budget leaves no room, or the teacher's weights cannot be used although
            that is ``demanded``.
    """
    limits = absolute_limits(config, count_costs(teacher))
    sorts = seed is None and config.teacher_order == "largest"
    ordered = largest_first(teacher.cpu()) if sorts else teacher
    network = unplanted(ordered, config, limits) if seed is None else seed
    check_room(limits, count_costs(network))
    if config.latency is not None:
        check_latency(config.latency, network, teacher, device)
    if config.init != "teacher":
        return Start(network, seed is not None, limits, None)
    donor = choose_donor(ordered, None if seed else network)
    if isinstance(donor, str) and demanded:
        raise ConfigError(f"[[init=teacher]]: {donor}", hint="give [[init=random]]")
    return Start(network, seed is not None, limits, None if isinstance(donor, str) else donor)
