"""A real Prometheus, Debian's, with the chart's rules, that scrapes as the chart's PodMonitors say."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp.test_utils import unused_port

from tests.chart.rendering import CHART, of_kind
from tests.cluster import packages

RULES = CHART / "files" / "rules.yaml"
PATIENCE = 60.0
WORKLOADS = ("router", "worker")


def program(name: str) -> Path:
    """`prometheus` or `promtool`."""
    return packages.unpacked("prometheus") / "usr" / "bin" / name


def promtool(*arguments: str | Path) -> str:
    """Run promtool; fails with what it says."""
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def snake(value: Any) -> Any:
    """Turn the words of a PodMonitor into those of Prometheus' own configuration."""
    if isinstance(value, dict):
        return {re.sub(r"([A-Z])", lambda m: f"_{m[1].lower()}", key): snake(entry) for key, entry in value.items()}
    return [snake(entry) for entry in value] if isinstance(value, list) else value


def scrapes(ports: Mapping[str, int], *, namespace: str, name: str) -> list[dict[str, Any]]:
    """Make scrape configurations out of the PodMonitors, with what Kubernetes would have told of the pods."""
    operator, workloads = of_kind("PodMonitor", "--set=monitoring.podMonitor.enabled=true")
    made = []
    for endpoint in operator["spec"]["podMetricsEndpoints"]:
        target = {
            "targets": [f"127.0.0.1:{ports['operator']}"],
            "labels": {"namespace": "sundog-system", "pod": "operator-0"},
        }
        made.append({"endpoint": endpoint, "targets": [target]})
    for component in WORKLOADS:
        labels = {
            "namespace": namespace,
            "pod": f"{name}-{component}-0",
            "__meta_kubernetes_pod_label_sundog_dev_llmdeployment": name,
            "__meta_kubernetes_pod_label_sundog_dev_component": component,
            "__meta_kubernetes_pod_label_sundog_dev_revision": "" if component == "router" else "1a2b3c4d",
        }
        target = {"targets": [f"127.0.0.1:{ports[component]}"], "labels": labels}
        made.append({"endpoint": workloads["spec"]["podMetricsEndpoints"][0], "targets": [target]})
    return [
        {
            "job_name": f"job-{number}",
            "metrics_path": each["endpoint"]["path"],
            "honor_labels": each["endpoint"].get("honorLabels", False),
            "relabel_configs": snake(each["endpoint"].get("relabelings", [])),
            "metric_relabel_configs": snake(each["endpoint"].get("metricRelabelings", [])),
            "static_configs": each["targets"],
        }
        for number, each in enumerate(made)
    ]


@dataclass(slots=True)
class Prometheus:
    """A running one."""

    client: aiohttp.ClientSession

    async def get(self, path: str, **parameters: str) -> Any:
        """Ask its API."""
        async with self.client.get(f"/api/v1/{path}", params=parameters) as answer:
            document = await answer.json()
            assert document["status"] == "success", document
            return document["data"]

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """Evaluate an expression now."""
        found: list[dict[str, Any]] = (await self.get("query", query=expression))["result"]
        return found


@asynccontextmanager
async def running(folder: Path, scrape_configs: list[dict[str, Any]]) -> AsyncIterator[Prometheus]:
    """Start it, and wait until it has scraped everything several times."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": scrape_configs,
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    promtool("check", "config", folder / "prometheus.yml")
    port = unused_port()
    command = [
        str(program("prometheus")),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("w") as log:
        process = await asyncio.create_subprocess_exec(*command, cwd=folder, stdout=log, stderr=log)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            prometheus = Prometheus(client)
            async with asyncio.timeout(PATIENCE):
                while not await _has_scraped(prometheus, len(scrape_configs)):
                    assert process.returncode is None, (folder / "log").read_text()
                    await asyncio.sleep(0.2)
            yield prometheus
    finally:
        process.terminate()
        await process.wait()


async def _has_scraped(prometheus: Prometheus, targets: int) -> bool:
    try:
        counted = await prometheus.query("count(count_over_time(up[5m]) >= 4)")
        evaluated = await prometheus.query("count(sundog:slo_missed:ratio6h)")
    except (aiohttp.ClientError, json.JSONDecodeError, AssertionError):
        return False
    return bool(counted and evaluated) and int(counted[0]["value"][1]) == targets
