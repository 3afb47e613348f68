"""The fake engine's metrics under vLLM's names: on its own `/metrics`, and inside Ray on the node's metrics port.

There a colon is an underscore and `ray_` stands in front (`ray_vllm_time_to_first_token_seconds`), as with vLLM's own
loggers; so a board can be tried without a GPU.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import ray
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as PlainHistogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from ray.util.metrics import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from sundog_serving.fake import FakeEngine

# vLLM's own (vllm/v1/metrics/buckets.py, 0.32): what is asked of one engine must be answered by the other.
BUCKETS: Final = {
    "time_to_first_token_seconds": (
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0),
        *(80.0, 160.0, 640.0, 2560.0),
    ),
    "inter_token_latency_seconds": (
        *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
    ),
    "e2e_request_latency_seconds": (
        *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0),
        *(960.0, 1920.0, 7680.0),
    ),
}
_LABELS: Final = ("model_name", "engine")


class FakeMetrics:
    """What one fake engine tells."""

    def __init__(self, engine: "FakeEngine") -> None:
        self._engine = engine
        self._labels = {"model_name": engine.description.model, "engine": "0"}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._plain = {
            name: PlainHistogram(f"vllm:{name}", name, _LABELS, registry=self._registry, buckets=buckets).labels(
                **self._labels
            )
            for name, buckets in BUCKETS.items()
        }
        self._ray = _RayMetrics(self._labels) if ray.is_initialized() else None

    def observe(self, name: str, seconds: float) -> None:
        """Add to one of the histograms."""
        self._plain[name].observe(seconds)
        if self._ray:
            self._ray.histograms[name].observe(seconds, self._labels)

    def generated(self) -> None:
        """Count a token, inside Ray; the engine itself counts them for its `/metrics`."""
        if self._ray:
            self._ray.generation_tokens.inc(1, self._labels)

    def prompted(self, tokens: int) -> None:
        """Count the tokens of a prompt, inside Ray."""
        if self._ray and tokens:
            self._ray.prompt_tokens.inc(tokens, self._labels)

    def load_changed(self) -> None:
        """Tell Ray how many requests there are."""
        if self._ray:
            for name, value in self._load().items():
                self._ray.gauges[name].set(value, self._labels)

    def text(self) -> bytes:
        """Give them in Prometheus' text format."""
        return generate_latest(self._registry)

    def _load(self) -> dict[str, float]:
        load = self._engine.load()
        return {
            "num_requests_running": load.running,
            "num_requests_waiting": load.waiting,
            "kv_cache_usage_perc": load.kv_cache_utilization,
        }

    def collect(self) -> Iterable[Metric]:
        """Give the engine's state, as prometheus_client asks for it."""
        counted = {
            "prompt_tokens": self._engine.prompt_tokens_total,
            "generation_tokens": self._engine.generation_tokens_total,
        }
        families: list[tuple[type[GaugeMetricFamily | CounterMetricFamily], dict[str, float]]] = [
            (GaugeMetricFamily, self._load()),
            (CounterMetricFamily, {name: float(value) for name, value in counted.items()}),
        ]
        for kind, values in families:
            for name, value in values.items():
                family = kind(f"vllm:{name}", name, labels=_LABELS)
                family.add_metric(list(self._labels.values()), value)
                yield family


class _RayMetrics:
    """The same, as Ray carries them."""

    def __init__(self, labels: dict[str, str]) -> None:
        keys = tuple(labels)
        self.histograms = {
            name: Histogram(f"vllm_{name}", name, boundaries=list(buckets), tag_keys=keys)
            for name, buckets in BUCKETS.items()
        }
        self.gauges = {
            name: Gauge(f"vllm_{name}", name, tag_keys=keys)
            for name in ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
        }
        self.generation_tokens = Counter("vllm_generation_tokens", "generation_tokens", tag_keys=keys)
        self.prompt_tokens = Counter("vllm_prompt_tokens", "prompt_tokens", tag_keys=keys)
