"""The operator's page as a browser shows it. `python -m tests.page.test_browser` draws the docs' pictures anew."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp.test_utils import unused_port

from sundog_operator.http_server import HTTPServer
from sundog_operator.kube.store import Store
from sundog_operator.metrics import Metrics
from tests.page.chromium import Screen, chromium
from tests.unit.core.world import World
from tests.unit.operator.fleet import fleet, stored

DESKTOP = Screen(1200, 900)
PHONE = Screen(390, 844, phone=True)
PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
PNG = b"\x89PNG\r\n\x1a\n"


@asynccontextmanager
async def served(worlds: list[World]) -> AsyncIterator[str]:
    store = Store()
    for manifest in stored(worlds):
        store.put(manifest)
    server = HTTPServer(Metrics(), store, page_is_public=False, ill=lambda: None, unready=lambda: None)
    port = unused_port()
    runner = await server.start(port)
    try:
        yield f"http://localhost:{port}/"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("screen", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_the_page_fits_the_screen_and_runs_nothing(tmp_path: Path, screen: Screen) -> None:
    """Also with the longest names and messages, and with those that want to be more than text."""
    async with served(fleet()) as url, chromium(tmp_path) as browser:
        seen = await browser.show(url, screen)
    assert seen.title == "Sundog: 2 of 7 ready"
    assert seen.width <= screen.width
    assert seen.complaints == ()
    assert seen.picture.startswith(PNG)


async def draw() -> None:
    """Write the pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        async with served(fleet()[:5]) as url, chromium(Path(folder)) as browser:
            desktop = await browser.show(url, DESKTOP)
            phone = await browser.show(f"{url}?namespace=chat", PHONE)
    (PICTURES / "page.png").write_bytes(desktop.picture)
    (PICTURES / "page-phone.png").write_bytes(phone.picture)


if __name__ == "__main__":
    asyncio.run(draw())
