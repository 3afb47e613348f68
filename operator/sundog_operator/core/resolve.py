"""Spec + operator configuration → `Resolved`: everything decided that depends on nothing observed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from sundog_operator.api.types import LLMDeployment, LLMDeploymentSpec
from sundog_operator.config import Config
from sundog_operator.core import names, tokens
from sundog_operator.core.errors import InvalidSpec
from sundog_operator.core.names import Manifest
from sundog_operator.core.pod_template import merge_pod_template
from sundog_operator.core.timeouts import Timeouts, timeouts

FORMING: Final = (
    "model",
    "engine",
    "parallelism",
    "resources",
    "nodeSelector",
    "tolerations",
    "podTemplate",
    "requestTimeoutSeconds",  # it stands in Ray's environment and in the pods' grace period
    "ray",
)
"""Fields of the spec that form a revision: what the pods of its engines are made from. A change of any other restarts
no engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """Where the weights come from."""

    uri: str
    """In full: with its scheme."""
    claim: str | None = None
    """Of `pvc://`: the PersistentVolumeClaim."""
    path: str | None = None
    """Of `pvc://`: where the model stands inside the pod."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """One LLMDeployment, ready for the builders."""

    name: str
    namespace: str
    uid: str
    generation: int
    spec: LLMDeploymentSpec
    config: Config
    model: ModelSource
    served_name: str
    image: str
    gpus: int
    """Devices of one replica."""
    revision: str
    """Hash of all that forces a new engine, eight hexadecimal digits."""
    timeouts: Timeouts
    ray_token: str
    replica_token: str

    @property
    def token_secret(self) -> str:
        """Name of the Secret: it holds a hash of its content, so that a Secret by this name is never a wrong one."""
        return f"{self.name}-token-{names.short_hash(self.ray_token + self.replica_token)}"

    @property
    def mounts(self) -> dict[str, str]:
        """Where the claims are that a worker mounts for its model."""
        cache = self.spec.model.cache
        found = {cache.persistent_volume_claim.claim_name: names.CACHE_MOUNT} if cache else {}
        return found | ({self.model.claim: names.MODEL_MOUNT} if self.model.claim else {})

    @property
    def url(self) -> str:
        """Base URL of the API inside the cluster, as OpenAI clients want it."""
        host = f"{self.name}.{self.namespace}.svc.{self.config.cluster_domain}"
        return f"http://{host}:{self.spec.service.port}/v1"


def resolve(
    resource: Manifest, config: Config, master_key: bytes, history: Mapping[str, Mapping[str, Any]] | None = None
) -> Resolved:
    """Decide all that the spec and the configuration decide.

    Args:
        resource: the LLMDeployment.
        config: the operator's.
        master_key: what tokens are derived from.
        history: what formed the revisions that are remembered, by hash; `spec.rollout.revision` may name one.

    Raises:
        InvalidSpec: the resource got past the CRD's schema, but nothing can be made of it.
    """
    try:
        parsed = LLMDeployment.model_validate(resource)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidSpec(field, f"{first['msg']}; change it") from None
    spec, metadata = parsed.spec, parsed.metadata
    if len(metadata.name) > names.MAX_NAME_LENGTH:
        raise InvalidSpec("metadata.name", f"has {len(metadata.name)} characters; {names.MAX_NAME_LENGTH} at most")
    # Merged over the least template, so that a fault is found here and not by a builder.
    merge_pod_template({"metadata": {"labels": {}}, "spec": {"containers": [{"name": "engine"}]}}, spec.pod_template)
    ray_token = tokens.ray_token(master_key, metadata.uid)
    replica_token = tokens.replica_token(master_key, metadata.uid)
    resolved = Resolved(
        name=metadata.name,
        namespace=metadata.namespace,
        uid=metadata.uid,
        generation=metadata.generation,
        spec=spec,
        config=config,
        model=_model_source(spec),
        served_name=spec.model.name or metadata.name,
        image=spec.engine.image or config.serving_image,
        gpus=_gpus(spec),
        revision=_revision(spec, served_name=spec.model.name or metadata.name, secrets=ray_token + replica_token),
        timeouts=timeouts(spec.request_timeout_seconds),
        ray_token=ray_token,
        replica_token=replica_token,
    )
    _check_adapters(resolved)
    named = spec.rollout.revision
    return resolved if named in {"", resolved.revision} else _named(resolved, named, history or {})


def _check_adapters(resolved: Resolved) -> None:
    """Check what the API server checks as well; it does not where its CRD is of another release."""
    lora = resolved.spec.model.lora
    for index, adapter in enumerate(lora.adapters if lora else ()):
        field = f"spec.model.lora.adapters[{index}]"
        if adapter.name == resolved.served_name:
            raise InvalidSpec(f"{field}.name", f"{adapter.name} is the name of the model itself; give it another")
        location = adapter.location
        if location.scheme == "pvc" and location.authority not in resolved.mounts:
            raise InvalidSpec(
                f"{field}.uri",
                f"no pod has claim {location.authority} mounted; put the adapter into the claim of spec.model.uri or "
                "spec.model.cache",
            )


def _named(resolved: Resolved, named: str, history: Mapping[str, Mapping[str, Any]]) -> Resolved:
    found = at_revision(resolved, named, history[named]) if named in history else None
    if found is None:
        there_are = ", ".join(sorted(history)) or "none yet"
        raise InvalidSpec(
            "spec.rollout.revision",
            f"names revision {named}, which is not remembered (there are: {there_are}); name one of those, or leave "
            "it out",
        )
    return found


def at_revision(resolved: Resolved, revision: str, formed_by: Mapping[str, Any]) -> Resolved | None:
    """Give the same LLMDeployment as it is with another revision of its history; None: this version can't read it.

    Args:
        resolved: as the spec is now; all that forms no revision is taken from it.
        revision: the other one's hash.
        formed_by: what formed it, as `forming` gave it.
    """
    written = {key: value for key, value in resolved.spec.manifest().items() if key not in FORMING}
    if (lora := (formed_by.get("model") or {}).get("lora")) is not None:
        # Which adapters there are is of no revision: the list is that of now.
        now = resolved.spec.model.lora.manifest()["adapters"] if resolved.spec.model.lora else []
        formed_by = {**formed_by, "model": {**formed_by["model"], "lora": {**lora, "adapters": now}}}
    try:
        spec = LLMDeploymentSpec.model_validate({**written, **formed_by})
        model = _model_source(spec)
    except (ValidationError, InvalidSpec):
        return None
    return dataclasses.replace(
        resolved,
        spec=spec,
        model=model,
        served_name=spec.model.name or resolved.name,
        image=spec.engine.image or resolved.config.serving_image,
        gpus=_gpus(spec),
        revision=revision,
        timeouts=timeouts(spec.request_timeout_seconds),
    )


def forming(spec: LLMDeploymentSpec) -> dict[str, Any]:
    """Give what forms a revision, as it was *written*, not what is rendered from it, and without defaults.

    So neither an upgrade of the operator, nor a field that is new in it, restarts an engine.
    """
    written = spec.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude_none=True)
    if "lora" in written["model"]:
        written["model"]["lora"].pop("adapters", None)  # running replicas take a changed list
    return {field: written[field] for field in FORMING if field in written}


def _model_source(spec: LLMDeploymentSpec) -> ModelSource:
    try:
        location = spec.model.location
    except ValueError as error:
        raise InvalidSpec("spec.model.uri", str(error)) from None
    if location.scheme == "hf":
        return ModelSource(uri=str(location))
    path = f"{names.MODEL_MOUNT}/{location.path}".rstrip("/")
    return ModelSource(uri=str(location), claim=location.authority, path=path)


def _gpus(spec: LLMDeploymentSpec) -> int:
    """Count the devices of one replica: every extended resource that ends in `/gpu`, in limits or requests."""
    amounts = spec.resources.requests | spec.resources.limits
    return sum(int(amount) for key, amount in amounts.items() if key.endswith("/gpu") and amount.isdigit())


def _revision(spec: LLMDeploymentSpec, *, served_name: str, secrets: str) -> str:
    formed_by = {**forming(spec), "servedName": served_name, "secrets": secrets}
    return names.short_hash(json.dumps(formed_by, sort_keys=True))
