"""Zero replicas: whether a request would be held there, and with `minReplicas: 0`, when to go there and come back.

The operator decides it, not the HorizontalPodAutoscaler, which can do so from Kubernetes 1.37 on only, and looks every
15 s: too long for whoever waits for the first token.
"""

from __future__ import annotations

from sundog_operator.core.autoscaling import autoscaler
from sundog_operator.core.names import Manifest
from sundog_operator.core.observed import Observed, RouterLoad
from sundog_operator.core.resolve import Resolved
from sundog_operator.core.view import View, condition, ready_since

ROUTERS_LOOK_AGAIN_SECONDS = 1.0
"""Until the routers see the head, or a replica: no watch tells when they do."""
LEAST_LOOK_AGAIN_SECONDS = 1.0
QUESTIONS_PER_SECOND = 100
"""Most LLMDeployments at zero that are asked in a second, as long as that asks each once a second."""


def asks_routers(resolved: Resolved, observed: Observed) -> bool:
    """Whether a pass needs to know what the routers say: not while replicas serve and the last one is to stay."""
    if resolved.spec.suspend:
        return False
    is_told_ready = condition(observed.resource, "Ready").get("status") == "True"
    return resolved.spec.replicas == 0 or _idle_seconds(resolved) is not None or not is_told_ready


def wakes(resource: Manifest) -> bool:
    """Whether this LLMDeployment is at zero and a request is to bring a replica back."""
    spec = resource["spec"]
    return (
        not spec.get("suspend")
        and spec.get("replicas") == 0
        and (spec.get("autoscaling") or {}).get("minReplicas") == 0
    )


def seconds_between_questions(asleep: int) -> float:
    """Seconds until the routers of so many LLMDeployments at zero are asked again whether there is a request.

    Four times a second where few sleep, since whoever waits for a first token waits for this too; once where many do.
    """
    return min(1.0, max(0.25, asleep / QUESTIONS_PER_SECOND))


def not_holding(observed: Observed) -> str | None:
    """Say why a request that came now would be refused instead of held; None: it would be held.

    A router is ready before it has found the head, so that it can say what is wrong; only it knows when it has.
    """
    if not observed.routers:
        return "no router is ready"
    for name, said in sorted(observed.routers.items()):
        if isinstance(said, str):
            return said
        if not said.servers:
            return f"router {name} does not reach the head yet"
    return None


def refusal(observed: Observed, *, desired: int) -> str | None:
    """Say why the routers would refuse a request that came now, with so many replicas asked for; None: nothing does."""
    return _not_passing(observed) if desired else not_holding(observed)


def _not_passing(observed: Observed) -> str | None:
    """Say why a request that came now would be refused although a replica is up; None: nothing tells that it would.

    A router finds a replica some seconds after the kubelet has. One that can't be asked is taken at its readiness.
    """
    for name, said in sorted((observed.routers or {}).items()):
        if isinstance(said, RouterLoad) and not said.servers:
            return f"router {name} does not reach a replica yet"
    return None


def replicas_for_demand(resolved: Resolved, observed: Observed, seen: View) -> tuple[int, str] | None:
    """Give the number of replicas to set, and why; None: as it is."""
    if _idle_seconds(resolved) is None or not observed.routers:
        return None
    if resolved.spec.replicas == 0:
        # One that says nothing has perhaps none; those that have some are enough to come back.
        requests = sum(said.ongoing for said in observed.routers.values() if isinstance(said, RouterLoad))
        return (1, f"requests that are held: {requests}") if requests else None
    left = seconds_to_zero(resolved, observed, seen)
    return (0, f"no request for {_idle_seconds(resolved)} s") if left is not None and left <= 0 else None


def seconds_to_zero(resolved: Resolved, observed: Observed, seen: View) -> float | None:
    """Seconds until the last replica goes if no request comes; None: that can't be told now, or KEDA takes it.

    It is not told while a replica loads or another revision is there, nor unless every router has said its part.
    """
    wanted, current = autoscaler(resolved.spec), seen.goal
    allowed = wanted.idle_seconds if wanted and wanted.kind == "HPA" else None
    if allowed is None or resolved.spec.replicas == 0 or not observed.routers:
        return None
    said = [each for each in observed.routers.values() if isinstance(each, RouterLoad)]
    if len(said) < len(observed.routers) or len(said) < resolved.spec.router.replicas:
        return None
    if seen.leaving or not current.pods or current.ready < len(current.pods):
        return None
    if any(each.ongoing for each in said):
        return float(allowed)
    up = max(ready_since(pod) for pod in current.pods)
    return allowed - min(observed.unix_seconds - up, *(each.idle_seconds for each in said))


def _idle_seconds(resolved: Resolved) -> int | None:
    wanted = autoscaler(resolved.spec)
    if wanted is None or wanted.kind == "External":
        return None
    return wanted.idle_seconds
