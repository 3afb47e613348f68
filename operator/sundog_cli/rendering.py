"""What the operator would create for a spec: the same core, with the little that only a cluster knows put in later."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sundog_cli.errors import Trouble
from sundog_cli.manifests import as_yaml
from sundog_operator.config import Config
from sundog_operator.core import names
from sundog_operator.core.errors import InvalidSpec
from sundog_operator.core.names import Manifest
from sundog_operator.core.observed import Observed
from sundog_operator.core.plan import make_plan
from sundog_operator.core.resolve import Resolved, resolve
from sundog_operator.core.writes import Apply, Create

NO_UID: Final = "00000000-0000-0000-0000-000000000000"
_KEY: Final = b"not the master key"
"""The operator's own is not for a person to read; it decides the tokens, and through their hash some names."""
_TOKEN: Final = "made-by-the-operator"  # noqa: S105 what stands in place of one


@dataclass(frozen=True, slots=True)
class Rendered:
    """What comes of one LLMDeployment."""

    resource: Manifest
    """With all defaults filled in."""
    manifests: tuple[Manifest, ...]
    revision: str
    """Its hash; in a cluster another, because the master key is in it."""

    @property
    def as_list(self) -> Manifest:
        """A List, for programs."""
        return {"apiVersion": "v1", "kind": "List", "items": list(self.manifests)}


def as_in_cluster(manifest: Manifest, found: Manifest | None) -> Manifest:
    """Take the number of replicas from the cluster where the file leaves it to whoever scales: applying does so too."""
    if found is None or "replicas" in manifest["spec"] or "replicas" not in found["spec"]:
        return manifest
    return {**manifest, "spec": {**manifest["spec"], "replicas": found["spec"]["replicas"]}}


def render(manifest: Manifest, config: Config, *, namespace: str) -> Rendered:
    """Render all that a first pass would create.

    Args:
        manifest: an LLMDeployment as written, or as read from a cluster.
        config: of the operator.
        namespace: where the manifest names none.

    Raises:
        Trouble: nothing can be made of the spec.
    """
    # Always this uid: the tokens hang on it, and the hash of the revision on them.
    metadata = {"namespace": namespace, "generation": 1, **manifest["metadata"], "uid": NO_UID}
    resource = {**manifest, "metadata": metadata}
    resource.pop("status", None)
    try:
        resolved = resolve(resource, config, _KEY)
    except InvalidSpec as error:
        raise Trouble(f"{metadata['name']}: {error}.") from None
    # KEDA is taken for granted: what is asked for is shown, whether or not it is installed.
    plan = make_plan(resolved, Observed(resource=resource, keda=True))
    manifests = tuple(_shown(write.manifest) for write in plan.writes if isinstance(write, Apply | Create))
    return Rendered(_with_defaults(resource, resolved), manifests, resolved.revision)


def _with_defaults(resource: Manifest, resolved: Resolved) -> Manifest:
    about = {key: resource[key] for key in ("apiVersion", "kind")}
    labels = {key: resource["metadata"][key] for key in ("name", "namespace")}
    return {**about, "metadata": labels, "spec": resolved.spec.manifest()}


def _shown(manifest: Manifest) -> Manifest:
    """Leave out what would be a lie: tokens of another key, and a hash over what is not the real thing."""
    metadata = dict(manifest["metadata"])
    annotations = {
        key: value for key, value in metadata.get("annotations", {}).items() if key != names.APPLIED_HASH_ANNOTATION
    }
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    shown = {**manifest, "metadata": metadata}
    if manifest["kind"] == "Secret":
        shown["stringData"] = dict.fromkeys(shown.pop("data"), _TOKEN)
    return shown


@dataclass(frozen=True, slots=True)
class Difference:
    """What would change in one object."""

    kind: str
    name: str
    change: str
    """`created`, `changed`, `deleted`."""
    lines: tuple[str, ...]
    """A unified diff."""


def compare(before: Rendered | None, after: Rendered, *, revision: str) -> list[Difference]:
    """Tell what a changed spec comes to, object by object.

    A revision's objects have its hash in their names, and here it is of a key that is not the real one. So they are
    compared without it: where the revision is a new one, an object of it that is otherwise the same has no lines.

    Args:
        before: of the spec in the cluster; None: there is none.
        after: of the spec in the file.
        revision: hash of the cluster's current revision; empty: not known.
    """
    stays = before is not None and before.revision == after.revision
    shown = revision if revision and stays else "<revision>"
    old = {} if before is None else dict(_objects(before, shown))
    new = dict(_objects(after, shown))
    found = []
    for key in dict.fromkeys((*old, *new)):
        was, becomes = old.get(key), new.get(key)
        anew = not stays and before is not None and "<revision>" in key[1]
        if was != becomes or anew:
            change = "created" if was is None else "deleted" if becomes is None else "replaced" if anew else "changed"
            found.append(Difference(*key, change, tuple(_lines(was, becomes))))
    return found


def _objects(rendered: Rendered, revision: str) -> Iterator[tuple[tuple[str, str], Manifest]]:
    name = str(rendered.resource["metadata"]["name"])
    yield (names.KIND, name), rendered.resource
    secrets = [each["metadata"]["name"] for each in rendered.manifests if each["kind"] == "Secret"]
    for manifest in rendered.manifests:
        text = json.dumps(manifest).replace(rendered.revision, revision)
        for secret in secrets:  # its name hangs on the uid, which the file does not know
            text = text.replace(secret, f"{name}-token-<hash>")
        found: Manifest = json.loads(text)
        yield (found["kind"], found["metadata"]["name"]), found


def _lines(was: Manifest | None, becomes: Manifest | None) -> Iterator[str]:
    def path(manifest: Manifest | None) -> str:
        return "/dev/null" if manifest is None else f"{manifest['kind']}/{manifest['metadata']['name']}"

    def text(manifest: Manifest | None) -> list[str]:
        return [] if manifest is None else as_yaml(manifest).splitlines()

    yield from difflib.unified_diff(text(was), text(becomes), path(was), path(becomes), lineterm="")


def headline(before: Rendered | None, after: Rendered, differences: Sequence[Difference]) -> str:
    """Say in a sentence what a change comes to."""
    name = after.resource["metadata"]["name"]
    if before is None:
        return f"{name} is not in the cluster: {len(differences)} objects would be made."
    if not differences:
        return f"{name} is in the cluster as it is in the file: nothing would change."
    if before.revision == after.revision:
        return f"{name}: no new revision, so no engine restarts."
    return f"{name}: a new revision; its replicas start beside the old ones, which serve until all of it is ready."


def operator_environment(deployment: Mapping[str, Any]) -> dict[str, str]:
    """Read the settings of an operator from its Deployment."""
    found: dict[str, str] = {}
    for container in deployment["spec"]["template"]["spec"]["containers"]:
        for variable in container.get("env", []):
            if "value" in variable:
                found[variable["name"]] = str(variable["value"])
            elif variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath") == "metadata.namespace":
                found[variable["name"]] = str(deployment["metadata"]["namespace"])
    return found
