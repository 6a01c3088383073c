"""Which channels of a network belong together (docs/explanation/channel-groups.md)."""

from __future__ import annotations

from nnslim.channels.footprints import ChannelGroup, Member
from nnslim.channels.groups import ChannelMap, channel_groups
from nnslim.channels.streams import residual_streams

__all__ = [
    "ChannelGroup",
    "ChannelMap",
    "Member",
    "channel_groups",
    "residual_streams",
]
