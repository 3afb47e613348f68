"""How the API server is reached: in the cluster by the pod's service account, elsewhere by KUBECONFIG.

The client and kopf get sessions from here, so both trust, authenticate and time out alike.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp
import yaml
from kubernetes.aio import config as kubernetes_config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from sundog_operator.kube.errors import KubeError

USER_AGENT: Final = "sundog-operator"
CONNECT_SECONDS: Final = 5.0
"""To reach the API server and to shake hands. It is next door: longer means that it is away."""


@dataclass(frozen=True, slots=True)
class Connection:
    """An API server and how to be believed by it."""

    configuration: Configuration
    ssl_context: ssl.SSLContext | None
    namespace: str = ""
    """That the kubeconfig's context names; empty: it names none."""

    @property
    def server(self) -> str:
        """Base URL, without a slash at its end."""
        return str(self.configuration.host).rstrip("/")

    def session(self, *, connections: int, traces: Sequence[aiohttp.TraceConfig] = ()) -> aiohttp.ClientSession:
        """Open a session; its owner closes it. Every request carries the token of its time (they are rotated).

        Args:
            connections: at most; 0: no limit. Each costs 256 KiB, the buffer of asyncio's TLS.
            traces: what looks at the requests.
        """
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=connections, ssl=self.ssl_context if self.ssl_context is not None else True
            ),
            headers={"User-Agent": USER_AGENT},
            middlewares=(self._authenticate,),
            trace_configs=list(traces),
            # Only a proxy that the kubeconfig names: those of the environment are for the world outside.
            proxy=self.configuration.proxy,
            trust_env=False,
        )

    async def _authenticate(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        token = await self.configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        if token:
            request.headers["Authorization"] = token
        return await handler(request)


async def connect(*, context: str | None = None) -> Connection:
    """Find the API server and the credentials.

    Args:
        context: of the kubeconfig; None: its current one, or inside a cluster the pod's own service account.

    Raises:
        KubeError: neither a KUBECONFIG nor a service account can be used.
    """
    configuration = Configuration()
    files = os.environ.get("KUBECONFIG")  # the library knows the one of the time when it was imported
    namespace = ""
    try:
        if context or files or "KUBERNETES_SERVICE_HOST" not in os.environ:
            loader = await kubernetes_config.load_kube_config(  # type: ignore[no-untyped-call]
                files or None, context=context, client_configuration=configuration
            )
            namespace = str(loader.current_context["context"].get("namespace") or "")
        else:
            kubernetes_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        secure = configuration.host.startswith("https:")
        ssl_context = RESTClientObject(configuration).ssl_context if secure else None
    except (kubernetes_config.ConfigException, yaml.YAMLError, OSError) as error:
        raise KubeError(f"No credentials for a Kubernetes API server: {error}. Set KUBECONFIG.") from error
    return Connection(configuration, ssl_context, namespace)
