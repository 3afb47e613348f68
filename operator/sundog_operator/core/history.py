"""The history of an LLMDeployment: one ControllerRevision per revision, with what formed it and what became of it.

All that must outlive the operator and the objects of a revision stands here: a revision can be built anew from it, and
one that was withdrawn is not tried again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sundog_operator.core import names
from sundog_operator.core.builders.metadata import child
from sundog_operator.core.names import Manifest, ObjectKey
from sundog_operator.core.resolve import Resolved, forming

KIND: Final = "ControllerRevision"
_COMPONENT: Final = "revision"


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Why a revision was taken back."""

    generation: int
    """Of the LLMDeployment, when it was."""
    reason: str
    """CamelCase: what was wrong with it."""
    message: str
    """The cause, in the words of the engine or of Kubernetes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One revision that is remembered."""

    hash: str
    number: int
    """Grows: the revision that is asked for has the greatest."""
    formed_by: Mapping[str, Any]
    served: bool
    """Whether its replicas have once been all there: one that may be gone back to."""
    withdrawn: Withdrawal | None
    key: ObjectKey
    uid: str


def read_history(name: str, children: Mapping[ObjectKey, Manifest]) -> dict[str, Entry]:
    """Read what is remembered, by hash, the newest first."""
    found = [_entry(name, key, manifest) for key, manifest in children.items() if key.kind == KIND]
    return {entry.hash: entry for entry in sorted(found, key=lambda entry: (-entry.number, entry.hash))}


def formed_by(name: str, children: Mapping[ObjectKey, Manifest]) -> dict[str, Mapping[str, Any]]:
    """Give what formed each revision that is remembered, by hash."""
    return {revision: entry.formed_by for revision, entry in read_history(name, children).items()}


def manifest(resolved: Resolved, *, number: int) -> Manifest:
    """Build the first entry of the revision that a resource was resolved to."""
    return _manifest(resolved, resolved.revision, forming(resolved.spec), number, served=False, withdrawn=None)


def changed(resolved: Resolved, entry: Entry, *, number: int, served: bool, withdrawn: Withdrawal | None) -> Manifest:
    """Build an entry anew with another number or fate; its data can't be changed."""
    return _manifest(resolved, entry.hash, entry.formed_by, number, served=served, withdrawn=withdrawn)


def _manifest(
    resolved: Resolved,
    revision: str,
    formed: Mapping[str, Any],
    number: int,
    *,
    served: bool,
    withdrawn: Withdrawal | None,
) -> Manifest:
    body = {"revision": number, "data": {"spec": dict(formed)}}
    name = names.revision(resolved.name, revision)
    made = child(resolved, "apps/v1", KIND, name, component=_COMPONENT, revision=revision, body=body)
    annotations = {}
    if served:
        annotations[names.SERVED_ANNOTATION] = "true"
    if withdrawn:
        told = {"generation": withdrawn.generation, "reason": withdrawn.reason, "message": withdrawn.message}
        annotations[names.WITHDRAWN_ANNOTATION] = json.dumps(told)
    if annotations:
        made["metadata"]["annotations"] = annotations
    return made


def _entry(name: str, key: ObjectKey, found: Manifest) -> Entry:
    annotations = found["metadata"].get("annotations") or {}
    return Entry(
        hash=found["metadata"]["labels"].get(names.REVISION_LABEL) or key.name.removeprefix(f"{name}-"),
        number=int(found.get("revision", 0)),
        formed_by=(found.get("data") or {}).get("spec") or {},
        served=annotations.get(names.SERVED_ANNOTATION) == "true",
        withdrawn=_withdrawal(annotations.get(names.WITHDRAWN_ANNOTATION)),
        key=key,
        uid=found["metadata"].get("uid", ""),
    )


def _withdrawal(text: str | None) -> Withdrawal | None:
    if text is None:
        return None
    try:
        told = json.loads(text)
        return Withdrawal(int(told["generation"]), str(told["reason"]), str(told["message"]))
    except (ValueError, KeyError, TypeError):
        return Withdrawal(0, "Withdrawn", text)  # by hand
