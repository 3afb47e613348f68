"""Watching through an API server: what it answers, and what is said when it does not."""

import asyncio
import json
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.load.samples import Sample
from tests.load.watch import Subject, watching
from tests.serving.conftest import served

RESOURCE = {"spec": {"replicas": 2}, "status": {"replicas": 2, "readyReplicas": 1}}
LOADS = "/api/v1/namespaces/sundog-system/services/sundog-operator-metrics:8080/proxy/loads/{namespace}/{name}"


def kubeconfig(folder: Path, server: str) -> Path:
    path = folder / "kubeconfig"
    cluster = {"name": "c", "cluster": {"server": server}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [cluster],
                "contexts": [context],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "current-context": "c",
            }
        )
    )
    return path


async def first(folder: Path, server: str) -> Sample:
    async with watching(Subject(kubeconfig(folder, server), "ns", "fake"), seconds=lambda: 3.0) as samples:
        async with asyncio.timeout(30):
            while not samples:  # noqa: ASYNC110  it is filled by a task
                await asyncio.sleep(0.01)
    return samples[0]


def api(loads: Response) -> Starlette:
    async def resource(request: Request) -> Response:
        assert request.path_params == {"namespace": "ns", "name": "fake"}
        assert request.headers["authorization"] == "Bearer t"
        return JSONResponse(RESOURCE)

    async def load(request: Request) -> Response:
        assert request.path_params == {"namespace": "ns", "name": "fake"}
        return loads

    path = "/apis/sundog.dev/v1alpha1/namespaces/{namespace}/llmdeployments/{name}"
    return Starlette(routes=[Route(path, resource), Route(LOADS, load)])


async def test_a_sample_is_of_the_resource_and_of_its_load(tmp_path: Path) -> None:
    async with served(api(JSONResponse({"ongoing_requests": 14, "waiting_requests": 2}))) as url:
        assert await first(tmp_path, url) == Sample(3.0, asked=2, replicas=2, ready=1, ongoing=14, waiting=2)


async def test_a_load_that_cannot_be_had_leaves_the_rest_and_says_why(tmp_path: Path) -> None:
    async with served(api(PlainTextResponse("no router is ready", status_code=503))) as url:
        found = await first(tmp_path, url)
    assert found == Sample(3.0, asked=2, replicas=2, ready=1, problem="HTTP 503 no router is ready")


async def test_an_api_server_that_is_away_ends_no_watch(tmp_path: Path) -> None:
    async with served(Starlette()) as url:
        pass
    found = await first(tmp_path, url)
    assert found.asked is found.ready is found.ongoing is None
    assert "Cannot connect" in found.problem
