"""What the operator is told when it starts; the chart writes it into the environment of its pod."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PREFIX = "SUNDOG_"


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the variable and the cure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of the operator. Each is an environment variable `SUNDOG_<NAME>`."""

    namespace: str = "sundog-system"
    """The operator's own namespace: its Lease and its master key live there."""
    watch_namespaces: tuple[str, ...] = ()
    """Comma-separated; empty means all."""
    identity: str = "sundog-operator-0"
    """Of this process among the operator's replicas: the pod's name."""
    cluster_domain: str = "cluster.local"
    serving_image: str = "sundog-dev/sundog-serving:0.1.0"
    """Of head and workers, where `spec.engine.image` is empty."""
    router_image: str = "haproxy:3.2-alpine"
    image_pull_policy: str = "IfNotPresent"
    head_url_template: str = "http://{service}.{namespace}.svc.{cluster_domain}:8265"
    """Where the operator reaches a head's REST API."""
    pod_url_template: str = "http://{address}:{port}"
    """Where the operator reaches a port of a router or a replica."""
    http_port: int = 8080
    """Of health, metrics, loads and the page."""
    page_public: bool = False
    """Whether the page is shown to everyone who reaches that port, and not only through `kubectl port-forward`."""
    metrics_service: str = ""
    """The Service in front of that port, by which KEDA asks for loads; empty: there is none."""
    custom_metrics_service: str = ""
    """The Service in front of the custom metrics API, in the operator's own namespace; empty: it is not served."""
    custom_metrics_service_port: int = 443
    custom_metrics_port: int = 8443
    """Where the operator itself listens for it."""
    custom_metrics_owner: str = ""
    """A ClusterRole that goes when Sundog is uninstalled, and the APIService with it."""
    custom_metrics_take_over: bool = False
    """Whether the APIService of another metrics adapter is replaced."""
    log_level: str = "INFO"
    lease_seconds: int = 15
    """How long a Lease holds when its holder stops renewing."""
    start_seconds: int = 60
    """How long to wait at the start for an API server that does not answer, before giving up."""


def from_environment(environment: Mapping[str, str]) -> Config:
    """Read the configuration.

    Raises:
        ConfigError: a value cannot be used.
    """

    def text(name: str, default: str) -> str:
        return environment.get(PREFIX + name, "") or default

    def number(name: str, default: int) -> int:
        raw = environment.get(PREFIX + name, "")
        try:
            return int(raw) if raw else default
        except ValueError:
            raise ConfigError(f"{PREFIX}{name} is {raw!r}, which is not a whole number") from None

    def boolean(name: str, *, default: bool) -> bool:
        raw = environment.get(PREFIX + name, "").lower()
        if raw not in {"", "true", "false"}:
            raise ConfigError(f"{PREFIX}{name} is {raw!r}, which is neither true nor false")
        return raw == "true" if raw else default

    default = Config()
    return Config(
        namespace=text("NAMESPACE", default.namespace),
        watch_namespaces=tuple(n.strip() for n in text("WATCH_NAMESPACES", "").split(",") if n.strip()),
        identity=text("IDENTITY", default.identity),
        cluster_domain=text("CLUSTER_DOMAIN", default.cluster_domain),
        serving_image=text("SERVING_IMAGE", default.serving_image),
        router_image=text("ROUTER_IMAGE", default.router_image),
        image_pull_policy=text("IMAGE_PULL_POLICY", default.image_pull_policy),
        head_url_template=text("HEAD_URL_TEMPLATE", default.head_url_template),
        pod_url_template=text("POD_URL_TEMPLATE", default.pod_url_template),
        http_port=number("HTTP_PORT", default.http_port),
        page_public=boolean("PAGE_PUBLIC", default=default.page_public),
        metrics_service=text("METRICS_SERVICE", default.metrics_service),
        custom_metrics_service=text("CUSTOM_METRICS_SERVICE", default.custom_metrics_service),
        custom_metrics_service_port=number("CUSTOM_METRICS_SERVICE_PORT", default.custom_metrics_service_port),
        custom_metrics_port=number("CUSTOM_METRICS_PORT", default.custom_metrics_port),
        custom_metrics_owner=text("CUSTOM_METRICS_OWNER", default.custom_metrics_owner),
        custom_metrics_take_over=boolean("CUSTOM_METRICS_TAKE_OVER", default=default.custom_metrics_take_over),
        log_level=text("LOG_LEVEL", default.log_level).upper(),
        lease_seconds=number("LEASE_SECONDS", default.lease_seconds),
        start_seconds=number("START_SECONDS", default.start_seconds),
    )
