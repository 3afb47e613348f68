"""The Serve deployment: one replica, which is one engine."""

from collections.abc import Mapping
from typing import Any

from ray import serve

from sundog_serving import port
from sundog_serving.engine import ASGIApp
from sundog_serving.runtime import Runtime


@serve.ingress()
class Replica:
    """Ray Serve opens the replica's port only after ``__init__``, so one that is reachable has answered a request."""

    async def __init__(self, args: Mapping[str, Any]) -> None:  # type: ignore[misc]  # Serve awaits it
        """Start the engine.

        Raises:
            EngineStartError: It did not start. Serve puts the traceback into the deployment's message and tries again.
        """
        port.reuse_address()
        self._runtime = await Runtime.start(args)

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        """Give Serve the app of this replica."""
        return self._runtime.app

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Take what may change while a replica runs.

        Serve calls it for every replica whenever ``user_config`` has changed, and for a new one before it is healthy.
        """
        await self._runtime.reconfigure(user_config)

    async def check_health(self) -> None:
        """Tell Serve whether this replica still serves; three failures in a row and it is replaced."""
        await self._runtime.check_health()

    async def __del__(self) -> None:
        """End the engine; Serve awaits this after the drain."""
        if runtime := getattr(self, "_runtime", None):
            await runtime.stop()
