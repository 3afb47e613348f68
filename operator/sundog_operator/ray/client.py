"""The REST API of the Ray heads: what a head knows of its application, and the two things it can be told.

A head runs what a model's repository brought along, so its answers are not trusted: bounded in size, never followed
elsewhere, and read value by value.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import aiohttp

from sundog_operator.core.names import APPLICATION, DEPLOYMENT
from sundog_operator.core.observed import HeadUnreachable, Replica, ServeState

ANSWER_SECONDS: Final = 10.0
"""The head is next door and answers from memory; a busy one takes its time."""
PUT_SECONDS: Final = 60.0
"""The first PUT starts Serve: its controller and its proxy are processes of their own, each of which imports Ray."""
CONNECT_SECONDS: Final = 2.0
ANSWER_BYTES: Final = 8 * 2**20
"""300 replicas make about 0.4 MB."""
_APPLICATIONS: Final = "/api/serve/applications/"
_SCALE: Final = f"/api/v1/applications/{APPLICATION}/deployments/{DEPLOYMENT}/scale"
_MESSAGE_CHARACTERS: Final = 16_384
"""Of tracebacks that are kept: the last of it, where the cause stands."""
_ANSI_ESCAPE: Final = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
"""Ray colours parts of its messages."""

Observer = Callable[[str, str], None]
"""Is told request (`get`, `put`, `scale`) and HTTP status (or `error`)."""


class HeadError(Exception):
    """A head did not do what it was asked to; the message says why, for people."""


@dataclass(frozen=True, slots=True)
class Head:
    """Which head, and how to be believed by it."""

    namespace: str
    service: str
    token: str


class HeadClient:
    """A client of all heads."""

    def __init__(self, *, url_template: str, cluster_domain: str, observer: Observer = lambda *_: None) -> None:
        """Prepare; `async with` opens the session.

        Args:
            url_template: base URL of a head, with `{service}`, `{namespace}` and `{cluster_domain}`.
            cluster_domain: of the cluster's DNS.
            observer: is told of each request.
        """
        self._url_template = url_template
        self._cluster_domain = cluster_domain
        self._observer = observer
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the session."""
        # A head comes back with a new address: what DNS said is not kept.
        connector = aiohttp.TCPConnector(limit=64, use_dns_cache=False, keepalive_timeout=15)
        self._session = aiohttp.ClientSession(
            connector=connector,
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the session."""
        if self._session:
            await self._session.close()

    async def state(self, head: Head) -> ServeState | HeadUnreachable:
        """Ask a head for its application."""
        try:
            answer = await self._request("get", "GET", head, _APPLICATIONS)
            return read_state(answer)
        except HeadError as error:
            return HeadUnreachable(str(error))

    async def put(self, head: Head, config: Mapping[str, Any]) -> None:
        """Give a head the whole Serve config.

        Raises:
            HeadError: it was refused, or the head did not answer.
        """
        await self._request("put", "PUT", head, _APPLICATIONS, body=config)

    async def scale(self, head: Head, target: int) -> None:
        """Tell a head how many replicas there shall be.

        Raises:
            HeadError: it was refused, or the head did not answer.
        """
        await self._request("scale", "POST", head, _SCALE, body={"target_num_replicas": target})

    async def _request(
        self, request: str, method: str, head: Head, path: str, *, body: Mapping[str, Any] | None = None
    ) -> Any:
        status = "error"
        try:
            async with self._answer(method, head, path, body) as response:
                status = str(response.status)
                text = await _read(response, head)
        finally:
            self._observer(request, status)
        if response.status in {401, 403}:
            raise HeadError(
                f"The Ray head {head.service} refused the operator's token (HTTP {response.status}): it was started "
                "with another one, as after a change of the operator's master key"
            )
        if response.status >= 300:
            told = " ".join(text.split())[:500] or response.reason
            raise HeadError(f"The Ray head {head.service} refused {method} {path} (HTTP {response.status}): {told}")
        try:
            return json.loads(text or "null")
        except (ValueError, RecursionError):
            raise HeadError(
                f"The Ray head {head.service} answered {method} {path} with something else than JSON"
            ) from None

    @asynccontextmanager
    async def _answer(
        self, method: str, head: Head, path: str, body: Mapping[str, Any] | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None, "the client is used inside `async with`"
        seconds = PUT_SECONDS if method == "PUT" else ANSWER_SECONDS
        base = self._url_template.format(
            service=head.service, namespace=head.namespace, cluster_domain=self._cluster_domain
        ).rstrip("/")
        try:
            async with self._session.request(
                method,
                base + path,
                json=body,
                headers={"Authorization": f"Bearer {head.token}"},
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS),
                allow_redirects=False,
            ) as response:
                yield response
        except TimeoutError:
            raise HeadError(f"The Ray head {head.service} did not answer within {seconds:g} s") from None
        except aiohttp.ClientConnectorDNSError:
            raise HeadError(f"The Ray head {head.service} has no address yet: its pod does not run") from None
        except (aiohttp.ClientError, OSError) as error:
            raise HeadError(f"The Ray head {head.service} could not be reached: {error}") from None


def read_state(answer: Any) -> ServeState:
    """Read the answer to `GET /api/serve/applications/` (Ray's ServeInstanceDetails).

    Raises:
        HeadError: it is not such an answer.
    """
    applications = answer.get("applications") if isinstance(answer, dict) else None
    if not isinstance(applications, dict):
        raise HeadError(
            "The Ray head answered, but not as Ray Serve does: its version may be another than the operator's"
        )
    application = applications.get(APPLICATION)
    if not isinstance(application, dict):
        return ServeState(application_status=None)
    deployment = _mapping(_mapping(application.get("deployments")).get(DEPLOYMENT))
    messages = [text for part in (application, deployment) if (text := _text(part.get("message")))]
    target = deployment.get("target_num_replicas")
    config = application.get("deployed_app_config")
    return ServeState(
        application_status=_text(application.get("status")) or None,
        message=_ANSI_ESCAPE.sub("", "\n".join(dict.fromkeys(messages)))[-_MESSAGE_CHARACTERS:],
        target_replicas=target if isinstance(target, int) and not isinstance(target, bool) else None,
        replicas=tuple(_replica(entry) for entry in _list(deployment.get("replicas")) if isinstance(entry, dict)),
        deployed_unix_seconds=float(application.get("last_deployed_time_s") or 0),
        deployed_config=config if isinstance(config, dict) else None,
    )


def _replica(entry: dict[str, Any]) -> Replica:
    return Replica(
        replica_id=_text(entry.get("replica_id")),
        state=_text(entry.get("state")),
        node_ip=_text(entry.get("node_ip")) or None,
    )


async def _read(response: aiohttp.ClientResponse, head: Head) -> str:
    text = bytearray()
    async for part in response.content.iter_chunked(65_536):
        text += part
        if len(text) > ANSWER_BYTES:
            response.close()
            raise HeadError(f"The Ray head {head.service} answered with more than {ANSWER_BYTES >> 20} MiB")
    return text.decode(errors="replace")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
