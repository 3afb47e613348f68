"""The LLMDeployment, `sundog.dev/v1alpha1`: the one source of the CRD, of the reference and of the Python types.

A field stands here only when this release does what it says: a field that is accepted and ignored would be a lie.
What may be written is decided by the API server, by the schema and its rules (`rules.py`); the models check again only
what they parse, and what rules cannot see.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, StringConstraints, WithJsonSchema

from sundog_operator.api.base import APIObject, ObjectName, ObservedObject, Quantity
from sundog_operator.api.engine_arguments import MAX_ARGUMENTS, arguments_schema, check_argument_names
from sundog_operator.api.kubernetes import (
    Condition,
    ConfigMapKeySelector,
    DataKey,
    EnvVar,
    EnvVarSource,
    FieldSelector,
    LabelValue,
    ObjectMeta,
    PlainResources,
    Resources,
    SecretKeySelector,
    Toleration,
)
from sundog_operator.api.lora import Adapter, AdapterStatus, LoRA
from sundog_operator.api.pod_template import pod_template_schema
from sundog_operator.api.rules import (
    ADAPTER_NAMES,
    AUTOSCALING,
    GPUS,
    IMAGE,
    NAME,
    OBJECT_NAME_OR_NONE,
    POSITIVE_AMOUNT,
    QUALIFIED_KEYS,
    REVISION_HASH,
    ROLLOUT,
    keep,
)
from sundog_operator.api.uri import (
    ADAPTER_CLAIM,
    HUB_ONLY,
    MODEL_NAME,
    REVISION,
    URI_RULES,
    ModelURI,
    known_uri,
    parse_model_uri,
)

__all__ = [
    "GROUP",
    "KIND",
    "PLURAL",
    "VERSION",
    "Adapter",
    "AdapterStatus",
    "Autoscaling",
    "AutoscalingMetric",
    "ClaimReference",
    "Condition",
    "ConfigMapKeySelector",
    "Engine",
    "EngineStatus",
    "EnvVar",
    "EnvVarSource",
    "FieldSelector",
    "HeadStorage",
    "LLMDeployment",
    "LLMDeploymentSpec",
    "LLMDeploymentStatus",
    "LoRA",
    "Model",
    "ModelCache",
    "ObjectMeta",
    "Parallelism",
    "PlainResources",
    "Ray",
    "RayHead",
    "Resources",
    "RevisionStatus",
    "Rollout",
    "Router",
    "ScalingDecision",
    "SecretKeySelector",
    "Service",
    "TokenSecretReference",
    "Toleration",
]

GROUP = "sundog.dev"
VERSION = "v1alpha1"
KIND = "LLMDeployment"
PLURAL = "llmdeployments"


class TokenSecretReference(APIObject):
    """The Secret that holds the token for the model hub."""

    name: ObjectName
    """Name of a Secret in the same namespace."""
    key: DataKey = "HF_TOKEN"
    """Key within its data. Default: HF_TOKEN, the name of the variable that the hub's own tools read."""


class ClaimReference(APIObject):
    """A PersistentVolumeClaim in the same namespace."""

    claim_name: ObjectName
    """Name of the claim; ReadWriteMany where replicas run on several nodes."""


class ModelCache(APIObject):
    """Where downloaded models are kept."""

    persistent_volume_claim: ClaimReference
    """The claim that all replicas share."""


class Model(APIObject):
    """The model and where it comes from."""

    model_config = ConfigDict(json_schema_extra=keep(*HUB_ONLY, ADAPTER_CLAIM))

    uri: Annotated[
        str,
        StringConstraints(min_length=1, max_length=512),
        AfterValidator(known_uri),
        Field(json_schema_extra=keep(*URI_RULES)),
    ]
    """hf://org/name (or bare org/name) for the Hugging Face hub, pvc://claim/path for a directory in a
    PersistentVolumeClaim (path may be left out)."""
    revision: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = Field(
        default=None, json_schema_extra=keep(REVISION)
    )
    """Commit, tag or branch; only with hf://. Default: the hub's main branch. Give a commit so that each replica has
    the same weights."""
    name: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = Field(
        default=None, json_schema_extra=keep(MODEL_NAME)
    )
    """What requests put into "model". Default: metadata.name."""
    token_secret_ref: TokenSecretReference | None = None
    """Token for a gated or private model; only with hf://."""
    cache: ModelCache | None = None
    """Where downloads are kept; only with hf://. Default: an emptyDir per pod, so each new pod downloads again."""
    lora: LoRA | None = None
    """LoRA adapters, answered by their own names. Setting it, maxAdapters or maxRank restarts replicas."""

    @property
    def location(self) -> ModelURI:
        """The parsed `uri`."""
        return parse_model_uri(self.uri)


def _known_arguments(args: dict[str, JsonValue]) -> dict[str, JsonValue]:
    check_argument_names(args)
    return args


class Engine(APIObject):
    """What generates the tokens."""

    name: Literal["vllm", "fake"] = "vllm"
    """vllm, or fake: an engine without a model that answers at a set rate, to try a cluster without a GPU.
    Default: vllm."""
    image: Annotated[str, StringConstraints(max_length=512)] = Field(default="", json_schema_extra=keep(IMAGE))
    """Image of head and workers. Default: the operator's serving image, which is tested with it."""
    args: Annotated[
        dict[str, JsonValue],
        Field(max_length=MAX_ARGUMENTS),
        AfterValidator(_known_arguments),
        WithJsonSchema(arguments_schema()),
    ] = Field(default_factory=dict)
    """Arguments of the engine by name, without dashes in front, in kebab or snake case: max-model-len: 32768. Those
    that Sundog sets itself are refused."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=64)] = Field(
        default=(), json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    )
    """Environment variables of head and workers, as in a container; those that Sundog sets itself are refused."""


class Parallelism(APIObject):
    """How one replica is spread over the GPUs of its pod: it needs tensor times pipeline of them."""

    tensor: Annotated[int, Field(ge=1, le=64)] = 1
    """GPUs that share each layer. Default: 1, since most models that fit one GPU are fastest on one."""
    pipeline: Annotated[int, Field(ge=1, le=16)] = 1
    """Groups of GPUs that hold successive layers. Default: 1, since stages add latency."""


class AutoscalingMetric(APIObject):
    """What is measured, and how much of it is right for one replica."""

    type: Literal["OngoingRequests", "WaitingRequests", "KVCacheUtilization", "TokensPerSecond"]
    """OngoingRequests: requests without their whole answer, those that wait included. WaitingRequests: those of them
    that no replica has taken. KVCacheUtilization: share of the KV cache in use, from 0 to 1. TokensPerSecond: tokens
    that are generated."""
    average_value: Annotated[Quantity, Field(json_schema_extra=keep(POSITIVE_AMOUNT))]
    """How much of it each replica should have on average: 32 requests, 800m of the cache."""


class Autoscaling(APIObject):
    """Who writes spec.replicas, and within which bounds."""

    model_config = ConfigDict(json_schema_extra=keep(*AUTOSCALING))

    class_: Annotated[Literal["HPA", "KEDA", "External"], Field(alias="class")] = "HPA"
    """HPA: a HorizontalPodAutoscaler that Sundog makes. KEDA: a ScaledObject that Sundog makes; KEDA must be installed.
    External: an autoscaler of your own, at the scale subresource. Default: HPA, which every cluster has."""
    min_replicas: Annotated[int, Field(ge=0, le=256)] | None = None
    """Fewest replicas; with 0 the last one goes when no request has come for idleSeconds, and the next request brings
    one back while it is held. Default: 1."""
    max_replicas: Annotated[int, Field(ge=1, le=256)] | None = None
    """Most replicas."""
    idle_seconds: Annotated[int, Field(ge=10, le=604800)] | None = None
    """Seconds without a request after which the last replica goes; only with minReplicas 0. Default: 900, since a model
    takes minutes to load."""
    metrics: (
        Annotated[
            tuple[AutoscalingMetric, ...],
            Field(
                min_length=1,
                max_length=4,
                json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
            ),
        ]
        | None
    ) = None
    """What decides; of several, the one that wants most replicas. Default: OngoingRequests with averageValue 32, half
    of what a router sends to a replica at a time."""
    behavior: dict[str, Any] | None = None
    """How fast the count moves, as in a HorizontalPodAutoscaler (autoscaling/v2): scaleUp, scaleDown. Default: up to
    twice as many within 60 s; down one per 120 s, once fewer have been enough for 600 s."""


class Rollout(APIObject):
    """How a new revision replaces the old one."""

    model_config = ConfigDict(json_schema_extra=keep(*ROLLOUT))

    max_surge: Annotated[int, Field(ge=0, le=256)] = 1
    """Pods beyond replicas meanwhile. Default: 1; 0 where no GPU is spare."""
    max_unavailable: Annotated[int, Field(ge=0, le=256)] = 0
    """Replicas that may be missing meanwhile. Default: 0."""
    min_ready_seconds: Annotated[int, Field(ge=0, le=3600)] = 0
    """Seconds a new replica must answer before it counts. Default: 0."""
    progress_deadline_seconds: Annotated[int, Field(ge=60, le=86400)] = 1800
    """Seconds a replica may take to become ready; then a new revision is withdrawn. Default: 1800, for large models."""
    revision_history_limit: Annotated[int, Field(ge=0, le=32)] = 5
    """Old revisions that are remembered. Default: 5."""
    paused: bool = False
    """Take no step of a rollout; scaling goes on. Default: false."""
    revision: Annotated[str, StringConstraints(max_length=8)] = Field(default="", json_schema_extra=keep(REVISION_HASH))
    """Hash of a remembered revision to run instead of the spec's. Default: none."""


class SLO(APIObject):
    """What is promised to clients: for boards and alerts only."""

    time_to_first_token_milliseconds: Annotated[int, Field(ge=1, le=600000)] | None = None
    """Longest wait for the first token."""
    inter_token_milliseconds: Annotated[int, Field(ge=1, le=60000)] | None = None
    """Longest wait for each further token."""
    percent: Annotated[int, Field(ge=90, le=99)] = 95
    """Of the requests, and of the tokens, for which it holds. Default: 95."""


class Router(APIObject):
    """The router in front of all replicas."""

    replicas: Annotated[int, Field(ge=1, le=16)] = 2
    """Router pods. Default: 2, so that one may go without a failed request."""
    max_ongoing_per_replica: Annotated[int, Field(ge=1, le=4096)] = 64
    """Requests that each router pod sends to one replica at a time; more wait. Default: 64, below the batch at which an
    engine slows each stream down."""
    max_queue: Annotated[int, Field(ge=0, le=65536)] = 256
    """Requests that may wait in each router pod; one more is answered with 429. Default: 256, so that an overload is
    told to clients instead of hidden in a long wait."""
    resources: PlainResources = PlainResources()
    """Resources of each router pod. Default: the operator's."""


class Service(APIObject):
    """The Service that clients use."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """How it can be reached. Default: ClusterIP, from inside the cluster only, since the API asks for no key."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """Port of the Service. Default: 8000, the one of vLLM's own server."""
    annotations: Annotated[dict[str, Annotated[str, StringConstraints(max_length=4096)]], Field(max_length=32)] = Field(
        default_factory=dict, json_schema_extra=keep(QUALIFIED_KEYS)
    )
    """Annotations of the Service, as load balancers want them. Default: none."""


class HeadStorage(APIObject):
    """The volume that holds the Ray head's state, so that a new head pod finds its replicas again."""

    size: Annotated[Quantity, Field(json_schema_extra=keep(POSITIVE_AMOUNT))] = "1Gi"
    """Size of the claim. Default: 1Gi; the state takes some MiB, and few provisioners give less."""
    storage_class_name: Annotated[str, StringConstraints(max_length=253)] = Field(
        default="", json_schema_extra=keep(OBJECT_NAME_OR_NONE)
    )
    """StorageClass of the claim. Default: the cluster's default class; without one, an emptyDir."""


class RayHead(APIObject):
    """The Ray head pod of a revision."""

    resources: PlainResources = PlainResources()
    """Resources of the head pod. Default: the operator's."""
    storage: HeadStorage = HeadStorage()
    """Where its state is kept."""


class Ray(APIObject):
    """Settings of the Ray cluster of each revision."""

    head: RayHead = RayHead()
    """The head pod."""


class LLMDeploymentSpec(APIObject):
    """What is wanted."""

    model_config = ConfigDict(json_schema_extra=keep(GPUS))

    replicas: Annotated[int, Field(ge=0, le=256)] = 1
    """Replicas of the engine, each in a pod of its own. Default: 1, the least that serves. Leave it out of Git where
    an autoscaler writes it through the scale subresource."""
    suspend: bool = False
    """Drain all replicas and answer 503. Default: false."""
    request_timeout_seconds: Annotated[int, Field(ge=1, le=86400)] = 600
    """Seconds the longest request may take; every drain and grace time is derived from it. Default: 600, enough for
    long generations and short enough for a node to drain."""
    model: Model
    """The model and where it comes from."""
    engine: Engine = Engine()
    """What generates the tokens."""
    parallelism: Parallelism = Parallelism()
    """How one replica is spread over the GPUs of its pod."""
    resources: Resources = Resources()
    """Resources of one replica; as many GPUs in limits as parallelism uses. Default: none, which serves on a CPU."""
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=32)] = Field(
        default_factory=dict, json_schema_extra=keep(QUALIFIED_KEYS)
    )
    """Labels that the workers' nodes must carry. Default: none."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=32)] = ()
    """Taints that head and workers tolerate. Default: none."""
    pod_template: Annotated[dict[str, Any], WithJsonSchema(pod_template_schema())] = Field(default_factory=dict)
    """Part of a PodTemplateSpec, merged into the workers' pods: containers by name (the engine's is engine), volumes by
    name. What would loosen the pods' protection is refused."""
    autoscaling: Autoscaling | None = None
    """Who writes replicas. Default: nobody but you."""
    rollout: Rollout = Rollout()
    """How a new revision replaces the old one."""
    slo: SLO | None = None
    """What is promised to clients."""
    router: Router = Router()
    """The router in front of all replicas."""
    service: Service = Service()
    """The Service that clients use."""
    ray: Ray = Ray()
    """Settings of the Ray cluster of each revision."""


class EngineStatus(ObservedObject):
    """The engine that serves."""

    name: str = ""
    """vllm or fake."""


class RevisionStatus(ObservedObject):
    """One revision."""

    name: str
    """Name of its objects: <name>-<hash>."""
    hash: str
    """Hash of all that forces a new engine."""
    replicas: int = 0
    """Its replicas."""
    ready: int = 0
    """Those of them that answer."""
    current: bool = False
    """Whether it is the one that the spec asks for."""
    state: str = ""
    """Starting, Serving, Draining, Withdrawn, or Kept for spec.rollout.revision."""


class ScalingDecision(ObservedObject):
    """A change of the number of replicas, and what it rests on."""

    time: str
    """When it was noticed, RFC 3339."""
    from_: Annotated[int, Field(alias="from")]
    """Replicas before."""
    to: int
    """Replicas asked for."""
    who: str
    """Who wrote it: HorizontalPodAutoscaler, Sundog (to zero and back), or another's field manager; where none was
    noted: scale subresource."""
    metric: str = ""
    """What was measured, of the metrics that wanted most replicas."""
    value: str = ""
    """Its value, for each replica there was."""
    target: str = ""
    """What each replica should have of it."""
    victims: Annotated[tuple[str, ...], Field(max_length=256)] = ()
    """Pods that went for it, as Serve chose them."""


class LLMDeploymentStatus(ObservedObject):
    """What was observed."""

    observed_generation: int = -1
    """The metadata.generation that this status was computed from; -1 before the operator's first visit."""
    replicas: int = 0
    """Replicas of all revisions."""
    ready_replicas: int = 0
    """Those that answer."""
    updated_replicas: int = 0
    """Those of the current revision."""
    selector: str = ""
    """Label selector of the replicas' pods, for the scale subresource."""
    url: str = ""
    """Base URL of the API inside the cluster."""
    engine: EngineStatus | None = None
    """The engine that serves."""
    revisions: Annotated[tuple[RevisionStatus, ...], Field(max_length=64)] = ()
    """Revisions, the newest first."""
    adapters: Annotated[tuple[AdapterStatus, ...], Field(max_length=64)] = ()
    """The LoRA adapters."""
    scaling: Annotated[tuple[ScalingDecision, ...], Field(max_length=10)] = ()
    """The last ten changes of the number of replicas, the newest last."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16)] = Field(
        default=(), json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    )
    """Ready always; Reconciling and Stalled only while they hold; Available, Scheduled; AutoscalingActive with
    autoscaling; AdaptersReady with lora."""


class LLMDeployment(ObservedObject):
    """An LLMDeployment serves one large language model behind one Service."""

    model_config = ConfigDict(json_schema_extra=keep(*NAME, ADAPTER_NAMES))

    api_version: str = f"{GROUP}/{VERSION}"
    kind: str = KIND
    metadata: ObjectMeta = ObjectMeta()
    spec: LLMDeploymentSpec
    """What is wanted."""
    status: LLMDeploymentStatus = LLMDeploymentStatus()
    """What was observed."""
