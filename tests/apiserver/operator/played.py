"""What the control plane lacks, played: a kubelet that makes pods run, Ray heads, and pods that say their load."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Self

from aiohttp import web

from sundog_operator.core.names import (
    ADAPTERS_ROUTE,
    COMPONENT_LABEL,
    LOAD_ROUTE,
    REPLICA_PORT,
    REVISION_LABEL,
    WORKER,
    Manifest,
)
from tests.apiserver.operator.world import Api


class Kubelet:
    """Makes every pod of a namespace run and ready, with an address of its own, soon after it was made."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._task: asyncio.Task[None] | None = None
        self.addresses: dict[str, str] = {}
        """By pod's uid."""
        self.revisions: dict[str, list[str]] = {}
        """Addresses of the worker pods of each revision."""
        self._pods: dict[str, str] = {}
        """The revision of each worker pod, by its uid."""
        self.status: Callable[[Manifest, str], Manifest] = running
        """What becomes of a pod, given it and its address."""
        self._told: set[str] = set()
        self.broken: set[str] = set()
        """Revisions whose engines do not start: those with `nodeSelector: {broken: …}`."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            self._pods.clear()
            async for what, pod in self._api.watch("Pod"):
                await self._hear(what, pod)

    async def _hear(self, what: str, pod: Manifest) -> None:
        metadata = pod["metadata"]
        uid, labels = metadata["uid"], metadata.get("labels", {})
        if what == "DELETED":
            self._pods.pop(uid, None)
        else:
            self.addresses.setdefault(uid, f"10.1.{len(self.addresses) // 250}.{len(self.addresses) % 250 + 1}")
            if labels.get(COMPONENT_LABEL) == WORKER:
                self._pods[uid] = labels[REVISION_LABEL]
                if "broken" in pod["spec"].get("nodeSelector", {}):
                    self.broken.add(labels[REVISION_LABEL])
        self.revisions = defaultdict(list)
        for each, revision in self._pods.items():
            self.revisions[revision].append(self.addresses[each])
        if uid not in self._told and what != "DELETED" and "deletionTimestamp" not in metadata:
            with suppress(AssertionError):  # deleted meanwhile
                status = {"status": self.status(pod, self.addresses[uid])}
                await self._api.merge("Pod", metadata["name"], status, "status")
                self._told.add(uid)


def running(pod: Manifest, address: str) -> Manifest:
    """Status of a pod that is well, but for a replica whose engine is not to start."""
    broken = "broken" in pod["spec"].get("nodeSelector", {})
    conditions = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Initialized")]
    conditions += [{"type": kind, "status": str(not broken)} for kind in ("ContainersReady", "Ready")]
    containers = [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": not broken,
            "started": not broken,
            "restartCount": 0,
            "state": {"running": {}},
        }
        for container in pod["spec"]["containers"]
    ]
    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": conditions,
        "containerStatuses": containers,
    }


async def _nothing() -> None:
    pass


class Heads:
    """All Ray heads of a namespace behind one port: replicas run at once where there is a worker pod for them."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self.configs: dict[str, dict[str, Any]] = {}
        """By the head's Service."""
        self.targets: dict[str, int] = {}
        self.requests: list[tuple[str, str]] = []
        """Method and Service."""
        self.answer: web.Response | None = None
        """Instead of a right answer."""
        self.failures: dict[str, str] = {}
        """By LLMDeployment, why its replicas do not start, in the words of Ray Serve."""
        self.template = ""
        self.closing = asyncio.Event()
        self.before: Callable[[], Awaitable[None]] = _nothing
        """Runs before a head does what it is told."""
        self.after: Callable[[], Awaitable[None]] = _nothing
        """Runs when it has done so, before it answers."""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/{namespace}/{service}/api/serve/applications/", self._get)
        app.router.add_put("/{namespace}/{service}/api/serve/applications/", self._put)
        app.router.add_post("/{namespace}/{service}/api/v1/applications/llm/deployments/engine/scale", self._scale)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        port = self._runner.addresses[0][1]
        self.template = f"http://127.0.0.1:{port}/{{namespace}}/{{service}}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner
        self.closing.set()
        await self._runner.cleanup()

    async def _get(self, request: web.Request) -> web.Response:
        service = request.match_info["service"]
        self.requests.append(("GET", service))
        if self.answer:
            return self.answer
        config = self.configs.get(service)
        if config is None:
            return web.json_response({"applications": {}})
        (application,) = config["applications"]
        target = self.targets[service]
        revision = service.removesuffix("-head").rpartition("-")[2]
        broken = revision in self._kubelet.broken
        addresses = [] if broken else self._kubelet.revisions.get(revision, [])[:target]
        replicas = [{"replica_id": address, "state": "RUNNING", "node_ip": address} for address in addresses]
        replicas += [{"replica_id": f"new-{n}", "state": "STARTING"} for n in range(target - len(addresses))]
        engine = {
            "name": "engine",
            "status": "HEALTHY",
            "target_num_replicas": target,
            "replicas": replicas,
            "message": "EngineStartError: ModelInvalid: config.json is broken; mend it" if broken else "",
        }
        failure = self.failures.get(service.removesuffix(f"-{revision}-head"), "")
        llm = {
            "status": "DEPLOY_FAILED" if failure else "RUNNING",
            "message": failure,
            "deployed_app_config": application,
            "deployments": {"engine": engine},
        }
        return web.json_response({"applications": {"llm": llm}})

    async def _put(self, request: web.Request) -> web.Response:
        service = request.match_info["service"]
        self.requests.append(("PUT", service))
        if self.answer:
            return self.answer
        config = await request.json()
        await self.before()
        self.configs[service] = config
        (application,) = self.configs[service]["applications"]
        self.targets[service] = next(d["num_replicas"] for d in application["deployments"] if d["name"] == "engine")
        await self.after()
        return web.Response()

    async def _scale(self, request: web.Request) -> web.Response:
        service = request.match_info["service"]
        self.requests.append(("POST", service))
        if self.answer:
            return self.answer
        target = (await request.json())["target_num_replicas"]
        await self.before()
        self.targets[service] = target
        await self.after()
        return web.json_response({"message": "done"})


def router_load(
    *, ongoing: int = 0, queued: int = 0, held: int = 0, idle_seconds: int = 0, servers: int = 1
) -> dict[str, Any]:
    """What a router says."""
    return {"ongoing": ongoing, "queued": queued, "held": held, "idle_seconds": idle_seconds, "servers": servers}


class Loads:
    """All routers and replicas of a namespace behind one port, when they are asked how busy they are."""

    def __init__(self) -> None:
        self.router: dict[str, Any] | None = router_load()
        """What each router says; None: HTTP 503."""
        self.replica: dict[str, Any] = {"kv_cache_utilization": 0.0, "generation_tokens_per_second": 0.0}
        self.requests = 0
        self.adapters: list[dict[str, Any]] = []
        """What each replica says of its LoRA adapters."""
        self.asked_for_adapters: list[str] = []
        """Addresses."""
        self.template = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/{address}/{port}" + LOAD_ROUTE, self._get)
        app.router.add_get("/{address}/{port}" + ADAPTERS_ROUTE, self._get_adapters)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.template = f"http://127.0.0.1:{self._runner.addresses[0][1]}/{{address}}/{{port}}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner
        await self._runner.cleanup()

    async def _get(self, request: web.Request) -> web.Response:
        self.requests += 1
        said = self.replica if request.match_info["port"] == str(REPLICA_PORT) else self.router
        return web.Response(status=503) if said is None else web.json_response(said)

    async def _get_adapters(self, request: web.Request) -> web.Response:
        self.asked_for_adapters.append(request.match_info["address"])
        return web.json_response({"adapters": self.adapters})
