"""Small pure rules: resolve, pod templates, comparison, times, tokens."""

from __future__ import annotations

from typing import Any

import pytest

from sundog_operator.config import Config
from sundog_operator.core import names, tokens
from sundog_operator.core.builders import revision, router
from sundog_operator.core.builders.deployment import token_secret
from sundog_operator.core.comparison import is_applied, quantity, with_applied_hash
from sundog_operator.core.errors import InvalidSpec
from sundog_operator.core.events import transitions
from sundog_operator.core.resolve import Resolved, resolve
from sundog_operator.core.serve_config import is_deployed, serve_config
from sundog_operator.core.timeouts import MOVE_SECONDS, timeouts
from tests.unit.core.world import MASTER_KEY, resource

CONTAINER = {"name": "engine"}


def _resolved(**spec: Any) -> Resolved:
    return resolve(resource(**spec), Config(), MASTER_KEY)


@pytest.mark.parametrize("longest", [1, 600, 86400])
def test_whoever_stops_first_waits_for_whoever_stops_last(longest: int) -> None:
    times = timeouts(longest)
    assert longest == times.request
    assert times.request < times.serve_graceful_shutdown < times.ray_drain < times.worker_grace
    assert times.ray_drain - times.serve_graceful_shutdown > MOVE_SECONDS  # Serve keeps a replica that moves until then
    assert times.request < times.router_hard_stop < times.router_grace - times.pre_stop


def test_the_times_stand_where_they_work() -> None:
    resolved = _resolved(requestTimeoutSeconds=100)
    worker = revision.worker_deployment(resolved, "r", replicas=1)["spec"]["template"]["spec"]
    environment = {v["name"]: v.get("value") for v in worker["containers"][0]["env"]}
    assert worker["terminationGracePeriodSeconds"] == resolved.timeouts.worker_grace
    assert environment["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"] == str(resolved.timeouts.ray_drain)
    assert environment["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"] == str(resolved.timeouts.router_hard_stop)
    engine = serve_config(resolved, replicas=1)["applications"][0]["deployments"][0]
    assert engine["graceful_shutdown_timeout_s"] == resolved.timeouts.serve_graceful_shutdown
    pod = router.deployment(resolved)["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == resolved.timeouts.router_grace
    assert (
        f"hard-stop-after {resolved.timeouts.router_hard_stop}s" in router.config_map(resolved)["data"]["haproxy.cfg"]
    )


# Which fields force a new engine. What is not here restarts no pod of a replica.
REVISION_FORMING: dict[str, dict[str, Any]] = {
    "model": {"model": {"uri": "hf://Qwen/Qwen3-0.6B", "revision": "abc"}},
    "engine": {"engine": {"env": [{"name": "A", "value": "1"}]}},
    "parallelism": {"parallelism": {"tensor": 2}},
    "resources": {"resources": {"limits": {"memory": "1Gi"}}},
    "nodeSelector": {"nodeSelector": {"gpu": "yes"}},
    "tolerations": {"tolerations": [{"operator": "Exists"}]},
    "podTemplate": {"podTemplate": {"spec": {"priorityClassName": "high"}}},
    "requestTimeoutSeconds": {"requestTimeoutSeconds": 60},
    "ray": {"ray": {"head": {"storage": {"size": "2Gi"}}}},
}
NOT_FORMING: dict[str, dict[str, Any]] = {
    "replicas": {"replicas": 7},
    "suspend": {"suspend": True},
    "autoscaling": {"autoscaling": {"maxReplicas": 4}},
    "rollout": {"rollout": {"progressDeadlineSeconds": 100}},
    "slo": {"slo": {"timeToFirstTokenMilliseconds": 500}},
    "router": {"router": {"replicas": 3, "maxQueue": 1}},
    "service": {"service": {"port": 80}},
}


def test_every_field_of_the_spec_is_known_to_force_a_new_engine_or_not() -> None:
    fields = {f.alias for f in type(_resolved().spec).model_fields.values()}
    assert fields == REVISION_FORMING.keys() | NOT_FORMING.keys()


@pytest.mark.parametrize("field", REVISION_FORMING)
def test_what_the_engine_depends_on_forms_the_revision(field: str) -> None:
    assert _resolved(**REVISION_FORMING[field]).revision != _resolved().revision


@pytest.mark.parametrize("field", NOT_FORMING)
def test_what_the_engine_does_not_depend_on_restarts_nothing(field: str) -> None:
    assert _resolved(**NOT_FORMING[field]).revision == _resolved().revision


INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "host network": ({"hostNetwork": True}, "spec.podTemplate.spec.hostNetwork"),
    "host path": ({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}, "a volume of type hostPath"),
    "identity": ({"serviceAccountName": "admin"}, "spec.podTemplate.spec.serviceAccountName"),
    "root": ({"securityContext": {"runAsUser": 0}}, "runAsUser"),
    "privileged": ({"containers": [{**CONTAINER, "securityContext": {"privileged": True}}]}, "privileged"),
    "capability": (
        {"containers": [{**CONTAINER, "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]},
        "capabilities.add",
    ),
    "unconfined": ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "seccompProfile"),
    "token": ({"containers": [{**CONTAINER, "env": [{"name": "RAY_AUTH_TOKEN", "value": "x"}]}]}, "RAY_AUTH_TOKEN is"),
    "nameless": ({"containers": [{"image": "x"}]}, "lacks 'name'"),
}


@pytest.mark.parametrize("case", INVALID)
def test_a_pod_template_that_breaks_the_restricted_level_is_refused(case: str) -> None:
    patch, words = INVALID[case]
    with pytest.raises(InvalidSpec, match=words):
        _resolved(podTemplate={"spec": patch})


def test_a_pod_template_is_merged_by_container_name() -> None:
    volume = {"name": "env", "persistentVolumeClaim": {"claimName": "env", "readOnly": True}}
    mount = {"name": "env", "mountPath": "/opt/env"}
    patch = {
        "metadata": {"labels": {"team": "a", names.NAME_LABEL: "stolen"}},
        "spec": {"volumes": [volume], "containers": [{**CONTAINER, "volumeMounts": [mount]}, {"name": "side"}]},
    }
    template = revision.worker_deployment(_resolved(podTemplate=patch), "r", replicas=1)["spec"]["template"]
    engine, side = template["spec"]["containers"]
    assert mount in engine["volumeMounts"]
    assert len(engine["volumeMounts"]) > 1
    assert volume in template["spec"]["volumes"]
    assert side["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert template["metadata"]["labels"]["team"] == "a"
    assert template["metadata"]["labels"][names.NAME_LABEL] == "qwen3"


def test_comparison_ignores_what_the_server_adds_and_how_it_writes_amounts() -> None:
    wanted = with_applied_hash(
        {"metadata": {"name": "x"}, "spec": {"a": [{"name": "c", "resources": {"limits": {"cpu": "1000m"}}}], "e": {}}}
    )
    found = {
        "metadata": {**wanted["metadata"], "uid": "u"},
        "spec": {"a": [{"name": "c", "resources": {"limits": {"cpu": "1"}}, "policy": "default"}], "d": 1},
    }
    assert is_applied(wanted, found)
    found["spec"]["a"][0]["resources"]["limits"]["cpu"] = "2"
    assert not is_applied(wanted, found)


@pytest.mark.parametrize(("text", "same"), [("1Gi", "1024Mi"), ("0.5", "500m"), ("1e3", "1k"), ("2", 2)])
def test_quantities_are_compared_by_value(text: str, same: object) -> None:
    assert quantity(text) == quantity(same) is not None


def test_a_field_that_went_away_is_applied_too() -> None:
    before = with_applied_hash({"metadata": {"name": "x"}, "spec": {"a": 1, "b": 2}})
    after = with_applied_hash({"metadata": {"name": "x"}, "spec": {"a": 1}})
    assert not is_applied(after, before)


def test_tokens_differ_by_resource_and_purpose_and_name_their_secret() -> None:
    one, two = (
        _resolved(),
        resolve(resource() | {"metadata": {**resource()["metadata"], "uid": "u-2"}}, Config(), MASTER_KEY),
    )
    assert len({one.ray_token, one.replica_token, two.ray_token, two.replica_token}) == 4
    assert one.token_secret != two.token_secret
    assert token_secret(one)["immutable"]
    assert tokens.ray_token(b"other" * 8, "u-1") != one.ray_token


def test_a_head_that_echoes_more_than_was_put_runs_the_application() -> None:
    wanted = serve_config(_resolved(), replicas=2)
    application = wanted["applications"][0]
    echoed = {**application, "runtime_env": {}, "deployments": [{**application["deployments"][0], "num_replicas": 5}]}
    assert is_deployed(wanted, echoed)
    assert not is_deployed(wanted, {**echoed, "args": {}})


def test_the_longest_name_still_makes_dns_labels() -> None:
    name = "a" * names.MAX_NAME_LENGTH
    # Deployment, ReplicaSet's hash (10), pod's suffix (5)
    assert len(f"{names.revision_worker(name, 'x' * 8)}") <= 63
    assert len(f"{names.revision_head(name, 'x' * 8)}") <= 63


def test_events_are_for_transitions_only() -> None:
    def status(state: str, reason: str) -> dict[str, Any]:
        return {"conditions": [{"type": "Ready", "status": state, "reason": reason, "message": "m"}]}

    assert transitions(status("False", "HeadStarting"), status("False", "HeadStarting")) == ()
    (event,) = transitions({}, status("False", "SecretNotFound"))
    assert (event.type, event.reason, event.message) == ("Warning", "SecretNotFound", "m")
    (event,) = transitions(status("False", "SecretNotFound"), status("True", "AllReplicasReady"))
    assert event.type == "Normal"
