"""What others need for the same: measured once, on two cores, with Kubernetes 1.37.1, KWOK, one head and three workers.

Another machine has other seconds; requests and writes are the same everywhere, and so, about, are the ratios.
"""

from __future__ import annotations

from typing import Final

NAMES: Final = ("KubeRay RayCluster", "KubeRay RayService", "kthena", "KubeAI")
RESOURCES: Final = 500
"""Where the number matters: latency, restart, memory."""

CREATION_CALLS: Final = ("11 (4)", "24 (9)", "13-14 (4)", "11 (0)")
CREATION_CPU: Final = ("11 ms", "26 ms", "10 ms", "18 ms")
IDLE_REQUESTS: Final = ("0; 0", "0; 3,560", "0; 0", "360 in all")
IDLE_CPU: Final = ("16 ms", "1,700 ms", "1.2 ms", "270 ms")
REACTION: Final = ("2.3 / 5.0 ms", "2.6 / 13 ms", "1.6 / 2.9 ms", "2.6 s")
CROWDED: Final = ("1.4-1.9 s; 7 ms", "-", "10 ms", "-")
"""While one makes 299 pods. KubeRay's two: with 1 and with 10 reconciles at a time."""
RESTART: Final = ("0", "500 PUTs, 500 Events", "501 statuses, 1,050 Events", "-")
MEMORY: Final = ("137-148 MB", "191 MB", "100 MB", "-")

FIGURES: Final = {
    "creation calls": CREATION_CALLS,
    "creation CPU": CREATION_CPU,
    "idle requests": IDLE_REQUESTS,
    "idle CPU": IDLE_CPU,
    "reaction": REACTION,
    "crowded": CROWDED,
    "restart": RESTART,
    "memory": MEMORY,
}
