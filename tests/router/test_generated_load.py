"""The load generator and the fake engine with a real router between them."""

from __future__ import annotations

from pathlib import Path

from starlette.types import Receive, Scope, Send

from sundog_serving import fake
from sundog_serving.engine import ASGIApp
from sundog_serving.settings import Settings
from tests.load.arrivals import Arrival, paced, steady
from tests.load.client import Target, load
from tests.load.outcome import Fault, Record
from tests.router.rig import REPLICAS_HOST, running, until, until_up
from tests.serving.conftest import MODEL, application_args, served


def with_health(app: ASGIApp) -> ASGIApp:
    """Answer Serve's health route, which is none of the engine's."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/-/healthz":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
        else:
            await app(scope, receive, send)

    return answer


def waited(records: list[Record]) -> list[Record]:
    return [record for record in records if (record.time_to_first_token or 0) > 0.9]


async def test_overload_is_whole_streams_a_bounded_queue_and_429_with_retry_after(tmp_path: Path) -> None:
    """Two run, three wait, the others are refused; and what was let in is answered to its end."""
    engine = await fake.start(Settings.from_args(application_args("fake", {"tokens-per-second": 10})))
    async with served(with_health(engine.app)) as url:
        port = int(url.rpartition(":")[2])
        async with running(
            tmp_path, replicas=0, head=False, replica_port=port, max_ongoing_per_replica=2, max_queue=3
        ) as rig:
            rig.names.records[REPLICAS_HOST] = ["127.0.0.1"]
            await until_up(rig, 1)
            target = Target(f"http://127.0.0.1:{rig.settings.port}/v1", MODEL)
            arrivals = [Arrival(n / 1000, prompt_tokens=1, output_tokens=10) for n in range(12)]
            async with load(target, arrivals) as client:
                await until(lambda: len(client.outcome.records) == 12, "all sent")
            outcome = client.outcome
            assert outcome.whole == 5
            assert outcome.kinds == {Fault.REFUSED: 7}
            assert len(waited(outcome.records)) == 3
            assert all(record.retry_after for record in outcome.records if record.fault)
            # What was refused did no harm: the next ones are served.
            slow = paced(steady(1), prompt_tokens=1, output_tokens=1)
            async with load(target, slow) as client:
                await until(lambda: client.outcome.whole == 2, "two more answered")
            assert not client.outcome.faults
    await engine.stop()
