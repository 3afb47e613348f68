"""What is read from the kernel and from the API server's counters, and how it is shown."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import time

import pytest
from rich.console import Console

from sundog_operator.core import names
from sundog_operator.kube.resources import BY_KIND
from tests.bench import peers
from tests.bench.__main__ import parser
from tests.bench.changes import Changes, Crowded
from tests.bench.creation import Creation
from tests.bench.figures import Distribution, counters
from tests.bench.footprint import Footprint, pss_mebibytes
from tests.bench.machine import Machine, Others, cpu_seconds, machine
from tests.bench.metrics_api import MetricsApi, Questions
from tests.bench.report import Report, as_json, show
from tests.bench.rest import Idle, Restart
from tests.bench.run import Run
from tests.bench.testbed import Requests
from tests.bench.world import World, is_ready

TOLD = """\
apiserver_flowcontrol_dispatched_requests_total{flow_schema="sundog-bench",priority_level="workload-low"} 7
apiserver_flowcontrol_dispatched_requests_total{flow_schema="exempt",priority_level="exempt"} 90
apiserver_request_total{verb="APPLY",resource="services",subresource="",code="200"} 2
apiserver_request_total{verb="APPLY",resource="llmdeployments",subresource="status",code="200"} 1
apiserver_request_total{verb="PUT",resource="leases",subresource="",code="200"} 50
apiserver_request_total{verb="LIST",resource="services",subresource="",code="200"} 50
"""


def _spend(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_requests_are_those_of_the_operators_account_alone() -> None:
    assert Requests(counters(TOLD, "apiserver_")).by_operator == 7


def test_writes_are_without_signs_of_life_and_reads() -> None:
    assert Requests(counters(TOLD, "apiserver_")).writes == {"APPLY services": 2, "APPLY llmdeployments status": 1}


def test_the_processor_time_of_a_process_is_read_as_that_process_would() -> None:
    before = cpu_seconds(os.getpid())
    _spend(0.05)
    assert cpu_seconds(os.getpid()) == pytest.approx(time.process_time(), abs=0.05)
    assert cpu_seconds(os.getpid()) - before >= 0.05


def test_what_the_measurement_itself_uses_is_not_other_programs() -> None:
    own, nobody = Others([os.getpid()]), Others([])
    _spend(0.2)
    with_own, without = own.processors(), nobody.processors()
    assert with_own <= without


def test_this_machine_can_be_described() -> None:
    found = machine()
    assert found.processors >= 1
    assert found.memory_gibibytes > 0


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="this kernel tells no PSS")  # noqa: PTH110
def test_a_process_weighs_something_and_one_that_ended_nothing() -> None:
    assert pss_mebibytes(os.getpid()) > 1
    assert pss_mebibytes(2**22 + 1) == 0


def test_sizes_are_measured_in_order_and_once() -> None:
    assert parser().parse_args(["--sizes", "100,1,10,1"]).sizes == (1, 10, 100)


def test_a_size_of_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--sizes", "0,1"])
    assert "--sizes" in capsys.readouterr().err


def test_the_metrics_api_can_be_asked_for_alone() -> None:
    found = parser().parse_args(["--sizes", "none", "--metrics-api", "20"])
    assert (found.sizes, found.metrics_api) == ((), 20)


@pytest.mark.parametrize("number", ["-1", "many"])
def test_what_is_no_number_is_refused_with_the_cure(number: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args([f"--metrics-api={number}"])
    refusal = f"argument --metrics-api: '{number}' is no number of LLMDeployments: give one, or 0 for none"
    assert refusal in capsys.readouterr().err


def test_ready_counts_for_the_present_spec_only() -> None:
    status = {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}]}
    assert is_ready({"metadata": {"generation": 1}, "status": status})
    assert not is_ready({"metadata": {"generation": 2}, "status": status})
    assert not is_ready({"metadata": {"generation": 1}})


async def test_a_deployments_status_is_no_write_of_the_operator() -> None:
    world = World(api=None, namespace="bench")  # type: ignore[arg-type]  # no request is made

    def event(kind: str, *, generation: int, version: str, at: float) -> None:
        labels = {names.MANAGED_BY_LABEL: names.MANAGED_BY}
        metadata = {"name": "x", "labels": labels, "generation": generation, "resourceVersion": version}
        world.take(BY_KIND[kind], "MODIFIED", {"metadata": metadata}, at)

    event("Deployment", generation=1, version="1", at=1.0)
    event("Service", generation=1, version="1", at=1.0)
    deployment, service = world.next_change("Deployment", "x"), world.next_change("Service", "x")
    event("Deployment", generation=1, version="2", at=2.0)
    event("Service", generation=1, version="2", at=2.0)
    assert not deployment.done()
    assert service.result() == 2.0
    event("Deployment", generation=2, version="3", at=3.0)
    assert deployment.result() == 3.0


@pytest.fixture
def report() -> Report:
    some = Distribution(count=100, p50=0.0123, p99=0.0456, longest=0.05)
    run = Run(
        size=100,
        creation=Creation(1500, 321.0, 9.0, 38.2, {"create Event": 2.0}, 2.0, 99.0),
        changes=Changes(service=some, worker=some, echo=some),
        other_processors=0.3,
        idle=Idle(30.0, 720.0, 120.0, 0.0, 0.0, 0.0, 12.0, 1200.0),
        peak_mebibytes=95.0,
        restart=Restart(0, {}, 17.0, 8.0),
        crowded=Crowded(service=some, quiet=some),
    )
    alone = dataclasses.replace(run, size=1, crowded=None)
    steady = Questions(per_second=13.3, latency=some, cpu_milliseconds_each=4.5, pod_requests_each=2.0)
    return Report(
        Machine("A processor", 2, 23.5, "6.1", "3.11.7"),
        [alone, run],
        MetricsApi(
            size=200,
            steady=steady,
            busy=dataclasses.replace(steady, per_second=1234.5, cpu_milliseconds_each=3.25),
            other_processors=0.1,
        ),
        [Footprint("head", 1100.0, 20)],
    )


def _shown(report: Report) -> str:
    written = io.StringIO()
    show(report, console=Console(file=written, width=220))
    return written.getvalue()


def test_the_table_has_every_size_and_every_peer(report: Report) -> None:
    text = _shown(report)
    assert all(name in text for name in (*peers.NAMES, "12.3 / 45.6 ms", "38 (2)", "95 MiB", "1,100"))


def test_what_a_question_costs_is_shown_for_both_rates(report: Report) -> None:
    text = _shown(report)
    assert all(part in text for part in ("200 LLMDeployments", "13.3", "4.50 ms", "1,234.5", "3.25 ms"))


def test_the_metrics_api_can_be_measured_alone_and_left_out(report: Report) -> None:
    alone = _shown(dataclasses.replace(report, runs=[]))
    assert "The metrics API" in alone
    assert "Beside others" not in alone
    assert "The metrics API" not in _shown(dataclasses.replace(report, metrics_api=None))


def test_the_figures_for_programs_are_whole(report: Report) -> None:
    found = json.loads(as_json(report))
    assert [run["size"] for run in found["runs"]] == [1, 100]
    assert found["runs"][1]["changes"]["service"]["p99"] == 0.0456
    assert found["metrics_api"]["steady"]["latency"]["p99"] == 0.0456
    assert found["peers"]["names"] == list(peers.NAMES)


def test_every_figure_of_a_peer_stands_beside_one_of_ours() -> None:
    assert all(len(figures) == len(peers.NAMES) for figures in peers.FIGURES.values())
