"""Where a run computes, and how its processes agree.

Read first: `devices.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medtrans.utils.lazy import lazy_names

if TYPE_CHECKING:
    from medtrans.distributed.devices import distributed_session, single_device_fabric
    from medtrans.distributed.launch import launch_ranks, needs_launch
    from medtrans.distributed.ranks import Ranks
    from medtrans.distributed.signals import EndRequest, end_requests

__all__ = [
    "EndRequest",
    "Ranks",
    "distributed_session",
    "end_requests",
    "launch_ranks",
    "needs_launch",
    "single_device_fabric",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "EndRequest": "signals",
            "Ranks": "ranks",
            "distributed_session": "devices",
            "end_requests": "signals",
            "launch_ranks": "launch",
            "needs_launch": "launch",
            "single_device_fabric": "devices",
        },
    )
