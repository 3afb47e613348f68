"""A Ray cluster of one head and some workers on this machine, with the settings that pods get.

Each node has a loopback address of its own, so several clusters may run at once. Everything is ended by process id.
"""

import asyncio
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp

from tests.serving.conftest import HEADERS, TOKEN, application_args, eventually

RAY_TOKEN = "0123456789abcdef0123456789abcdef"
SERVING = Path(__file__).parents[2] / "serving"
START_SECONDS = 180  # a busy machine


@dataclass
class Deployed:
    """What the head tells about the application."""

    document: dict[str, Any]

    @property
    def application(self) -> dict[str, Any]:
        found: dict[str, Any] = self.document.get("applications", {}).get("llm", {})
        return found

    @property
    def engine(self) -> dict[str, Any]:
        found: dict[str, Any] = self.application.get("deployments", {}).get("engine", {})
        return found

    @property
    def status(self) -> str:
        return str(self.application.get("status"))

    @property
    def message(self) -> str:
        return str(self.engine.get("message", ""))

    def replicas(self, state: str) -> list[dict[str, Any]]:
        return [replica for replica in self.engine.get("replicas", []) if replica["state"] == state]


@dataclass
class RayCluster:
    """One head and one worker, which holds one replica; as in a pod, there is one port for it."""

    python: str
    folder: Path
    environ: dict[str, str]
    network: str = field(default_factory=lambda: f"127.{random.randint(1, 250)}.{random.randint(0, 250)}")
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ports: list[int] = field(default_factory=lambda: _free_ports(20))
    client: aiohttp.ClientSession = field(default_factory=aiohttp.ClientSession)

    @classmethod
    @asynccontextmanager
    async def running(cls, *, python: str = sys.executable, **environ: str) -> AsyncIterator[Self]:
        with tempfile.TemporaryDirectory(prefix="sr-", ignore_cleanup_errors=True) as folder:
            cluster = cls(python=python, folder=Path(folder), environ=environ)
            try:
                await cluster._start_head()
                await cluster._start_worker()
                yield cluster
            finally:
                await cluster.client.close()
                await asyncio.to_thread(cluster._end)

    @property
    def head_ip(self) -> str:
        return f"{self.network}.2"

    @property
    def dashboard(self) -> str:
        return f"http://127.0.0.1:{self.ports[1]}"

    @property
    def proxy(self) -> str:
        """The head's proxy, which holds requests while there is no replica."""
        return f"http://127.0.0.1:{self.ports[2]}"

    @property
    def replica(self) -> str:
        """The replica's own port."""
        return f"http://127.0.0.1:{self.ports[4]}"

    async def metrics(self) -> str:
        """What the worker node tells Prometheus: Ray's metrics, and by it the engine's."""
        async with self.client.get(f"http://{self.network}.3:{self.ports[15]}/metrics") as response:
            return await response.text()

    def _environ(self, node: str) -> dict[str, str]:
        haproxy = self.folder / "h"  # short: the path of a socket may have 97 characters
        return {
            "PATH": f"{Path(self.python).parent}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "PYTHONPATH": f"{SERVING}",
            "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
            # Only the head has a proxy. On a worker it would close the port in the middle of a drain (Ray 2.60).
            "RAY_SERVE_ENABLE_HA_PROXY": "1" if node == "head" else "0",
            "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(self.ports[4]),
            "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(self.ports[4] + 1),
            # These hold the requests at zero; two heads on one machine would share them, and the requests.
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(self.ports[13]),
            "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(self.ports[14]),
            "RAY_SERVE_PORT_QUARANTINE_S": "0",
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "2",
            "RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS": "1",
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "admin.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(self.ports[9]),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(self.ports[10]),
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "1",
            "RAY_metrics_report_interval_ms": "1000",
            "DASHBOARD_METRIC_PORT": str(self.ports[3]),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": RAY_TOKEN,
            "RAY_USAGE_STATS_ENABLED": "0",
            "SUNDOG_REPLICA_TOKEN": TOKEN,
            "SUNDOG_CONTAINER_LOG": str(self.folder / f"{node}.log"),
            **self.environ,
        }

    def _spawn(self, node: str, *command: str) -> Path:
        log = self.folder / f"{node}.log"
        with log.open("ab") as out:
            common = (
                "--block",
                "--num-gpus=0",
                "--object-store-memory=80000000",
                "--disable-usage-stats",
                "--include-log-monitor=false",
                f"--temp-dir={self.folder / 'ray'}",
            )
            process = subprocess.Popen(
                [self.python, "-m", *command, *common], env=self._environ(node), stdout=out, stderr=out
            )
        self.processes.append(process)
        return log

    async def _start_head(self) -> None:
        log = self._spawn(
            "head",
            "sundog_serving.ray_node",
            "start",
            "--head",
            "--no-monitor",
            "--num-cpus=0",
            f"--node-ip-address={self.head_ip}",
            f"--port={self.ports[0]}",
            "--dashboard-host=127.0.0.1",
            f"--dashboard-port={self.ports[1]}",
            f"--dashboard-agent-listen-port={self.ports[11]}",
            f"--dashboard-agent-grpc-port={self.ports[16]}",
            f"--runtime-env-agent-port={self.ports[17]}",
        )
        await self._started(log)

    async def _start_worker(self) -> None:
        log = self._spawn(
            "worker",
            "sundog_serving.ray_node",
            "start",
            f"--address={self.head_ip}:{self.ports[0]}",
            f"--metrics-export-port={self.ports[15]}",
            "--num-cpus=1",
            '--resources={"sundog_replica": 1}',
            f"--node-ip-address={self.network}.3",
            f"--dashboard-agent-listen-port={self.ports[12]}",
            f"--dashboard-agent-grpc-port={self.ports[18]}",
            f"--runtime-env-agent-port={self.ports[19]}",
        )
        await self._started(log)

    async def _started(self, log: Path) -> None:
        process = self.processes[-1]

        async def text() -> str:
            told = await asyncio.to_thread(log.read_text)
            assert process.poll() is None, f"Ray ended:\n{told[-3000:]}"
            return told

        await eventually(text, lambda told: "Ray runtime started" in told, within_seconds=START_SECONDS)

    def log(self, node: str) -> str:
        return (self.folder / f"{node}.log").read_text()

    async def deploy(self, args: dict[str, Any], *, replicas: int = 1, drain_seconds: float = 30) -> None:
        """PUT the application; what ran before is gone first.

        Otherwise Serve would start a new replica on this node while the one port there is still the old one's, and give
        up after three tries.
        """
        if (await self.deployed()).engine.get("replicas"):
            await self.scale(0)
            await eventually(self.deployed, lambda now: now.engine["replicas"] == [], within_seconds=START_SECONDS)
        engine = {
            "name": "engine",
            "num_replicas": replicas,
            "max_ongoing_requests": 1000,
            "max_queued_requests": -1,
            "graceful_shutdown_timeout_s": drain_seconds,
            "graceful_shutdown_wait_loop_s": 1,
            "health_check_period_s": 2,
            "health_check_timeout_s": 10,
            "ray_actor_options": {"num_cpus": 0, "resources": {"sundog_replica": 1}},
        }
        application = {
            "name": "llm",
            "route_prefix": "/",
            "import_path": "sundog_serving.app:build",
            "external_scaler_enabled": True,
            "args": args,
            "deployments": [engine],
        }
        config = {
            "proxy_location": "HeadOnly",
            "http_options": {"host": "127.0.0.1", "port": self.ports[2], "request_timeout_s": 600},
            "applications": [application],
        }
        async with self.client.put(f"{self.dashboard}/api/serve/applications/", json=config, headers=_RAY) as response:
            assert response.status == 200, await response.text()

    async def delete(self) -> None:
        """Take the application away: Serve would fall back to its last good version when the next one fails."""
        async with self.client.delete(f"{self.dashboard}/api/serve/applications/", headers=_RAY) as response:
            assert response.status == 200, await response.text()

    async def deploy_fake(self, *, replicas: int = 1, drain_seconds: float = 30, **engine_args: Any) -> Deployed:
        """PUT an application with a fake engine, and wait until its replicas run."""
        # A number that is never the same: an equal PUT would leave the replicas of the test before.
        args = {**application_args("fake", engine_args), "attempt": random.random()}
        await self.deploy(args, replicas=replicas, drain_seconds=drain_seconds)
        return await self.until_running(replicas)

    async def scale(self, replicas: int) -> None:
        url = f"{self.dashboard}/api/v1/applications/llm/deployments/engine/scale"
        async with self.client.post(url, json={"target_num_replicas": replicas}, headers=_RAY) as response:
            assert response.status == 200, await response.text()

    async def deployed(self) -> Deployed:
        async with self.client.get(f"{self.dashboard}/api/serve/applications/", headers=_RAY) as response:
            assert response.status == 200, await response.text()
            return Deployed(await response.json())

    async def until_running(self, replicas: int) -> Deployed:
        def running(now: Deployed) -> bool:
            there = now.engine.get("replicas", [])
            return now.status == "RUNNING" and len(now.replicas("RUNNING")) == replicas == len(there)

        return await eventually(self.deployed, running, within_seconds=START_SECONDS)

    async def health(self, url: str | None = None) -> int | None:
        """The status of a replica's health route; None where nobody listens."""
        try:
            async with self.client.get(f"{url or self.replica}/-/healthz") as response:
                return response.status
        except aiohttp.ClientConnectionError:
            return None

    async def post(self, url: str, **body: Any) -> tuple[int, str]:
        async with self.client.post(f"{url}", json={"model": "tiny", **body}, headers=HEADERS) as response:
            return response.status, await response.text()

    def _end(self) -> None:
        descendants = [pid for process in self.processes for pid in descendants_of(process.pid)]
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for pid in descendants:
            if _is_ray(pid):
                os.kill(pid, signal.SIGKILL)


RECORDED_METRICS = Path(__file__).parents[1] / "observability" / "recorded" / "worker.prom"


def engine_series(metrics: str) -> set[tuple[str, str]]:
    """Names and bounds of the engine's series among a worker's metrics, the gauges left out: they come and go."""
    found = re.findall(r'^(ray_vllm_\w+)\{(?:.*le="([^"]+)")?', metrics, re.MULTILINE)
    return {(name, bound) for name, bound in found if "num_requests" not in name and "kv_cache" not in name}


_RAY = {"authorization": f"Bearer {RAY_TOKEN}"}


def descendants_of(pid: int) -> list[int]:
    """The processes that a process has started, directly or not."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    todo = [pid]
    while todo:
        found += (next_ones := children.get(todo.pop(), []))
        todo += next_ones
    return found


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""


def _is_ray(pid: int) -> bool:
    # A process id may have been given to somebody else meanwhile.
    return any(mark in command_of(pid) for mark in ("ray", "VLLM::"))


def _free_ports(count: int) -> list[int]:
    """Free ports in a row, found by binding."""
    while True:
        first = random.randint(21000, 29000)
        sockets = []
        try:
            for port in range(first, first + count):
                opened = socket.socket()
                sockets.append(opened)
                opened.bind(("0.0.0.0", port))
        except OSError:
            continue
        finally:
            for opened in sockets:
                opened.close()
        return list(range(first, first + count))
