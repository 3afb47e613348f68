"""Every drain and grace time, derived from the longest request.

The order is what keeps a stream whole: whoever stops first must wait for whoever stops last. A replica that drains is
given up by Serve after `serve_graceful_shutdown`, a Ray node that was told to end waits `ray_drain` for its replicas,
and the kubelet kills what is left after `worker_grace`. Serve stops the replica of such a node when its successor runs,
or when only `serve_graceful_shutdown` is left of `ray_drain`: it has `move` for the successor to load.
"""

from __future__ import annotations

from dataclasses import dataclass

PRE_STOP_SECONDS = 10
"""A router goes on accepting for so long after its pod was told to end: kube-proxy on every node must hear of it."""

MOVE_SECONDS = 600
"""How long a replica whose pod was told to end, as by `kubectl drain`, serves on while its successor loads elsewhere: a
large model from a disk takes minutes. It goes as soon as the successor runs; only where that finds no place is it all
used up, and the drain of the node takes so much longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds, all of them."""

    request: int
    """The longest request (`spec.requestTimeoutSeconds`)."""
    serve_graceful_shutdown: int
    """Serve: how long a stopping replica may still answer."""
    ray_drain: int
    """Ray: how long a node that was told to end waits for what runs on it."""
    worker_grace: int
    """Kubernetes: until the worker pod is killed."""
    router_hard_stop: int
    """HAProxy: how long a router that was told to end may still carry streams; also that of Ray's own proxy."""
    router_grace: int
    """Kubernetes: until the router pod is killed."""
    pre_stop: int = PRE_STOP_SECONDS


def timeouts(request_timeout_seconds: int) -> Timeouts:
    """Derive all times from the longest request, each with a margin over the one it must outlast."""
    request = request_timeout_seconds
    return Timeouts(
        request=request,
        serve_graceful_shutdown=request + 15,
        ray_drain=request + 30 + MOVE_SECONDS,
        worker_grace=request + 60 + MOVE_SECONDS,
        router_hard_stop=request + 15,
        router_grace=request + PRE_STOP_SECONDS + 30,
    )
