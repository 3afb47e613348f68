"""The reference of all metrics in Markdown, from the code that tells them and the boards and rules that read them.

python -m sundog_operator.metrics_reference                    print it
python -m sundog_operator.metrics_reference --write PATH ...   write it
python -m sundog_operator.metrics_reference --check PATH ...   fail where a file is not what the code says

Of what HAProxy, Ray and vLLM tell it names those that the chart's boards and rules use, and must name no other.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import yaml
from prometheus_client import Metric as Family
from prometheus_client.metrics import MetricWrapperBase

from sundog_operator.api.generated import run
from sundog_operator.core.autoscaling import METRICS
from sundog_operator.core.load import Metric
from sundog_operator.core.telemetry import Objective, Telemetry
from sundog_operator.custom_metrics.answers import API_VERSION, PATH, RESOURCE
from sundog_operator.http_server import HELP
from sundog_operator.metrics import Metrics

_FILES: Final = Path(__file__).resolve().parents[2] / "charts" / "sundog" / "files"
_HEAD: Final = """# Metrics

<!-- Made from operator/sundog_operator by `python -m sundog_operator.metrics_reference`; change it there. -->

How to collect them, and what to look at: [observability](../observability.md).
"""
_UNITS: Final[Mapping[Metric, str]] = {
    Metric.ONGOING_REQUESTS: "requests",
    Metric.WAITING_REQUESTS: "requests",
    Metric.KV_CACHE_UTILIZATION: "share, 0 to 1",
    Metric.TOKENS_PER_SECOND: "tokens per second",
}
_OF_OTHERS: Final[Mapping[str, tuple[str, str]]] = {
    "haproxy_backend_queue_time_average_seconds": (
        "seconds",
        "What the last 1,024 requests waited in the router, on average.",
    ),
    "haproxy_backend_redispatch_warnings_total": ("requests", "Requests that were sent to another replica."),
    "haproxy_backend_retry_warnings_total": ("attempts", "Connections that were tried again."),
    "haproxy_frontend_http_requests_total": ("requests", "Requests of clients, where `proxy` is `api`."),
    "haproxy_frontend_http_responses_total": ("answers", "Answers to clients by `code` (2xx, 4xx, 5xx, …)."),
    "haproxy_server_current_sessions": ("requests", "Requests of a router that a replica works on."),
    "ray_vllm_e2e_request_latency_seconds": ("seconds", "From a request's arrival in the engine to its last token."),
    "ray_vllm_generation_tokens_total": ("tokens", "Tokens that were generated."),
    "ray_vllm_inter_token_latency_seconds": ("seconds", "From one token of an answer to the next."),
    "ray_vllm_prompt_tokens_total": ("tokens", "Tokens of prompts."),
    "ray_vllm_time_to_first_token_seconds": ("seconds", "From a request's arrival in the engine to its first token."),
}
# One of everything, so that each metric comes with its labels.
_EXAMPLE: Final = Telemetry(
    namespace="",
    name="",
    desired_replicas=0,
    ready_replicas=0,
    max_replicas=0,
    revisions=0,
    conditions=(("", "", ""),),
    objectives=(Objective(name="", seconds=0, bound="", share=0),),
    last_scaling=("", 0),
    head_state_is_volatile=False,
)


def reference() -> str:
    """Return the page.

    Raises:
        LookupError: a board or rule uses a metric that is not explained here, or one is explained that none uses.
    """
    return "\n".join((_HEAD, *_operator(), *_loads(), *_custom(), *_others(), *_recorded()))


def _operator() -> Iterator[str]:
    yield "## Of the operator\n"
    yield (
        "Port 8080, `/metrics`, of every process of the operator. `sundog_llmdeployment_…` and "
        "`sundog_lease_transitions` come from the one that leads. Beside them stand `process_…`: processor, memory and "
        "file descriptors of the process, as every Prometheus client tells them.\n"
    )
    metrics = Metrics()
    metrics.tell_resources(lambda: [_EXAMPLE])
    metrics.tell_lease(lambda: 0)
    labels: dict[str, Iterable[str]] = {
        # The client library keeps a metric's labels to itself, and without a value it shows none.
        family.name: each._labelnames  # noqa: SLF001
        for each in vars(metrics).values()
        if isinstance(each, MetricWrapperBase)
        for family in each.describe()
    }
    families = [family for family in metrics.registry.collect() if family.name.startswith("sundog_")]
    yield "| metric | type | labels | |\n|---|---|---|---|"
    for family in sorted(families, key=lambda family: family.name):
        names = labels.get(family.name) or family.samples[0].labels
        yield f"| `{_shown(family)}` | {family.type} | {_code(names)} | {family.documentation} |"
    yield ""


def _shown(family: Family) -> str:
    return f"{family.name}_total" if family.type == "counter" else family.name


def _loads() -> Iterator[str]:
    yield "## Load\n"
    yield (
        "Port 8080, `/metrics/loads`, from the process that leads. One value for all replicas of all revisions; what "
        "cannot be measured in whole is left out. `/loads/<namespace>/<name>` has the same as JSON, under the names "
        "without `sundog_llmdeployment_`.\n"
    )
    yield "| metric | unit | labels | |\n|---|---|---|---|"
    for metric in Metric:
        labels = _code(("namespace", "name"))
        yield f"| `sundog_llmdeployment_{metric}` | {_UNITS[metric]} | {labels} | {HELP[metric]} |"
    yield ""


def _custom() -> Iterator[str]:
    yield "## For a HorizontalPodAutoscaler\n"
    yield (
        f"`{API_VERSION}`, which the operator serves through the API server, of the object `{RESOURCE}`. "
        "`spec.autoscaling` makes a HorizontalPodAutoscaler that asks for them; one of your own names them in "
        "`metrics[].object.metric.name`.\n"
    )
    yield "| metric | `spec.autoscaling.metrics[].type` | unit | target of the HorizontalPodAutoscaler | measured by |"
    yield "|---|---|---|---|---|"
    for written, metric in METRICS.items():
        target = "`Value`" if metric == Metric.KV_CACHE_UTILIZATION else "`AverageValue`"
        by = "routers" if metric.is_of_routers else "replicas"
        yield f"| `{metric}` | `{written}` | {_UNITS[metric]} | {target} | {by} |"
    example = f"{PATH}/namespaces/default/{RESOURCE}/qwen3/{Metric.ONGOING_REQUESTS}"
    yield "\nValues are quantities to a thousandth: `42`, `300m`.\n"
    yield f"    kubectl get --raw {example}\n"


def _others() -> Iterator[str]:
    used = _used()
    if used != set(_OF_OTHERS):
        raise LookupError(f"_OF_OTHERS and the boards differ in {sorted(used ^ set(_OF_OTHERS))}")
    yield "## Of routers and replicas, as boards and rules use them\n"
    yield (
        "HAProxy's, on port 8404 of the routers, and vLLM's as Ray carries them, on port 8080 of the workers. Both "
        "tell many more. The chart's PodMonitor adds the labels `name`, `component` and `revision`. A histogram has "
        "`_bucket` and `_count` behind its name; its `_sum` is an approximation of Ray's.\n"
    )
    yield "| metric | unit | |\n|---|---|---|"
    yield from (f"| `{name}` | {unit} | {text} |" for name, (unit, text) in _OF_OTHERS.items())
    yield ""


def _used() -> set[str]:
    files = (*sorted((_FILES / "dashboards").glob("*.json")), _FILES / "rules.yaml")
    words = {word for file in files for word in re.findall(r"\b(?:haproxy|ray)_[a-z0-9_]+", file.read_text("utf-8"))}
    return {re.sub(r"_(?:bucket|count|sum)$", "", word) for word in words}


def _recorded() -> Iterator[str]:
    yield "## Recorded by rules\n"
    yield (
        "By `monitoring.prometheusRule` of the chart, for each LLMDeployment (labels `namespace`, `name`); "
        "`sundog:slo_missed:…` also for each `objective`.\n"
    )
    rules = yaml.safe_load((_FILES / "rules.yaml").read_text("utf-8"))
    names = dict.fromkeys(rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule)
    yield from (f"- `{name}`" for name in names)
    yield ""


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    sys.exit(run(reference(), module="sundog_operator.metrics_reference", arguments=sys.argv[1:]))
