"""What a cluster needs to serve models, checked: values in, findings out. Reading stands in `examination`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

from sundog_cli.phases import seconds_of
from sundog_cli.report import NOT_VISITED, VISIT_SECONDS, report
from sundog_cli.snapshot import Snapshot
from sundog_operator.api.crd import custom_resource_definition
from sundog_operator.core import names
from sundog_operator.core.comparison import quantity
from sundog_operator.core.names import Manifest
from sundog_operator.core.problems import pod_problem, workload_problem
from sundog_operator.core.view import condition, is_ready

OLDEST_KUBERNETES: Final = (1, 34)
DEFAULT_CLASS_ANNOTATION: Final = "storageclass.kubernetes.io/is-default-class"
CUSTOM_METRICS: Final = ("v1beta2.custom.metrics.k8s.io", "v1beta1.custom.metrics.k8s.io")
_INSTALL: Final = "helm upgrade --install sundog charts/sundog --namespace sundog-system --create-namespace --wait"
_ASK: Final = "ask for the right to read it, or let someone who has it run this command"


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not all of it, or not for long."""
    WRONG = "wrong"
    UNKNOWN = "unknown"
    """It could not be looked at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    state: State
    found: str
    cure: str = ""

    def as_json(self) -> dict[str, Any]:
        """Give plain values."""
        return asdict(self)


Part = list[Manifest] | str
"""Objects of one kind, or why they could not be read."""


@dataclass(frozen=True, slots=True)
class Examination:
    """What was read of a cluster."""

    kubernetes: tuple[int, int]
    release: str
    """Of this command."""
    now: float
    crds: Part = field(default_factory=list)
    operators: Part = field(default_factory=list)
    """Deployments of the operator."""
    operator_pods: Part = field(default_factory=list)
    leases: Part = field(default_factory=list)
    api_services: Part = field(default_factory=list)
    nodes: Part = field(default_factory=list)
    storage_classes: Part = field(default_factory=list)
    quotas: Part = field(default_factory=list)
    snapshots: Sequence[Snapshot] | str = ()


def findings(seen: Examination) -> list[Finding]:
    """Check everything, in the order in which a cure of one may cure the next."""
    return [
        *_kubernetes(seen),
        *_crd(seen),
        *_operator(seen),
        *_custom_metrics(seen),
        *_gpus(seen),
        *_storage(seen),
        *_quotas(seen),
        *_llm_deployments(seen),
    ]


def _kubernetes(seen: Examination) -> Iterator[Finding]:
    version, oldest = ".".join(map(str, seen.kubernetes)), ".".join(map(str, OLDEST_KUBERNETES))
    if seen.kubernetes < OLDEST_KUBERNETES:
        yield Finding("Kubernetes", State.WRONG, f"version {version}", f"upgrade the cluster to {oldest} or newer")
    else:
        yield Finding("Kubernetes", State.OK, f"version {version}")


def _crd(seen: Examination) -> Iterator[Finding]:
    check = "CustomResourceDefinition"
    if isinstance(seen.crds, str):
        yield Finding(check, State.UNKNOWN, seen.crds, _ASK)
        return
    if not seen.crds:
        yield Finding(check, State.WRONG, f"the cluster does not know {names.PLURAL}.{names.GROUP}", _INSTALL)
        return
    (found,) = seen.crds
    wanted = custom_resource_definition()
    if condition(found, "Established").get("status") != "True":
        said = condition(found, "NamesAccepted").get("message") or "it is not established"
        yield Finding(
            check, State.WRONG, str(said), "kubectl describe crd llmdeployments.sundog.dev says what is in the way"
        )
        return
    missing, unknown = sorted(_fields(wanted) - _fields(found)), sorted(_fields(found) - _fields(wanted))
    if missing:
        text = f"it lacks {', '.join(missing[:3])}{' and more' if len(missing) > 3 else ''}: it is of an older release"
        yield Finding(check, State.WARNING, text, "helm upgrade, or kubectl apply --server-side -f crds/")
    elif unknown:
        text = f"it has {', '.join(unknown[:3])}, which this command does not know"
        yield Finding(check, State.WARNING, text, "install the kubectl-sundog of the same release")
    else:
        yield Finding(check, State.OK, f"{names.API_VERSION}, as this release has it")


def _fields(crd: Manifest) -> set[str]:
    """Paths of the fields of a spec."""

    def below(schema: Mapping[str, Any], path: str) -> Iterator[str]:
        for name, inner in schema.get("properties", {}).items():
            yield f"{path}.{name}"
            yield from below(inner, f"{path}.{name}")

    versions = [version for version in crd["spec"]["versions"] if version["name"] == names.VERSION]
    return {path for version in versions for path in below(_spec_schema(version), "spec")}


def _spec_schema(version: Mapping[str, Any]) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = version["schema"]["openAPIV3Schema"]["properties"].get("spec", {})
    return schema


def _operator(seen: Examination) -> Iterator[Finding]:
    check = "Operator"
    if isinstance(seen.operators, str):
        yield Finding(check, State.UNKNOWN, seen.operators, _ASK)
        return
    if not seen.operators:
        yield Finding(check, State.WRONG, "no Deployment of it was found", _INSTALL)
        return
    for deployment in seen.operators:
        yield from _one_operator(seen, deployment)
    if len(seen.operators) > 1:
        where = ", ".join(each["metadata"]["namespace"] for each in seen.operators)
        yield Finding(
            check,
            State.WARNING,
            f"there are several, in {where}",
            "uninstall all but one, or give each namespaces of its own (watchNamespaces in the chart's values)",
        )


def _one_operator(seen: Examination, deployment: Manifest) -> Iterator[Finding]:
    check, namespace = "Operator", deployment["metadata"]["namespace"]
    where = f"{namespace}/{deployment['metadata']['name']}"
    version = deployment["metadata"].get("labels", {}).get("app.kubernetes.io/version", "")
    if not deployment["spec"].get("replicas", 1):
        cure = f"kubectl scale deployment {deployment['metadata']['name']} --namespace {namespace} --replicas=1"
        yield Finding(check, State.WRONG, f"{where} is scaled to 0: nothing is changed or repaired", cure)
        return
    if not deployment.get("status", {}).get("availableReplicas"):
        pods = [pod for pod in _list(seen.operator_pods) if pod["metadata"]["namespace"] == namespace]
        problem = pod_problem(pod for pod in pods if not is_ready(pod)) or workload_problem(deployment)
        why = problem.message if problem else "no pod of it is ready"
        cure = f"kubectl logs --namespace {namespace} --selector app.kubernetes.io/name=sundog-operator"
        yield Finding(check, State.WRONG, f"{where} does not run: {why}", cure)
        return
    for lease in _list(seen.leases):
        if lease["metadata"]["namespace"] == namespace and (silent := _silent_seconds(lease, now=seen.now)):
            text = f"{where} runs, and has not renewed its Lease for {silent:.0f} s: it does no work"
            yield Finding(check, State.WRONG, text, f"kubectl rollout restart deployment --namespace {namespace}")
            return
    if version and version != seen.release:
        text = f"{where} runs release {version}, and this command is {seen.release}"
        yield Finding(check, State.WARNING, text, "install the kubectl-sundog of the same release")
    else:
        yield Finding(check, State.OK, f"{where} runs{f', release {version}' if version else ''}")


def _silent_seconds(lease: Manifest, *, now: float) -> float:
    """Seconds since a Lease was renewed, where that is too long ago; else 0."""
    spec = lease.get("spec", {})
    if not spec.get("renewTime"):
        return 0.0
    silent = now - seconds_of(spec["renewTime"])
    # Twice: the clock of this machine need not be the cluster's.
    return silent if silent > 2 * float(spec.get("leaseDurationSeconds", 15)) else 0.0


def _custom_metrics(seen: Examination) -> Iterator[Finding]:
    check = "Custom metrics"
    if isinstance(seen.api_services, str):
        yield Finding(check, State.UNKNOWN, seen.api_services, _ASK)
        return
    found = {each["metadata"]["name"]: each for each in seen.api_services}
    present = {name: found[name] for name in CUSTOM_METRICS if name in found}
    for name, api_service in present.items():
        service = api_service["spec"].get("service") or {}
        if api_service["metadata"].get("labels", {}).get(names.MANAGED_BY_LABEL) != names.MANAGED_BY:
            owner = f"Service {service.get('namespace')}/{service.get('name')}" if service else "the API server itself"
            yield Finding(
                check,
                State.WARNING,
                f"{name} belongs to another adapter ({owner}): a HorizontalPodAutoscaler cannot ask Sundog",
                "set customMetrics.takeOver in the chart's values, uninstall the other, or use autoscaling.class KEDA",
            )
            return
        available = condition(api_service, "Available")
        if available.get("status") != "True":
            yield Finding(
                check,
                State.WRONG,
                f"{name} is not available: {available.get('message', 'not yet')}",
                "check that the operator runs, and that a NetworkPolicy lets the API server reach it",
            )
            return
    if present:
        yield Finding(check, State.OK, "served by Sundog")
    else:
        yield Finding(
            check,
            State.WARNING,
            "nobody serves custom.metrics.k8s.io: spec.autoscaling of class HPA will not work",
            "set customMetrics.enabled in the chart's values",
        )


def _gpus(seen: Examination) -> Iterator[Finding]:
    check = "GPUs"
    if isinstance(seen.nodes, str):
        yield Finding(check, State.UNKNOWN, seen.nodes, _ASK)
        return
    offered: dict[str, int] = {}
    for node in seen.nodes:
        for resource, amount in node.get("status", {}).get("allocatable", {}).items():
            if resource.endswith("/gpu") and (number := int(quantity(amount) or 0)):
                offered[resource] = offered.get(resource, 0) + number
    asked = _asked(seen.snapshots)
    for resource, number in sorted(asked.items()):
        if number > offered.get(resource, 0):
            yield Finding(
                check,
                State.WRONG,
                f"LLMDeployments ask for {number} {resource}, and the nodes offer {offered.get(resource, 0)}",
                "add nodes with GPUs, install their device plugin (for NVIDIA the GPU Operator), or lower "
                "spec.replicas or spec.resources",
            )
    if offered:
        told = ", ".join(f"{number} {resource}" for resource, number in sorted(offered.items()))
        yield Finding(check, State.OK, f"{told} on {len(seen.nodes)} nodes")
    elif not asked:
        yield Finding(
            check,
            State.WARNING,
            f"none of {len(seen.nodes)} nodes offers any: models run on processors, or as the fake engine",
            "add nodes with GPUs and install their device plugin (for NVIDIA the GPU Operator)",
        )


def _asked(snapshots: Sequence[Snapshot] | str) -> dict[str, int]:
    asked: dict[str, int] = {}
    for snapshot in () if isinstance(snapshots, str) else snapshots:
        spec = snapshot.resource["spec"]
        resources = spec.get("resources", {})
        for resource, amount in {**resources.get("requests", {}), **resources.get("limits", {})}.items():
            if resource.endswith("/gpu"):
                number = int(quantity(amount) or 0) * int(spec.get("replicas", 1))
                asked[resource] = asked.get(resource, 0) + number
    return {resource: number for resource, number in asked.items() if number}


def _storage(seen: Examination) -> Iterator[Finding]:
    check = "StorageClass"
    if isinstance(seen.storage_classes, str):
        yield Finding(check, State.UNKNOWN, seen.storage_classes, _ASK)
        return
    for each in seen.storage_classes:
        if each["metadata"].get("annotations", {}).get(DEFAULT_CLASS_ANNOTATION) == "true":
            yield Finding(check, State.OK, f"{each['metadata']['name']} is the default")
            return
    there = ", ".join(each["metadata"]["name"] for each in seen.storage_classes)
    others = f" (there are {there})" if there else ""
    yield Finding(
        check,
        State.WARNING,
        f"none is the default{others}: a Ray head that is lost forgets its replicas",
        "mark one with storageclass.kubernetes.io/is-default-class=true, or set spec.ray.head.storage.storageClassName",
    )


def _quotas(seen: Examination) -> Iterator[Finding]:
    check = "Quota"
    if isinstance(seen.quotas, str):
        yield Finding(check, State.UNKNOWN, seen.quotas, _ASK)
        return
    full = False
    for quota in seen.quotas:
        status = quota.get("status", {})
        for resource, hard in status.get("hard", {}).items():
            used = status.get("used", {}).get(resource, "0")
            most, now = quantity(hard), quantity(used)
            if most is not None and now is not None and now >= most:
                full = True
                where = f"{quota['metadata']['namespace']}/{quota['metadata']['name']}"
                text = f"ResourceQuota {where} is used up: {used} of {hard} {resource}"
                yield Finding(check, State.WARNING, text, "raise it, or lower spec.replicas: no more pods will be made")
    if not full:
        yield Finding(check, State.OK, f"{len(seen.quotas)} set, none used up" if seen.quotas else "none is set")


def _llm_deployments(seen: Examination) -> Iterator[Finding]:
    check = "LLMDeployments"
    if isinstance(seen.snapshots, str):
        yield Finding(check, State.UNKNOWN, seen.snapshots, _ASK)
        return
    well = 0
    for snapshot in seen.snapshots:
        told = report(snapshot, now=seen.now)
        where = f"{told.namespace}/{told.name}"
        if told.reason == NOT_VISITED:
            age = seen.now - seconds_of(snapshot.resource["metadata"]["creationTimestamp"])
            state = State.WRONG if age > VISIT_SECONDS else State.OK
            yield Finding(check, state, f"{where}: {told.message}", _INSTALL if state is State.WRONG else "")
        elif told.is_well:
            well += 1
        else:
            yield Finding(check, State.WRONG, f"{where}: {told.reason}: {told.message}", told.cure)
    if well == len(seen.snapshots):
        yield Finding(check, State.OK, f"{well}, all ready or on their way" if well else "there is none")


def _list(part: Part) -> list[Manifest]:
    return [] if isinstance(part, str) else part


def something_is_wrong(found: Iterable[Finding]) -> bool:
    """Whether someone has to act."""
    return any(finding.state is State.WRONG for finding in found)
