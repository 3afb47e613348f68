"""The store: whatever the order, repetition and delay of events, it ends as the API server is."""

from __future__ import annotations

import json
import random
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog_operator.core.names import MANAGED_BY, MANAGED_BY_LABEL, NAME_LABEL, Manifest
from sundog_operator.kube.resources import HPA, STORAGE_CLASS
from sundog_operator.kube.store import Place, ResourceKey, Store

KEY = ResourceKey("prod", "qwen3")


def service(name: str, *, uid: str, version: int, spec: str = "", **metadata: Any) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": "prod",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {MANAGED_BY_LABEL: MANAGED_BY, NAME_LABEL: "qwen3"},
            "ownerReferences": [{"uid": "owner", "controller": True, "kind": "LLMDeployment", "name": "qwen3"}],
            **metadata,
        },
        "spec": {"about": spec},
    }


def histories() -> st.SearchStrategy[list[tuple[str, Manifest]]]:
    """Lives of a few objects: created, changed, deleted, created anew under the same name."""

    @st.composite
    def build(draw: st.DrawFn) -> list[tuple[str, Manifest]]:
        version, events = 0, list[tuple[str, Manifest]]()
        living: dict[str, str] = {}
        for _ in range(draw(st.integers(1, 25))):
            version += draw(st.integers(1, 3))
            name = draw(st.sampled_from(["a", "b"]))
            uid = living.get(name)
            if uid is None:
                uid = living[name] = f"{name}-{version}"
                kind = "ADDED"
            elif draw(st.booleans()):
                kind = "MODIFIED"
            else:
                del living[name]
                kind = "DELETED"
            events.append((kind, service(name, uid=uid, version=version, spec=str(version))))
        return events

    return build()


def feed(store: Store, event: tuple[str, Manifest]) -> None:
    kind, manifest = event
    if kind == "DELETED":
        store.remove(manifest)
    else:
        store.put(manifest)


def truth(events: list[tuple[str, Manifest]]) -> dict[str, tuple[str, str]]:
    living: dict[str, tuple[str, str]] = {}
    for kind, manifest in events:
        name = manifest["metadata"]["name"]
        if kind == "DELETED":
            living.pop(name)
        else:
            living[name] = (manifest["metadata"]["uid"], manifest["spec"]["about"])
    return living


def kept(store: Store) -> dict[str, tuple[str, str]]:
    return {
        key.name: (manifest["metadata"]["uid"], manifest["spec"]["about"])
        for key, manifest in store.belongings(KEY, uid="owner").children.items()
    }


@given(histories(), st.randoms(use_true_random=False))
def test_any_order_and_repetition_of_events_ends_in_the_same_state(
    events: list[tuple[str, Manifest]], chance: random.Random
) -> None:
    disordered = events * 2
    chance.shuffle(disordered)
    store = Store()
    for event in disordered:
        feed(store, event)
    assert kept(store) == truth(events)


@given(histories(), st.data())
def test_what_a_gap_lost_is_mended_by_a_list(events: list[tuple[str, Manifest]], data: st.DataObject) -> None:
    store = Store()
    for event in events:
        if data.draw(st.booleans()):
            feed(store, event)
    living = truth(events)
    last = int(events[-1][1]["metadata"]["resourceVersion"])
    listed = [
        m
        for kind, m in events
        if kind != "DELETED" and living.get(m["metadata"]["name"]) == (m["metadata"]["uid"], m["spec"]["about"])
    ]
    for manifest in listed:
        store.put(manifest)
    places = {Place("Service", "prod", manifest["metadata"]["name"]) for manifest in listed}
    store.keep_only(places, version=last, of=store.places("Service"))
    assert kept(store) == living


def test_a_list_from_before_does_not_remove_what_came_since() -> None:
    store = Store()
    store.put(service("a", uid="1", version=10))
    assert store.keep_only(set(), version=9, of=store.places("Service")) == []
    assert store.keep_only(set(), version=10, of=store.places("Service")) == [KEY]


def test_the_answer_to_a_write_that_a_deletion_overtook_brings_nothing_back() -> None:
    store = Store()
    store.put(service("a", uid="1", version=10))
    store.remove(service("a", uid="1", version=11))
    assert store.put(service("a", uid="1", version=10)) is None
    assert kept(store) == {}


def test_the_end_of_an_old_object_leaves_its_successor_alone() -> None:
    store = Store()
    store.put(service("a", uid="2", version=12, spec="new"))
    assert store.remove(service("a", uid="1", version=11)) is None
    assert kept(store) == {"a": ("2", "new")}


def test_only_what_a_pass_looks_at_is_news() -> None:
    store = Store()
    assert store.put(service("a", uid="1", version=1)) == KEY
    assert store.put(service("a", uid="1", version=1)) is None, "the echo of our own write"
    assert store.put(service("a", uid="1", version=2, managedFields=[{"manager": "x"}])) is None
    assert store.put(service("a", uid="1", version=3, spec="other")) == KEY
    assert store.version(Place("Service", "prod", "a")) == ("1", 3)


def test_what_another_owns_is_not_a_child() -> None:
    store = Store()
    store.put(service("a", uid="1", version=1))
    store.put(service("b", uid="2", version=1, ownerReferences=[{"uid": "former", "controller": True}]))
    assert set(kept(store)) == {"a"}


def test_pods_are_told_by_their_label_and_trimmed() -> None:
    store = Store()
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "p",
            "namespace": "prod",
            "uid": "9",
            "resourceVersion": "5",
            "labels": {NAME_LABEL: "qwen3"},
            "managedFields": [{"manager": "kubelet"}],
            "generateName": "p-",
        },
        "spec": {"nodeName": "n1", "containers": [{"env": [{"name": "A", "value": "B"}]}]},
        "status": {"phase": "Running", "qosClass": "Burstable", "podIP": "10.0.0.1"},
    }
    assert store.put(pod) == KEY
    (found,) = store.belongings(KEY, uid="whoever").pods
    assert found["spec"] == {"nodeName": "n1"}
    assert found["status"] == {"phase": "Running", "podIP": "10.0.0.1"}
    assert set(found["metadata"]) == {"name", "namespace", "uid", "labels", "resourceVersion"}


def test_the_default_storage_class_is_followed() -> None:
    def storage_class(name: str, version: int, *, default: bool) -> Manifest:
        annotations = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
        metadata = {"name": name, "uid": name, "resourceVersion": str(version), "annotations": annotations}
        return {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": metadata}

    store = Store()
    assert not store.default_storage_class
    store.put(storage_class("fast", 1, default=False))
    assert not store.default_storage_class
    store.put(storage_class("fast", 2, default=True))
    assert store.default_storage_class
    store.put(storage_class("fast", 1, default=False))
    assert store.default_storage_class, "an older event changes nothing"
    store.remove(storage_class("fast", 3, default=True))
    assert not store.default_storage_class
    store.leave_out(STORAGE_CLASS)
    assert store.default_storage_class


def autoscaler(name: str, target: str, *, kind: str = "LLMDeployment", owner: str = "") -> Manifest:
    owners = [{"uid": owner, "controller": True}] if owner else []
    return {
        "apiVersion": "autoscaling/v2",
        "kind": HPA.kind,
        "metadata": {
            "name": name,
            "namespace": "prod",
            "uid": name,
            "resourceVersion": "1",
            "ownerReferences": owners,
            "labels": {"team": "a"},
        },
        "spec": {"scaleTargetRef": {"apiVersion": "sundog.dev/v1alpha1", "kind": kind, "name": target}},
    }


def test_pods_are_had_without_unpacking_what_else_belongs_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    labels = {NAME_LABEL: "qwen3"}
    for name in ("p2", "p1"):
        metadata = {"name": name, "namespace": "prod", "uid": name, "resourceVersion": "5", "labels": labels}
        store.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}, "status": {}})
    for name in ("a", "b", "c"):
        store.put(service(name, uid=name, version=6))
    unpacked: list[bytes] = []
    decompress = zlib.decompress

    def counted(packed: bytes) -> bytes:
        unpacked.append(packed)
        return decompress(packed)

    monkeypatch.setattr(zlib, "decompress", counted)
    assert [pod["metadata"]["name"] for pod in store.pods(KEY)] == ["p1", "p2"]
    assert len(unpacked) == 2
    assert store.belongings(KEY, uid="owner").pods == store.pods(KEY)


def test_an_autoscaler_belongs_to_what_it_targets_ours_or_not() -> None:
    store = Store()
    assert store.put(autoscaler("ours", "qwen3", owner="owner")) == KEY
    assert store.put(autoscaler("theirs", "qwen3")) == KEY
    assert store.put(autoscaler("elsewhere", "web", kind="Deployment")) is None
    found = store.belongings(KEY, uid="owner")
    assert [key.name for key in found.children] == ["ours"]
    assert [each["metadata"]["name"] for each in found.other_autoscalers] == ["theirs"]
    kept = store.get(Place(HPA.kind, "prod", "elsewhere")) or {}
    assert "spec" not in kept, "of those that target something else only the name is kept"


def test_of_managed_fields_only_who_wrote_replicas_is_kept() -> None:
    store = Store()
    scale = {"manager": "kube-controller-manager", "operation": "Update", "subresource": "scale"}
    fields = [
        {**scale, "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
        {"manager": "argocd", "operation": "Apply", "fieldsV1": {"f:spec": {"f:model": {}}}},
    ]
    metadata = {"name": "qwen3", "namespace": "prod", "uid": "u", "resourceVersion": "1", "managedFields": fields}
    store.put({"apiVersion": "sundog.dev/v1alpha1", "kind": "LLMDeployment", "metadata": metadata, "spec": {}})
    assert (store.resource(KEY) or {})["metadata"]["managedFields"] == [scale]


@pytest.mark.parametrize("spec", [{}, {"replicas": 1}])
def test_a_default_is_not_taken_for_what_kubectl_applies(spec: dict[str, int]) -> None:
    store = Store()
    metadata = {
        "name": "qwen3",
        "namespace": "prod",
        "uid": "u",
        "resourceVersion": "1",
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": json.dumps({"spec": spec})},
        "managedFields": [
            {
                "manager": "kubectl-client-side-apply",
                "operation": "Update",
                "fieldsV1": {"f:spec": {"f:replicas": {}}},
            }
        ],
    }
    store.put(
        {"apiVersion": "sundog.dev/v1alpha1", "kind": "LLMDeployment", "metadata": metadata, "spec": {"replicas": 1}}
    )
    assert ("managedFields" in (store.resource(KEY) or {})["metadata"]) is bool(spec)
