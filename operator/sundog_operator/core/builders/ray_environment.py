"""The environment of head and workers: the same on both but for what the table at the end says."""

from __future__ import annotations

from typing import Any

from sundog_operator.core import names
from sundog_operator.core.resolve import Resolved

GCS_FOLDER = "/gcs"
# Measured with Ray 2.60. HAProxy mode on the head only: there it holds requests at zero; on a worker it would close the
# replica's port while its streams still run, and the liveness probe would end them. A head that is told to end waits
# this long whatever it does, since Serve's controller lives on it.
_BY_COMPONENT = {
    names.HEAD: {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "1"},
    # Ray keeps the output of a replica in files of its own; `kubectl logs` is where a person looks for it.
    names.WORKER: {
        "RAY_SERVE_ENABLE_HA_PROXY": "0",
        "SUNDOG_CONTAINER_LOG": "/proc/1/fd/1",
        # The replica's process is there, with its modules, when Serve asks for it: a second less from zero to a token.
        "RAY_enable_worker_prestart": "1",
        "RAY_preload_python_modules": "sundog_serving.app",
    },
}


def ray_environment(resolved: Resolved, component: str) -> list[dict[str, Any]]:
    """Environment variables of a Ray node's container, in the order of a manifest: ours, then the person's own."""
    times = resolved.timeouts
    plain = {
        "HOME": "/tmp",  # noqa: S108 an emptyDir: the root file system is read-only
        "USER": "sundog",  # Ray and vLLM ask for a user name; uid 1000 has none in most images
        "RAY_AUTH_MODE": "token",
        # Replicas listen themselves, on one known port that is free again at once; the router finds them there.
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(names.REPLICA_PORT),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(names.REPLICA_PORT + 1),
        "RAY_SERVE_PORT_QUARANTINE_S": "0",
        # A draining replica says 503 for at least so long: three health checks of the router.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3",
        # Ray's own proxy cuts streams after any change of replicas when this is shorter than they are.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(times.router_hard_stop),
        # An engine whose process died answers quick 500s: it must not be asked to stop gracefully.
        "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
        # The head's state survives its pod, and workers wait for a head that comes back instead of ending after 60 s.
        "RAY_gcs_storage": "rocksdb",
        "RAY_gcs_storage_path": GCS_FOLDER,
        "RAY_gcs_rpc_server_reconnect_timeout_s": "600",
        # A worker waits for a head whose pod is still to come instead of ending and being backed off.
        "RAY_NUM_REDIS_GET_RETRIES": "600",
        "RAY_metrics_report_interval_ms": "1000",
        # A raylet that is quicker than its own object store tries again after a whole second by default, ten times.
        "RAY_raylet_client_connect_timeout_milliseconds": "50",
        "RAY_raylet_client_num_connect_attempts": "200",
        # By Ray's default (15) a replica is the last to get a processor of its own pod.
        "RAY_worker_niceness": "0",
        # vLLM's logging configuration closes Serve's log handler; a head that comes back then stops every replica.
        "VLLM_CONFIGURE_LOGGING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HOME": names.CACHE_MOUNT,
        **_BY_COMPONENT[component],
    }
    if component == names.WORKER:
        plain["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] = str(times.ray_drain)
    environment: list[dict[str, Any]] = [{"name": name, "value": value} for name, value in plain.items()]
    environment += [
        _from_secret("RAY_AUTH_TOKEN", resolved.token_secret, "ray"),
        _from_secret(names.REPLICA_TOKEN_VARIABLE, resolved.token_secret, "replica"),
    ]
    if token := resolved.spec.model.token_secret_ref:
        environment.append(_from_secret("HF_TOKEN", token.name, token.key))
    by_name = {variable["name"]: variable for variable in environment}
    for own in resolved.spec.engine.env:
        by_name[own.name] = own.manifest()
    return list(by_name.values())


def _from_secret(variable: str, secret: str, key: str) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
