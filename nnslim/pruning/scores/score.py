"""The scores of a network's channels as a run is configured: which images, which saliency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnslim.channels.magnitude import magnitude
from nnslim.data import Loader, Sampling, stratified_indices
from nnslim.errors import ConfigError
from nnslim.pruning.scores.jacobian import jacobian
from nnslim.pruning.scores.measured import measured
from nnslim.pruning.scores.taylor import taylor

if TYPE_CHECKING:
    from nnslim.channels import ChannelMap
    from nnslim.data import Data, Preprocess
    from nnslim.network.network import Network
    from nnslim.pruning.scores.measured import Scores
    from nnslim.settings.prune import PruneConfig, SaliencyConfig
    from nnslim.sink import Sink

__all__ = ["score_channels"]


def score_channels(
    network: Network, channels: ChannelMap, data: Data | None, config: PruneConfig, sink: Sink
) -> Scores:
    """Score every channel that is not frozen, ``(width,)`` by group; low goes first.

    Raises:
        ConfigError: The saliency needs images and there are none.
    """
    saliency = config.saliency
    if saliency.kind == "magnitude":
        return magnitude(network, channels)
    if data is None:
        raise ConfigError(
            f"[[saliency.kind={saliency.kind}]] measures on images and there are none",
            hint="give [[data]], or [[saliency.kind=magnitude]]",
        )
    preprocess = network.preprocess or data.preprocess
    batches = list(_sample(data, preprocess, saliency, config.seed))
    if saliency.kind == "taylor":
        return taylor(network, channels, batches)
    if saliency.kind == "jacobian":
        return jacobian(network, channels, batches, seed=config.seed)
    total = sum(group.width for group in channels.prunable)
    label = f"measuring {total} channels on {min(saliency.samples, len(data.train))} images"
    with sink.progress(label, total * len(batches)) as progress:
        done = 0

        def advance(now: int, _: int) -> None:
            nonlocal done
            progress.advance(now - done)
            done = now

        return measured(network, channels, batches, saliency.kind, advance)


def _sample(data: Data, preprocess: Preprocess, saliency: SaliencyConfig, seed: int) -> Loader:
    """Random training images, every class with its share."""
    chosen = stratified_indices(
        data.train.labels, min(saliency.samples, len(data.train)), seed=seed
    )
    augment = data.augment if saliency.augment else None
    split = data.train.subset(chosen)
    order = Sampling(shuffle=True, seed=seed)
    return Loader(split, preprocess, saliency.batch_size, sampling=order, augment=augment)
