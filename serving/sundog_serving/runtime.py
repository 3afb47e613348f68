"""One engine with everything around it: started, proven, guarded and watched. Ray Serve's part is in `replica`."""

import importlib
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any, Final, Self

from sundog_serving import log
from sundog_serving.adapters import Adapters
from sundog_serving.contract import READINESS_SECONDS_VARIABLE, REPLICA_TOKEN_VARIABLE, STALL_SECONDS_VARIABLE, Reason
from sundog_serving.engine import ASGIApp, Engine
from sundog_serving.errors import EngineDeadError, EngineStartError
from sundog_serving.guard import Guard
from sundog_serving.output import Output
from sundog_serving.readiness import DEFAULT_SECONDS, first_answer
from sundog_serving.settings import Model, Settings
from sundog_serving.watchdog import Watchdog

logger = logging.getLogger("sundog.replica")

# Modules with `async def start(settings: Settings) -> Engine`. By name, so that a machine without vLLM can import this
# one.
_ENGINES: Final = {"vllm": "sundog_serving.vllm_engine", "fake": "sundog_serving.fake"}


class Runtime:
    """A running engine; ``Runtime.start`` makes one."""

    def __init__(self, engine: Engine, *, token: str, stall_seconds: float) -> None:
        about = {**asdict(engine.description), "ray_version": version("ray")}
        self.about: Mapping[str, Any] = about
        self._adapters = Adapters(engine.lora) if engine.lora else None
        self.app: ASGIApp = Guard(engine, token=token, about=about, adapters=self._adapters)
        self._engine = engine
        self._watchdog = Watchdog(stall_seconds)

    @classmethod
    async def start(cls, args: Mapping[str, Any]) -> Self:
        """Start the engine, and have it answer a request.

        Args:
            args: Those of the Serve application.

        Raises:
            EngineStartError: It did not start. Nothing of it is left running.
        """
        Output.tap()
        log.configure("sundog")
        began = time.monotonic()
        try:
            runtime = await cls._start(args)
        except EngineStartError as error:
            logger.exception("the engine did not start")
            # Its own traceback would bury the one line that matters in the application's message.
            raise error from None
        about = " ".join(f"{name}={value}" for name, value in runtime.about.items())
        logger.info("the engine is ready seconds=%.1f %s", time.monotonic() - began, about)
        return runtime

    @classmethod
    async def _start(cls, args: Mapping[str, Any]) -> Self:
        settings = Settings.from_args(args)
        token = os.environ.get(REPLICA_TOKEN_VARIABLE, "")
        if not token:
            raise EngineStartError(
                Reason.ENGINE_START_FAILED,
                f"{REPLICA_TOKEN_VARIABLE} is not set, so callers could not be told apart: set it on every Ray node",
            )
        within_seconds = _seconds(READINESS_SECONDS_VARIABLE, default=DEFAULT_SECONDS)
        engine: Engine = await importlib.import_module(_ENGINES[settings.engine]).start(settings)
        try:
            runtime = cls(
                engine, token=token, stall_seconds=_seconds(STALL_SECONDS_VARIABLE, default=engine.stall_seconds)
            )
            if not await first_answer(engine, within_seconds=within_seconds):
                logger.warning("no request is known to try this model with: tasks=%s", engine.description.tasks)
        except BaseException:
            await engine.stop()  # nobody else would
            raise
        return runtime

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Take the list of adapters that is wanted now; on a new replica, wait until each was tried.

        It never raises: Serve would take the replica for a failed one.
        """
        try:
            wanted = [Model.from_args(entry) for entry in user_config.get("adapters", ())]
        except (AttributeError, KeyError, TypeError):
            logger.exception("the list of adapters cannot be read: operator and serving image differ in release")
            return
        if self._adapters:
            await self._adapters.want(wanted)

    async def check_health(self) -> None:
        """See whether the engine still serves.

        Raises:
            EngineDeadError: It is dead or wedged.
        """
        await self._engine.check()
        if stalled := self._watchdog.stalled_for(self._engine.load(), now=time.monotonic()):
            raise EngineDeadError(f"requests are in flight, and the engine has made no step for {stalled:.0f} s")

    async def stop(self) -> None:
        """End the engine and all its processes."""
        if self._adapters:
            await self._adapters.stop()
        await self._engine.stop()


def _seconds(variable: str, *, default: float) -> float:
    text = os.environ.get(variable)
    try:
        return default if text is None else float(text)
    except ValueError as error:
        raise EngineStartError(
            Reason.ENGINE_START_FAILED, f"{variable} must be a number of seconds, not {text!r}"
        ) from error
