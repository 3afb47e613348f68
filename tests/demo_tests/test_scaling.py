"""The second act of the demo without a cluster: what it says, and what it says when replicas do not follow."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.demo import scaling
from tests.demo.errors import DemoError
from tests.demo.kubernetes import Kubernetes
from tests.demo.settings import ROOT, SCALED_EXAMPLE, SCALED_RESOURCE, read
from tests.load.outcome import Fault, Outcome, Record
from tests.load.samples import Sample


def record(first_token: float | None, fault: Fault | None = None) -> Record:
    return Record(0.0, 1, 1, first_token=first_token, ended=9.0, fault=fault)


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([], "0 streams: 0 whole, 0 cut, 0 refused or failed; first token p99 never"),
        (
            [record(0.1), record(0.25)],
            "2 streams: 2 whole, 0 cut, 0 refused or failed; first token p99 250 ms",
        ),
        (
            [record(0.1), record(1.5, Fault.CUT), record(None, Fault.REFUSED), record(None, Fault.FAILED)],
            "4 streams: 1 whole, 1 cut, 2 refused or failed; first token p99 1.5 s",
        ),
    ],
)
def test_the_summary_is_one_line_with_whole_and_cut(records: list[Record], told: str) -> None:
    assert scaling.summary(Outcome(records)) == told


def kubernetes(folder: Path, conditions: list[dict[str, Any]]) -> Kubernetes:
    """A kubectl that knows one LLMDeployment."""
    (folder / "answer.json").write_text(json.dumps({"status": {"conditions": conditions}}))
    program = folder / "kubectl"
    program.write_text(f"#!/bin/sh\ncat {folder}/answer.json\n")
    program.chmod(0o755)
    return Kubernetes(kubectl=program, helm=program, kubeconfig=folder / "kubeconfig")


async def test_replicas_that_do_not_follow_are_explained_by_what_the_resource_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "PATIENCE_SECONDS", 0.0)
    foreign = {"type": "AutoscalingActive", "reason": "MetricsUnavailable", "message": "another adapter serves them"}
    samples = [Sample(1.0, asked=1, problem="HTTP 503 no router is ready")]
    with pytest.raises(DemoError) as caught:
        await scaling.until(kubernetes(tmp_path, [foreign]), samples, lambda now: now.asked == 2, what="two replicas")
    first, more = str(caught.value).splitlines()
    assert first == (
        "There were not two replicas within 0 s. HTTP 503 no router is ready "
        f"{SCALED_RESOURCE} says of its autoscaling: MetricsUnavailable: another adapter serves them"
    )
    assert more.endswith(f"describe llmdeploy,hpa {SCALED_RESOURCE}")


@pytest.mark.parametrize(("text", "acts"), [("", 2), ("1", 1), ("2", 2)])
def test_the_second_act_may_be_left_out(text: str, acts: int) -> None:
    assert read({"ACTS": text}).acts == acts


@pytest.mark.parametrize("text", ["0", "3", "all"])
def test_acts_that_do_not_exist_are_told(text: str) -> None:
    with pytest.raises(DemoError, match=rf"ACTS is '{text}': give 1 \(up to the first answer\) or 2"):
        read({"ACTS": text})


def test_the_load_crosses_the_target_of_the_example() -> None:
    example = yaml.safe_load((ROOT / SCALED_EXAMPLE).read_text())
    assert example["metadata"]["name"] == SCALED_RESOURCE
    wanted = example["spec"]["autoscaling"]
    (metric,) = wanted["metrics"]
    seconds = scaling.STREAM_TOKENS / example["spec"]["engine"]["args"]["tokens-per-second"]
    calm, busy = (rate * seconds / float(metric["averageValue"]) for rate in (scaling.CALM, scaling.BUSY))
    # An HPA leaves a tenth more or less alone.
    assert wanted["minReplicas"] == 1
    assert calm < 0.9
    assert 1.1 < busy < wanted["maxReplicas"] == 2
