"""A headless Chromium, ordered by its DevTools protocol: it opens a page as a phone or a desktop would show it."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from tests.cluster.waiting import until

PROGRAM = "chromium"
START_SECONDS = 60.0
# It talks to nobody but the page: no updates, no reports, no QUIC.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


@dataclass(frozen=True, slots=True)
class Screen:
    """What a page is shown on."""

    width: int
    height: int
    phone: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """A page as it was shown."""

    title: str
    width: float
    """Of what there is to see; wider than the screen, it has to be scrolled sideways."""
    picture: bytes
    """All of it, as PNG."""
    complaints: tuple[str, ...]
    """What the browser said of it: scripts and styles that it refused, errors."""


class Chromium:
    """A browser with one tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._complaints: list[str] = []

    async def show(self, url: str, screen: Screen, *, dark: bool = False) -> Seen:
        """Open a page."""
        self._complaints.clear()
        for domain in ("Page", "Log", "Runtime"):
            await self._do(f"{domain}.enable")
        metrics = {"width": screen.width, "height": screen.height, "mobile": screen.phone, "deviceScaleFactor": 1}
        await self._do("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self._do("Emulation.setEmulatedMedia", features=[scheme])
        await self._do("Page.navigate", url=url)
        await self._event("Page.loadEventFired")
        size = (await self._do("Page.getLayoutMetrics"))["cssContentSize"]
        title = await self._do("Runtime.evaluate", expression="document.title")
        clip = {"x": 0, "y": 0, "width": screen.width, "height": min(size["height"], 4000), "scale": 1}
        picture = await self._do("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return Seen(title["result"]["value"], size["width"], base64.b64decode(picture["data"]), tuple(self._complaints))

    async def _do(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            said = await self._hear()
            if said.get("id") == number:
                assert "error" not in said, said
                return dict(said["result"])

    async def _event(self, name: str) -> None:
        while (await self._hear()).get("method") != name:
            pass

    async def _hear(self) -> dict[str, Any]:
        said: dict[str, Any] = await self._socket.receive_json(timeout=START_SECONDS)
        if said.get("method") == "Log.entryAdded":
            self._complaints.append(said["params"]["entry"]["text"])
        if said.get("method") == "Runtime.exceptionThrown":
            self._complaints.append(json.dumps(said["params"]["exceptionDetails"]))
        return said


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Chromium]:
    """Start a browser that keeps all its files in a folder."""
    profile = folder / "profile"
    log = folder / "chromium.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            PROGRAM, *FLAGS, f"--user-data-dir={profile}", "about:blank", stdout=output, stderr=output
        )
    try:
        told = profile / "DevToolsActivePort"
        await asyncio.to_thread(until, lambda: told.exists() and "\n" in told.read_text(), seconds=START_SECONDS)
        address = f"127.0.0.1:{(await asyncio.to_thread(told.read_text)).splitlines()[0]}"
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://{address}/json") as answer,
        ):
            (tab,) = [one for one in await answer.json() if one["type"] == "page"]
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=2**26) as socket:
                yield Chromium(socket)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
