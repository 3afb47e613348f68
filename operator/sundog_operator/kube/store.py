"""What the watches have told, trimmed and packed: what a pass observes without asking the API server.

Events may come late, doubled and out of order, and answers of our own writes race with them: the resourceVersion
decides. A deleted object stays deleted for whatever is older than its deletion.

Objects rest as compressed JSON. A Deployment of ours is mostly a list of environment variables, which as Python dicts
take ten times the room of their text, and 500 LLMDeployments have 7,000 objects. Those in use are kept unpacked.
"""

from __future__ import annotations

import json
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sundog_operator.core import names
from sundog_operator.core.names import Manifest, ObjectKey
from sundog_operator.kube.resources import CHILDREN, HPA, LLM_DEPLOYMENT, POD, STORAGE_CLASS, Resource

UNPACKED: Final = 256
"""Objects that are kept ready to use: those of some 20 LLMDeployments at a time."""
TOMBSTONES: Final = 1024
"""Deletions that are remembered. An answer that is overtaken by its object's deletion is late by milliseconds."""
_PACKING_LEVEL: Final = 1
_DEFAULT_CLASS_ANNOTATION: Final = "storageclass.kubernetes.io/is-default-class"
_LAST_APPLIED_ANNOTATION: Final = "kubectl.kubernetes.io/last-applied-configuration"
_POD_METADATA: Final = (
    "name",
    "namespace",
    "uid",
    "labels",
    "annotations",
    "ownerReferences",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
_POD_STATUS: Final = ("phase", "reason", "message", "conditions", "podIP", "containerStatuses", "initContainerStatuses")
_CHILD_KINDS: Final = frozenset(resource.kind for resource in CHILDREN)


class ResourceKey(NamedTuple):
    """Which LLMDeployment: what the work queue is keyed by."""

    namespace: str
    name: str


class Place(NamedTuple):
    """Where an object is kept."""

    kind: str
    namespace: str
    name: str


class Version(NamedTuple):
    """Which object of that place, and in which state."""

    uid: str
    resource_version: int


class Belongings(NamedTuple):
    """What belongs to one LLMDeployment."""

    children: dict[ObjectKey, Manifest]
    pods: tuple[Manifest, ...]
    other_autoscalers: tuple[Manifest, ...] = ()
    """HorizontalPodAutoscalers of someone else that target it."""


@dataclass(slots=True)
class _Record:
    version: Version
    packed: bytes
    owner: ResourceKey | None


class Store:
    """Objects by kind, namespace and name, and by the LLMDeployment they belong to."""

    def __init__(self) -> None:
        """Start empty."""
        self._records: dict[Place, _Record] = {}
        self._owned: dict[ResourceKey, set[Place]] = defaultdict(set)
        self._gone: OrderedDict[Place, int] = OrderedDict()
        self._unpacked: OrderedDict[Place, Manifest] = OrderedDict()
        self._default_classes: set[str] = set()
        self._unread: set[str] = set()

    def put(self, manifest: Manifest) -> ResourceKey | None:
        """Keep an object as read, unless a newer state of it is known.

        Returns:
            The LLMDeployment that this is news for; None: nothing that a pass looks at has changed.
        """
        place, version = place_of(manifest), _version(manifest)
        known = self._records.get(place)
        if version.resource_version <= self._gone.get(place, 0):
            return None
        if known and version.resource_version <= known.version.resource_version:
            return None
        if place.kind == STORAGE_CLASS.kind:
            self._put_storage_class(manifest)
        trimmed = _trim(manifest)
        packed = zlib.compress(json.dumps(trimmed, separators=(",", ":")).encode(), _PACKING_LEVEL)
        owner = _owner(manifest)
        news = known is None or known.packed != packed
        if known and known.owner != owner:
            self._disown(place, known)
        self._records[place] = _Record(version, packed, owner)
        self._unpacked.pop(place, None)
        if owner:
            self._owned[owner].add(place)
        return owner if news else None

    def remove(self, manifest: Manifest) -> ResourceKey | None:
        """Forget an object that was deleted; its successor of the same name stays.

        Returns:
            The LLMDeployment that this is news for, if any.
        """
        return self._remove(place_of(manifest), _version(manifest))

    def remove_uid(self, kind: str, *, namespace: str, name: str, uid: str) -> ResourceKey | None:
        """Forget an object that the server has just deleted on our behalf.

        Returns:
            The LLMDeployment that this is news for, if any.
        """
        place = Place(kind, namespace, name)
        known = self._records.get(place)
        if known is None or known.version.uid != uid:
            return None
        return self._remove(place, known.version)

    def keep_only(self, listed: Collection[Place], *, version: int, of: Collection[Place]) -> list[ResourceKey]:
        """Forget the objects that a list should have had and did not have.

        Args:
            listed: what the list had.
            version: resourceVersion of the list; what became known later is kept.
            of: what is kept of all that the list was about.

        Returns:
            The LLMDeployments that this is news for.
        """
        news = []
        for place in of:
            known = self._records.get(place)
            if known and place not in listed and known.version.resource_version <= version:
                owner = self._remove(place, Version(known.version.uid, version))
                if owner:
                    news.append(owner)
        return news

    def places(self, kind: str, *, namespace: str | None = None, owner: ResourceKey | None = None) -> list[Place]:
        """Tell where objects of a kind are kept: all, those of a namespace, or those of an LLMDeployment."""
        candidates = self._records if owner is None else self._owned.get(owner, ())
        return [p for p in candidates if p.kind == kind and (namespace is None or p.namespace == namespace)]

    def version(self, place: Place) -> Version | None:
        """Tell which object is kept at a place, without unpacking it."""
        record = self._records.get(place)
        return record.version if record else None

    def get(self, place: Place) -> Manifest | None:
        """Give an object as it was trimmed. It is shared: nobody may change it."""
        record = self._records.get(place)
        if record is None:
            return None
        manifest = self._unpacked.get(place)
        if manifest is None:
            manifest = json.loads(zlib.decompress(record.packed))
            manifest["metadata"]["resourceVersion"] = str(record.version.resource_version)
            self._unpacked[place] = manifest
            if len(self._unpacked) > UNPACKED:
                self._unpacked.popitem(last=False)
        else:
            self._unpacked.move_to_end(place)
        return manifest

    def resource(self, key: ResourceKey) -> Manifest | None:
        """Give an LLMDeployment."""
        return self.get(Place(LLM_DEPLOYMENT.kind, key.namespace, key.name))

    def belongings(self, key: ResourceKey, *, uid: str) -> Belongings:
        """Give what belongs to an LLMDeployment: children by our label and its uid, pods by our label."""
        children: dict[ObjectKey, Manifest] = {}
        others: list[Manifest] = []
        for place in sorted(self._owned.get(key, ())):
            if place.kind == POD.kind:
                continue
            manifest = self.get(place)
            assert manifest is not None
            if place.kind in _CHILD_KINDS and controller_of(manifest) == uid:
                children[ObjectKey(place.kind, place.name)] = manifest
            elif place.kind == HPA.kind:
                others.append(manifest)
        return Belongings(children, self.pods(key), tuple(others))

    def children(self, key: ResourceKey) -> list[ObjectKey]:
        """Name what carries the label of an LLMDeployment, without unpacking it."""
        return [ObjectKey(place.kind, place.name) for place in self._owned.get(key, ())]

    def pods(self, key: ResourceKey) -> tuple[Manifest, ...]:
        """Give the pods of an LLMDeployment by our label, without unpacking what else belongs to it."""
        found = (self.get(place) for place in sorted(self.places(POD.kind, owner=key)))
        return tuple(pod for pod in found if pod is not None)

    def resources(self) -> Iterator[ResourceKey]:
        """All LLMDeployments."""
        for place in self.places(LLM_DEPLOYMENT.kind):
            yield ResourceKey(place.namespace, place.name)

    def count(self) -> int:
        """How many objects are kept."""
        return len(self._records)

    @property
    def default_storage_class(self) -> bool:
        """Whether a claim without a class finds one; assumed where StorageClasses may not be read."""
        return bool(self._default_classes) or not self.reads(STORAGE_CLASS)

    def reads(self, resource: Resource) -> bool:
        """Whether a kind can be read: StorageClasses may not be permitted, ScaledObjects not be known."""
        return resource.kind not in self._unread

    def leave_out(self, resource: Resource) -> None:
        """Take note that a kind cannot be read."""
        self._unread.add(resource.kind)

    def _put_storage_class(self, manifest: Manifest) -> None:
        name = manifest["metadata"]["name"]
        if (manifest["metadata"].get("annotations") or {}).get(_DEFAULT_CLASS_ANNOTATION) == "true":
            self._default_classes.add(name)
        else:
            self._default_classes.discard(name)

    def _remove(self, place: Place, version: Version) -> ResourceKey | None:
        known = self._records.get(place)
        if known and known.version.uid != version.uid and known.version.resource_version > version.resource_version:
            return None
        self._gone[place] = max(version.resource_version, self._gone.pop(place, 0))
        if len(self._gone) > TOMBSTONES:
            self._gone.popitem(last=False)
        if known is None:
            return None
        del self._records[place]
        self._unpacked.pop(place, None)
        if place.kind == STORAGE_CLASS.kind:
            self._default_classes.discard(place.name)
        self._disown(place, known)
        return known.owner

    def _disown(self, place: Place, record: _Record) -> None:
        if record.owner:
            self._owned[record.owner].discard(place)
            if not self._owned[record.owner]:
                del self._owned[record.owner]


def controller_of(manifest: Manifest) -> str | None:
    """Give the uid of the object that an object belongs to, if it belongs to one."""
    for reference in manifest["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return str(reference["uid"])
    return None


def place_of(manifest: Manifest) -> Place:
    """Give the place of an object as read."""
    metadata = manifest["metadata"]
    return Place(manifest["kind"], metadata.get("namespace", ""), metadata["name"])


def _version(manifest: Manifest) -> Version:
    # Kubernetes 1.35 made it official that resource versions of one kind are numbers that grow.
    return Version(manifest["metadata"]["uid"], int(manifest["metadata"]["resourceVersion"]))


def _owner(manifest: Manifest) -> ResourceKey | None:
    metadata = manifest["metadata"]
    if manifest["kind"] == LLM_DEPLOYMENT.kind:
        return ResourceKey(metadata["namespace"], metadata["name"])
    name = (metadata.get("labels") or {}).get(names.NAME_LABEL)
    if manifest["kind"] == HPA.kind:
        target = manifest["spec"]["scaleTargetRef"]
        ours = target.get("kind") == names.KIND and str(target.get("apiVersion")).startswith(f"{names.GROUP}/")
        name = target["name"] if ours else None
    return ResourceKey(metadata["namespace"], name) if name and "namespace" in metadata else None


def _trim(manifest: Manifest) -> Manifest:
    """Leave out what no pass looks at."""
    if manifest["kind"] == STORAGE_CLASS.kind:
        return {"kind": manifest["kind"], "metadata": {"name": manifest["metadata"]["name"]}}
    if manifest["kind"] == POD.kind:
        return {
            "apiVersion": manifest["apiVersion"],
            "kind": manifest["kind"],
            "metadata": _chosen(manifest["metadata"], _POD_METADATA),
            "spec": _chosen(manifest.get("spec") or {}, ("nodeName",)),
            "status": _chosen(manifest.get("status") or {}, _POD_STATUS),
        }
    if manifest["kind"] == HPA.kind and _owner(manifest) is None:
        return {"kind": manifest["kind"], "metadata": _chosen(manifest["metadata"], ("name", "namespace"))}
    metadata = {
        key: value for key, value in manifest["metadata"].items() if key not in {"managedFields", "resourceVersion"}
    }
    if manifest["kind"] == LLM_DEPLOYMENT.kind and (owners := _owners_of_replicas(manifest)):
        metadata["managedFields"] = owners
    if _LAST_APPLIED_ANNOTATION in (metadata.get("annotations") or {}):
        # A copy of the whole manifest, kept there by `kubectl apply`.
        kept = {key: value for key, value in metadata["annotations"].items() if key != _LAST_APPLIED_ANNOTATION}
        metadata["annotations"] = kept
    return {**manifest, "metadata": metadata}


def _owners_of_replicas(manifest: Manifest) -> list[dict[str, Any]]:
    """Who wrote `spec.replicas`: all that is kept of `managedFields`."""
    metadata = manifest["metadata"]
    owners = [
        _chosen(entry, ("manager", "operation", "subresource"))
        for entry in metadata.get("managedFields") or ()
        if "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    ]
    # Whoever creates an object owns the defaults too, but for server-side apply; what `kubectl apply` was given says
    # whether it will write the field again.
    applied = (metadata.get("annotations") or {}).get(_LAST_APPLIED_ANNOTATION)
    if applied and "replicas" not in (json.loads(applied).get("spec") or {}):
        owners = [owner for owner in owners if owner["manager"] != "kubectl-client-side-apply"]
    return owners


def _chosen(source: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: source[key] for key in keys if key in source}
