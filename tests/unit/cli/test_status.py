"""The tree of `status`: what it shows of statuses that the core has written."""

from __future__ import annotations

import re

from sundog_cli.phases import duration, phases
from sundog_cli.report import report
from sundog_cli.tree import trees
from sundog_operator.core.names import WORKER
from tests.unit.cli.recorded import NOW, START, loading, ready, snapshot, text, time
from tests.unit.core.world import World, resource

TREE = """\
team/qwen3  hf://Qwen/Qwen3-0.6B  2 of 3 replicas ready  ReplicasStarting for 0s
├── 2 of 3 replicas answer; the others are loading the model
├── what to do: wait while the model is loaded; to watch it: kubectl sundog logs qwen3 -f
├── revision <hash> (current, 1m40s old): 2 of 3 replicas ready
│   ├── qwen3-<hash>-worker-17  ready  20s  on node-0
│   ├── qwen3-<hash>-worker-18  ready  20s  on node-1
│   └── qwen3-<hash>-worker-19  loads the model  ████████████░░░░░░░░ 62%  about 30s left  50s  on node-2
├── last decisions
│   └── 1m40s ago: replicas 0 → 3 by default
└── http://qwen3.team.svc.cluster.local:8000/v1
"""


def test_the_tree_shows_revisions_replicas_progress_and_decisions() -> None:
    told = report(snapshot(loading()), now=NOW)
    assert re.sub(r"\b[0-9a-f]{8}\b", "<hash>", text(trees([told], now=NOW))) == TREE


def test_remaining_time_is_said_only_where_another_replica_has_loaded() -> None:
    pods = list(loading().pods.values())
    (alone,) = phases(pods[2:], component=WORKER, usual=None, now=NOW)
    assert (alone.phase, alone.progress, alone.remaining_seconds) == ("loads the model", None, None)
    (slow,) = phases(pods[2:], component=WORKER, usual=40.0, now=NOW)
    assert (slow.progress, slow.remaining_seconds) == (0.99, 0.0)


def test_each_step_of_a_pod_has_its_word() -> None:
    pod = {"metadata": {"name": "p", "namespace": "team", "creationTimestamp": time(START)}, "status": {}}
    scheduled = {"conditions": [{"type": "PodScheduled", "status": "True"}]}
    container = {"name": "engine", "image": "i", "state": {"running": {"startedAt": time(START + 10)}}}
    up = {**container, "started": True}
    missing = {"name": "engine", "image": "i", "state": {"waiting": {"reason": "ErrImagePull", "message": "no such"}}}
    cases = [
        ("waits for a node", {}, {}),
        ("pulls its image", {}, scheduled),
        ("loads the model", {}, {**scheduled, "containerStatuses": [container]}),
        ("does not answer", {}, {**scheduled, "containerStatuses": [up]}),
        ("cannot run", {}, {**scheduled, "containerStatuses": [missing]}),
        ("drains", {"deletionTimestamp": time(NOW), "deletionGracePeriodSeconds": 60}, {"containerStatuses": [up]}),
        ("ends", {"deletionTimestamp": time(NOW)}, {"containerStatuses": [container]}),
    ]
    for word, metadata, status in cases:
        found = phases(
            [{**pod, "metadata": {**pod["metadata"], **metadata}, "status": status}],
            component=WORKER,
            usual=None,
            now=NOW,
        )
        assert [each.phase for each in found] == [word]
    (drains,) = phases(
        [{**pod, "metadata": {**pod["metadata"], **cases[5][1]}, "status": cases[5][2]}],
        component=WORKER,
        usual=None,
        now=NOW,
    )
    assert drains.seconds == 60


def test_a_revision_on_its_way_in_and_the_one_that_serves_are_told_apart() -> None:
    world = ready(replicas=1)
    world.edit(engine={"args": {"max-model-len": 5}})
    world.step()
    world.settle(ready=False)
    world.step()
    told = report(snapshot(world), now=NOW)
    assert {each.state: each.ready for each in told.revisions} == {
        "on its way in": 0,
        "serves until the current one is whole": 1,
    }


def test_what_no_operator_has_seen_is_said_to_be_so() -> None:
    world = World(resource())
    told = report(snapshot(world), now=START + 5)
    assert (told.ready, told.reason, told.message) == ("Unknown", "NotVisited", "no operator has looked at it yet")
    assert "is one running, and does it watch this namespace?" in report(snapshot(world), now=NOW).message


def test_a_status_of_an_older_spec_is_said_to_be_one() -> None:
    world = ready()
    world.edit(replicas=2)
    told = report(snapshot(world), now=NOW)
    assert told.message.endswith("(said of the spec before the last change)")


def test_durations_are_written_as_kubectl_does() -> None:
    seconds = (-5, 0, 59, 60, 61, 605, 3600, 3660, 90_000, 900_000)
    assert [duration(each) for each in seconds] == ["0s", "0s", "59s", "1m", "1m1s", "10m", "1h", "1h1m", "1d1h", "10d"]
