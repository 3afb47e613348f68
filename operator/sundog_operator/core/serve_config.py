"""The config that is PUT to a head: one application with one deployment, whose replicas are engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sundog_operator.core import names
from sundog_operator.core.adapters import lora_arguments, user_config
from sundog_operator.core.resolve import Resolved

# The routers bound what a replica is given and what the head holds; Serve's own limits must never be met, or it answers
# 503 in their place.
MAX_ONGOING_REQUESTS = 16384
MAX_QUEUED_REQUESTS = -1
# Health is asked for often: an engine whose process died answers quick 500s until Serve has noticed.
HEALTH_CHECK_PERIOD_SECONDS = 3
HEALTH_CHECK_TIMEOUT_SECONDS = 15


def serve_config(resolved: Resolved, *, replicas: int, attempt: int = 0) -> dict[str, Any]:
    """Build the body of `PUT /api/serve/applications/`.

    `replicas` must be the current target: a PUT with another number sets it back. Serve refuses 0 here, so a target of
    zero is PUT as 1 and then scaled. `attempt` counts the starts that failed for good: Serve tries one again only when
    the arguments differ, and any change of them restarts every replica, so it stays what it is afterwards.
    """
    parallelism = resolved.spec.parallelism
    engine_args = dict(resolved.spec.engine.args)
    if parallelism.tensor > 1:
        engine_args["tensor-parallel-size"] = parallelism.tensor
    if parallelism.pipeline > 1:
        engine_args["pipeline-parallel-size"] = parallelism.pipeline
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": "0.0.0.0", "port": names.HEAD_PROXY_PORT},  # noqa: S104 a pod's own address
        "logging_config": {"enable_access_log": False},
        "applications": [
            {
                "name": names.APPLICATION,
                "route_prefix": "/",
                "import_path": "sundog_serving.app:build",
                "external_scaler_enabled": True,
                "args": {
                    "engine": resolved.spec.engine.name,
                    "model": {
                        "uri": resolved.model.uri,
                        "path": resolved.model.path,
                        "revision": resolved.spec.model.revision,
                        "name": resolved.served_name,
                    },
                    "engine_args": engine_args,
                    "request_timeout_seconds": resolved.timeouts.request,
                    **lora_arguments(resolved),
                    **({"attempt": attempt} if attempt else {}),
                },
                "deployments": [
                    {
                        "name": names.DEPLOYMENT,
                        **user_config(resolved),
                        "num_replicas": max(replicas, 1),
                        "max_ongoing_requests": MAX_ONGOING_REQUESTS,
                        "max_queued_requests": MAX_QUEUED_REQUESTS,
                        "graceful_shutdown_timeout_s": resolved.timeouts.serve_graceful_shutdown,
                        "graceful_shutdown_wait_loop_s": 1,
                        "health_check_period_s": HEALTH_CHECK_PERIOD_SECONDS,
                        "health_check_timeout_s": HEALTH_CHECK_TIMEOUT_SECONDS,
                        "ray_actor_options": {
                            "num_cpus": 1,
                            "num_gpus": resolved.gpus,
                            "resources": {names.REPLICA_RESOURCE: 1},
                        },
                    }
                ],
            }
        ],
    }


def attempt_of(deployed: Mapping[str, Any] | None) -> int:
    """Which attempt a head runs, by the application's config as it echoes it."""
    attempt = ((deployed or {}).get("args") or {}).get("attempt", 0)
    return attempt if isinstance(attempt, int) else 0


def is_deployed(wanted: Mapping[str, Any], deployed: Mapping[str, Any] | None) -> bool:
    """Whether a head already runs this application, whatever the number of replicas.

    `deployed` is what the head echoes of the application; it adds fields of its own, which don't count.
    """
    if deployed is None:
        return False
    application = wanted["applications"][0]
    return _contains(deployed, _without_count(application))


def _without_count(application: Mapping[str, Any]) -> dict[str, Any]:
    deployments = [
        {key: value for key, value in deployment.items() if key != "num_replicas"}
        for deployment in application["deployments"]
    ]
    return {**application, "deployments": deployments}


def _contains(whole: Any, part: Any) -> bool:
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(_contains(whole.get(key), value) for key, value in part.items())
    if isinstance(part, list):
        return (
            isinstance(whole, list)
            and len(whole) == len(part)
            and all(_contains(a, b) for a, b in zip(whole, part, strict=True))
        )
    return bool(whole == part)
