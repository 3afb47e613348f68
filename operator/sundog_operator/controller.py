"""One pass over one LLMDeployment: observe → resolve → desired → plan → apply → status → events.

Level-triggered: a pass looks at what is, never at what happened, so any order, repetition or loss of events ends in the
same state, and so does a crash between any two writes. A pass that writes nothing is the last one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import structlog

from sundog_operator.config import Config
from sundog_operator.core import names
from sundog_operator.core.adapters import identity, replicas_to_ask
from sundog_operator.core.errors import InvalidSpec
from sundog_operator.core.events import Event, transitions
from sundog_operator.core.heads import heads_to_ask
from sundog_operator.core.history import formed_by
from sundog_operator.core.names import Manifest, ObjectKey, key_of
from sundog_operator.core.observed import AdapterState, HeadUnreachable, Observed, ServeState
from sundog_operator.core.plan import make_plan
from sundog_operator.core.resolve import Resolved, resolve
from sundog_operator.core.status import status as status_of
from sundog_operator.core.view import condition
from sundog_operator.core.writes import Apply, Create, Delete, Plan, PutServe, Scale, ScaleServe, Write
from sundog_operator.core.zero import asks_routers, wakes
from sundog_operator.kube.client import Client
from sundog_operator.kube.errors import KubeError, NotLeading
from sundog_operator.kube.events import event
from sundog_operator.kube.listing import read_owned
from sundog_operator.kube.resources import DEPLOYMENT, LLM_DEPLOYMENT, MANAGED_SELECTOR, POD, SCALED_OBJECT
from sundog_operator.kube.store import ResourceKey, Store, controller_of
from sundog_operator.meter import Meter
from sundog_operator.ray.client import Head, HeadClient, HeadError
from sundog_operator.workqueue import Postponed

log = structlog.get_logger()

TRANSIENT_SECONDS: Final = 8.0
"""Longest wait after an error of the API server itself: it shall have been caught up with 10 s after its return."""
CALM_PASSES: Final = 20
"""Passes in a row that may write at once. More means that someone sets back what is written, and it gets slower."""
LONGEST_CONTENTION_SECONDS: Final = 60.0


class Observer(Protocol):
    """Who counts."""

    def pass_done(self, result: str, seconds: float) -> None:
        """Tell how a pass ended."""

    def readiness(self, key: tuple[str, str], ready: str | None) -> None:
        """Tell the Ready condition of a resource; None: it is gone."""


class Foreign(Exception):  # noqa: N818 a finding about the cluster
    """An object by the name of a child belongs to someone else."""


@dataclass(slots=True)
class _Memory:
    """What is known of a resource beside the world; losing it costs a needless write at most."""

    uid: str
    status_written: tuple[str, str] | None = None
    """Digests of the last status that was applied, and of what the server made of it."""
    scaled_to: int | None = None
    """The number of replicas that was written last."""
    writing_passes: int = 0
    """In a row."""
    adapters: dict[tuple[str, int], tuple[AdapterState, ...]] = field(default_factory=dict)
    """What replicas said last, by what the answer is good for."""


class Controller:
    """Runs passes."""

    def __init__(
        self,
        *,
        config: Config,
        store: Store,
        client: Client,
        heads: HeadClient,
        meter: Meter,
        master_key: bytes,
        observer: Observer,
        custom_metrics_trouble: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Prepare; nothing is kept between passes that could not be lost."""
        self._config = config
        self._store = store
        self._client = client
        self._heads = heads
        self._meter = meter
        self._master_key = master_key
        self._observer = observer
        self._custom_metrics_trouble = custom_metrics_trouble
        self._memories: dict[ResourceKey, _Memory] = {}

    async def reconcile(self, key: ResourceKey) -> float | None:
        """Look at one resource, and do what is to be done.

        Returns:
            The seconds after which to look again; None: when something happens.

        Raises:
            Postponed: something could not be done; the cause is told in the status where that was possible.
        """
        started = time.monotonic()
        resource = self._store.resource(key)
        if resource is None or "deletionTimestamp" in resource["metadata"]:
            # Owner references clean up; whatever was written now would have to be cleaned up as well.
            self._memories.pop(key, None)
            self._meter.asleep.discard(key)
            self._observer.readiness(key, None)
            return None
        try:
            done = await self._pass(key, resource)
        except (KubeError, HeadError, Foreign, NotLeading) as error:
            self._observer.pass_done("failed", time.monotonic() - started)
            raise _postponed(error) from error
        seconds = time.monotonic() - started
        self._observer.pass_done("changed" if done.writes or done.status_written else "unchanged", seconds)
        if done.writes or done.status_written:
            log.info(
                "pass",
                namespace=key.namespace,
                name=key.name,
                generation=resource["metadata"]["generation"],
                writes=[f"{describe(write)}: {write.reason}" for write in done.writes],
                ready=done.ready,
                seconds=round(seconds, 4),
            )
        return self._look_again(key, done)

    def _look_again(self, key: ResourceKey, done: _Done) -> float | None:
        memory = self._memories[key]
        if not done.writes and not done.status_written:
            memory.writing_passes = 0
            return done.look_again_seconds
        # What was written comes back as events that are no news: the store has the server's answers already. So the
        # pass after a write is asked for here.
        memory.writing_passes += 1
        over = memory.writing_passes - CALM_PASSES
        if over <= 0:
            return 0.0
        if over == 1:
            log.warning("contention", namespace=key.namespace, name=key.name, passes=memory.writing_passes)
        return min(0.5 * 2.0 ** min(over, 10), LONGEST_CONTENTION_SECONDS)

    async def _pass(self, key: ResourceKey, resource: Manifest) -> _Done:
        memory = self._remember(key, resource)
        (self._meter.asleep.add if wakes(resource) else self._meter.asleep.discard)(key)
        observed = self._observe(key, resource)
        try:
            resolved = self._resolve(resource, observed)
        except InvalidSpec as invalid:
            return await self._tell(memory, observed, status_of(invalid, observed), writes=())
        observed = await self._ask(resolved, observed)
        plan = make_plan(resolved, observed)
        if plan.irreversible:
            live = await self._read_live(key, resolved)
            if live is None:
                return _Done(writes=(), status_written=False, ready="", look_again_seconds=None)
            resolved, observed = live
            plan = make_plan(resolved, observed)
        return await self._carry_out(key, memory, resolved, observed, plan)

    async def _carry_out(
        self, key: ResourceKey, memory: _Memory, resolved: Resolved, observed: Observed, plan: Plan
    ) -> _Done:
        written: list[Write] = []
        failure: KubeError | HeadError | Foreign | None = None
        try:
            await self._claim(resolved, observed, plan)
            for write in plan.writes:
                await self._do(resolved, write)
                if isinstance(write, Scale):
                    memory.scaled_to = write.replicas
                written.append(write)
        except (KubeError, HeadError, Foreign) as error:
            failure = error
        resource = self._store.resource(key) or observed.resource
        observed = dataclasses.replace(
            self._observe(key, resource), heads=observed.heads, routers=observed.routers, adapters=observed.adapters
        )
        if failure is None:
            new = status_of(resolved, observed)
            return await self._tell(memory, observed, new, writes=tuple(written), look_again=plan.look_again_seconds)
        if not isinstance(failure, KubeError) or not failure.transient:
            refused = plan.writes[len(written)] if len(written) < len(plan.writes) else None
            told = (
                str(failure) if refused is None or isinstance(failure, Foreign) else f"{describe(refused)}: {failure}"
            )
            await self._tell(memory, observed, status_of(resolved, observed, told), writes=tuple(written))
        raise failure

    def _remember(self, key: ResourceKey, resource: Manifest) -> _Memory:
        uid = resource["metadata"]["uid"]
        memory = self._memories.get(key)
        if memory is None or memory.uid != uid:
            memory = self._memories[key] = _Memory(uid)
        return memory

    def _observe(self, key: ResourceKey, resource: Manifest) -> Observed:
        belongings = self._store.belongings(key, uid=resource["metadata"]["uid"])
        return Observed(
            resource=resource,
            children=belongings.children,
            pods=belongings.pods,
            other_autoscalers=belongings.other_autoscalers,
            custom_metrics_trouble=self._custom_metrics_trouble(),
            scaled_to=self._memories[key].scaled_to,
            keda=self._store.reads(SCALED_OBJECT),
            default_storage_class=self._store.default_storage_class,
            unix_seconds=time.time(),
        )

    def _resolve(self, resource: Manifest, observed: Observed) -> Resolved:
        history = formed_by(resource["metadata"]["name"], observed.children)
        return resolve(resource, self._config, self._master_key, history)

    async def _ask(self, resolved: Resolved, observed: Observed) -> Observed:
        """Ask the heads and routers whose answers this pass needs."""
        revisions = sorted(heads_to_ask(resolved, observed))
        answers = await asyncio.gather(*(self._heads.state(_head(resolved, revision)) for revision in revisions))
        asked: dict[str, ServeState | HeadUnreachable] = dict(zip(revisions, answers, strict=True))
        routers = await self._meter.routers(observed.pods) if asks_routers(resolved, observed) else None
        adapters = await self._ask_for_adapters(resolved, observed)
        return dataclasses.replace(observed, heads=asked, routers=routers, adapters=adapters)

    async def _ask_for_adapters(
        self, resolved: Resolved, observed: Observed
    ) -> dict[str, tuple[AdapterState, ...] | str]:
        """Ask the replicas of which it is not known that they have all adapters; once after this process's start."""
        memory = self._memories[ResourceKey(resolved.namespace, resolved.name)]
        asked = replicas_to_ask(resolved, observed, memory.adapters)
        said = await self._meter.adapters(asked, resolved.uid) if asked else {}
        now = {identity(pod): pod["metadata"]["name"] for pod in observed.pods}
        memory.adapters = {key: states for key, states in memory.adapters.items() if key in now}
        for pod in asked:
            states = said[pod["metadata"]["name"]]
            if isinstance(states, str):
                memory.adapters.pop(identity(pod), None)
            else:
                memory.adapters[identity(pod)] = states
        return {now[key]: states for key, states in memory.adapters.items()} | said

    async def _read_live(self, key: ResourceKey, resolved: Resolved) -> tuple[Resolved, Observed] | None:
        """Observe anew what a step that cannot be taken back rests on; None: the resource is gone or going."""
        found = await self._client.get(LLM_DEPLOYMENT.kind, namespace=key.namespace, name=key.name)
        if found is None or found["metadata"]["uid"] != resolved.uid or "deletionTimestamp" in found["metadata"]:
            return None
        self._store.put(found)
        labels = f"{MANAGED_SELECTOR},{names.NAME_LABEL}={key.name}"
        await read_owned(self._client, self._store, DEPLOYMENT, key, labels=labels)
        await read_owned(self._client, self._store, POD, key, labels=labels)
        resource = self._store.resource(key)
        if resource is None:
            return None
        observed = self._observe(key, resource)
        try:
            resolved = self._resolve(resource, observed)
        except InvalidSpec:
            return None  # changed this very moment: its event brings the next pass
        return resolved, await self._ask(resolved, observed)

    async def _claim(self, resolved: Resolved, observed: Observed, plan: Plan) -> None:
        """Make sure that what is applied for the first time is not another's.

        Applied by force, the Service of the same name that someone made by hand would be bent to our pods, and deleted
        together with the LLMDeployment.

        Raises:
            Foreign: it is another's.
            KubeError: it could not be read.
        """
        unseen = [
            key_of(write.manifest)
            for write in plan.writes
            if isinstance(write, Apply)
            and key_of(write.manifest) not in observed.children
            and _could_be_anothers(write.manifest)
        ]
        found = await asyncio.gather(
            *(self._client.get_metadata(key.kind, namespace=resolved.namespace, name=key.name) for key in unseen)
        )
        for key, manifest in zip(unseen, found, strict=True):
            if manifest is not None:
                _require_ours(key, manifest, resolved)

    async def _do(self, resolved: Resolved, write: Write) -> None:
        match write:
            case Apply(manifest=manifest):
                await self._apply(manifest)
            case Create(manifest=manifest):
                await self._client.create(manifest)
            case Delete(key=key, uid=uid):
                left = await self._client.delete(key.kind, namespace=resolved.namespace, name=key.name, uid=uid)
                if left is None:
                    self._store.remove_uid(key.kind, namespace=resolved.namespace, name=key.name, uid=uid)
                else:
                    self._store.put(left)
            case Scale(replicas=replicas, resource_version=version):
                where = {"namespace": resolved.namespace, "name": resolved.name}
                await self._client.scale(LLM_DEPLOYMENT, **where, replicas=replicas, version=version)
                if found := await self._client.get(LLM_DEPLOYMENT.kind, **where):
                    self._store.put(found)
            case PutServe(revision=revision, config=config):
                await self._heads.put(_head(resolved, revision), config)
            case ScaleServe(revision=revision, target=target):
                await self._heads.scale(_head(resolved, revision), target)

    async def _apply(self, manifest: Manifest) -> None:
        try:
            answer = await self._client.apply(manifest)
        except KubeError as error:
            # A manifest with a uid marks an object that is there; that it has gone meanwhile is as good.
            if "uid" in manifest["metadata"] and (error.conflict or error.not_found):
                return
            raise
        self._store.put(answer)

    async def _tell(
        self,
        memory: _Memory,
        observed: Observed,
        new: Manifest,
        *,
        writes: tuple[Write, ...],
        look_again: float | None = None,
    ) -> _Done:
        """Write the status where it differs, and the Events of its transitions."""
        resource = observed.resource
        metadata = resource["metadata"]
        key = ResourceKey(metadata["namespace"], metadata["name"])
        old: dict[str, Any] = resource.get("status") or {}
        ready = condition({"status": new}, "Ready")
        self._observer.readiness(key, ready["status"])
        done = _Done(
            writes=writes,
            status_written=False,
            ready=f"{ready['status']} {ready['reason']}",
            look_again_seconds=look_again,
        )
        # Where the server makes something else of a status than was applied, once is enough.
        if new == old or memory.status_written == (_digest(new), _digest(old)):
            return done
        for transition in transitions(old, new):
            await self._emit(resource, transition)
        identity = {"name": key.name, "namespace": key.namespace, "uid": metadata["uid"]}
        try:
            answer = await self._client.apply_status(
                {"apiVersion": resource["apiVersion"], "kind": resource["kind"], "metadata": identity, "status": new}
            )
        except KubeError as error:
            if error.not_found or error.conflict:
                return done  # it was deleted meanwhile, which is told by the watch
            raise
        memory.status_written = (_digest(new), _digest(answer.get("status") or {}))
        self._store.put(answer)
        return dataclasses.replace(done, status_written=True)

    async def _emit(self, resource: Manifest, transition: Event) -> None:
        manifest = event(
            resource,
            type_=transition.type,
            reason=transition.reason,
            message=transition.message,
            reporting_instance=self._config.identity,
        )
        try:
            await self._client.create(manifest)
        except KubeError as error:
            if error.transient:
                raise
            # Events are a courtesy: one that is refused (a namespace that is being deleted) must not keep the status.
            metadata = resource["metadata"]
            log.warning("event refused", namespace=metadata["namespace"], name=metadata["name"], cause=str(error))


@dataclass(frozen=True, slots=True)
class _Done:
    """What came of a pass."""

    writes: tuple[Write, ...]
    status_written: bool
    ready: str
    look_again_seconds: float | None


def describe(write: Write) -> str:
    """Name a write, for logs and messages: verb and object, no content."""
    match write:
        case Apply(manifest=manifest):
            return f"apply {manifest['kind']} {manifest['metadata']['name']}"
        case Create(manifest=manifest):
            return f"create {manifest['kind']} {manifest['metadata']['name']}"
        case Delete(key=key):
            return f"delete {key.kind} {key.name}"
        case PutServe(revision=revision):
            return f"configure Serve of revision {revision}"
        case Scale(replicas=replicas):
            return f"set replicas to {replicas}"
        case ScaleServe(revision=revision, target=target):
            return f"scale Serve of revision {revision} to {target}"


def _digest(status: Manifest) -> str:
    return names.short_hash(json.dumps(status, sort_keys=True))


def _head(resolved: Resolved, revision: str) -> Head:
    return Head(
        namespace=resolved.namespace,
        service=names.revision_head(resolved.name, revision),
        token=resolved.ray_token,
    )


def _could_be_anothers(manifest: Manifest) -> bool:
    """Whether somebody else may have chosen that name: not where it has a revision's hash, or an object's own uid."""
    metadata = manifest["metadata"]
    return "uid" not in metadata and names.REVISION_LABEL not in metadata.get("labels", {})


def _require_ours(key: ObjectKey, found: Manifest, resolved: Resolved) -> None:
    owner = controller_of(found)
    labels = found["metadata"].get("labels") or {}
    orphaned = owner is None and labels.get(names.NAME_LABEL) == resolved.name
    if owner == resolved.uid or (orphaned and labels.get(names.MANAGED_BY_LABEL) == names.MANAGED_BY):
        return
    if labels.get(names.NAME_LABEL) == resolved.name and owner is not None:
        raise Foreign(
            f"{key.kind} {key.name} still belongs to an LLMDeployment of this name that was deleted; waiting for "
            "Kubernetes to remove it"
        )
    raise Foreign(
        f"{key.kind} {key.name} exists already and does not belong to this LLMDeployment; delete or rename that "
        "object, or give the LLMDeployment another name"
    )


def _postponed(error: KubeError | HeadError | Foreign | NotLeading) -> Postponed:
    if isinstance(error, NotLeading):
        return Postponed(error, longest_seconds=TRANSIENT_SECONDS)
    if isinstance(error, KubeError) and error.transient:
        return Postponed(error, not_before_seconds=error.retry_after_seconds or 0.0, longest_seconds=TRANSIENT_SECONDS)
    return Postponed(error)
