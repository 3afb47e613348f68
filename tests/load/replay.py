"""A recorded trace against policies of autoscaling: real pods of the fake engine, the real HPA, one run per policy.

What is compared is how many requests kept an SLO, and how many replica-hours that took.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from sundog_operator.core.autoscaling import BEHAVIOR
from tests.e2e.site import Site
from tests.load.arrivals import SCALE, Arrival
from tests.load.client import Client, Target
from tests.load.outcome import SLO, Fault, duration
from tests.load.samples import Run, replica_hours
from tests.load.simulation import HPA, START_SECONDS, Engine, simulate
from tests.load.view import Scene, View
from tests.load.watch import Subject, watching

# A stream has 10 tokens a second as long as at most 32 run beside it; from there on they share 320. So a replica is
# right with the 32 requests that are the default target, and 40 of them miss the SLO.
ENGINE: Final = Engine(tokens_per_second=10, total_tokens_per_second=320, most_requests=64)
PROMISE: Final = SLO(first_token_seconds=1.0, inter_token_seconds=0.125)
MOST_REPLICAS: Final = 4
LONGEST_SECONDS: Final = 600
HPA_BEHAVIOR: Final[Mapping[str, Any]] = {
    "scaleUp": {
        "stabilizationWindowSeconds": 0,
        "selectPolicy": "Max",
        "policies": [
            {"type": "Percent", "value": 100, "periodSeconds": 15},
            {"type": "Pods", "value": 4, "periodSeconds": 15},
        ],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": 300,
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
    },
}
"""What an HPA without `behavior` does (autoscaling/v2)."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What decides about the number of replicas: part of a spec."""

    name: str
    title: str
    spec: Mapping[str, Any] = field(repr=False)


def compressed(behavior: Mapping[str, Any], divisor: float) -> dict[str, Any]:
    """Divide all times of an HPA's `behavior`, as those of the trace are divided; a period is at least a second."""
    return {
        direction: {
            **rules,
            "stabilizationWindowSeconds": round(rules["stabilizationWindowSeconds"] / divisor),
            "policies": [
                {**policy, "periodSeconds": max(1, round(policy["periodSeconds"] / divisor))}
                for policy in rules["policies"]
            ],
        }
        for direction, rules in behavior.items()
    }


def _scaled(behavior: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "autoscaling": {
            "class": "HPA",
            "minReplicas": 1,
            "maxReplicas": MOST_REPLICAS,
            "metrics": [{"type": "OngoingRequests", "averageValue": "32"}],
            "behavior": compressed(behavior, SCALE.time_divisor),
        }
    }


def _by_name(*policies: Policy) -> dict[str, Policy]:
    return {policy.name: policy for policy in policies}


POLICIES: Final = _by_name(
    Policy("defaults", "Sundog's defaults", _scaled(BEHAVIOR)),
    Policy("hpa", "the HPA's own behavior", _scaled(HPA_BEHAVIOR)),
    *(Policy(f"fixed-{count}", f"always {count}", {"replicas": count}) for count in (2, 3)),
)
"""Those of the real replay."""
VARIANTS: Final = _by_name(
    Policy("up", "up as the HPA's own, down as ours", _scaled({**BEHAVIOR, "scaleUp": HPA_BEHAVIOR["scaleUp"]})),
    Policy("down", "up as ours, down as the HPA's own", _scaled({**BEHAVIOR, "scaleDown": HPA_BEHAVIOR["scaleDown"]})),
    Policy("fixed-4", "always 4", {"replicas": 4}),
)
"""Those that are only simulated."""


def simulated(policy: Policy, arrivals: Sequence[Arrival], *, start_seconds: float = START_SECONDS) -> Run:
    """Do the same without a cluster."""
    if (wanted := policy.spec.get("autoscaling")) is None:
        return simulate(policy.title, arrivals, ENGINE, policy.spec["replicas"])
    hpa = HPA(
        target=float(wanted["metrics"][0]["averageValue"]),
        least=wanted["minReplicas"],
        most=wanted["maxReplicas"],
        behavior=wanted["behavior"],
    )
    return simulate(policy.title, arrivals, ENGINE, hpa, start_seconds=start_seconds)


async def replay(site: Site, policy: Policy, arrivals: Sequence[Arrival], *, console: Console) -> Run:
    """Send a trace to an LLMDeployment with a policy, and record what came of it."""
    rates = {
        "tokens-per-second": ENGINE.tokens_per_second,
        "total-tokens-per-second": ENGINE.total_tokens_per_second,
    }
    site.apply(
        policy.name,
        engine={"name": "fake", "args": rates},
        router={"replicas": 1, "maxOngoingPerReplica": ENGINE.most_requests},
        requestTimeoutSeconds=LONGEST_SECONDS,  # an overload is to be seen as slow, not as cut
        **policy.spec,
    )
    await site.until_ready(policy.name, replicas=policy.spec.get("replicas", 1))
    subject = Subject(site.cluster.kubeconfig, site.namespace, policy.name)
    async with (
        Client(Target(site.url(policy.name), policy.name), patience_seconds=LONGEST_SECONDS) as client,
        watching(subject, seconds=lambda: client.seconds) as samples,
        View(Scene(policy.title, client.outcome, samples, "the trace"), console),
    ):
        await client.replay(arrivals)
        seconds = client.seconds
    # Nothing of it is to be there when the next run begins.
    site.kubectl("delete", "llmdeployment", policy.name)
    await site.until("its pods gone", lambda: not site.list("pods", f"sundog.dev/llmdeployment={policy.name}"))
    return Run(policy.title, seconds, samples, client.outcome)


@dataclass(frozen=True, slots=True)
class Row:
    """A run in figures."""

    title: str
    requests: int
    attainment: float
    """Share of requests that kept the SLO."""
    replica_hours: float
    most_replicas: int
    refused: int
    cut: int
    first_token_p99: float
    """Seconds."""
    inter_token_p99: float
    """Seconds."""

    @classmethod
    def of(cls, run: Run, slo: SLO) -> Row:
        """Count a run.

        Raises:
            ValueError: it holds no request, or nobody told its replicas.
        """
        first, between = run.outcome.time_to_first_token, run.outcome.inter_token
        return cls(
            title=run.title,
            requests=len(run.outcome.records),
            attainment=slo.attainment(run.outcome.records),
            replica_hours=replica_hours(run.samples, until=run.seconds),
            most_replicas=max(one.replicas or 0 for one in run.samples),
            refused=run.outcome.kinds[Fault.REFUSED],
            cut=run.outcome.lost,
            first_token_p99=first.p99 if first else float("inf"),
            inter_token_p99=between.p99 if between else float("inf"),
        )

    def cells(self) -> tuple[str, ...]:
        """Give the texts of a line of the table, in the order of `COLUMNS`."""
        return (
            self.title,
            f"{self.requests:,}",
            f"{self.attainment:.1%}",
            f"{self.replica_hours:.3f}",
            f"{self.requests * self.attainment / self.replica_hours:,.0f}",
            f"{self.most_replicas}",
            f"{self.refused}",
            f"{self.cut}",
            duration(self.first_token_p99),
            duration(self.inter_token_p99),
        )


COLUMNS: Final = (
    "policy",
    "requests",
    "in the SLO",
    "replica-hours",
    "in the SLO per replica-hour",
    "most replicas",
    "429",
    "cut",
    "first token p99",
    "between tokens p99",
)


def as_text(title: str, rows: Iterable[Row]) -> Table:
    """Give a table for a terminal."""
    table = Table(title=f"{title}; SLO: {PROMISE}", title_justify="left")
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row.cells())
    return table


def as_markdown(rows: Iterable[Row]) -> str:
    """Give the table for a document."""
    lines = [COLUMNS, ("---", *("---:" for _ in COLUMNS[1:])), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def with_table(document: str, name: str, table: str) -> str:
    """Put a table into a document, between the marks of its name.

    Raises:
        ValueError: it has no such marks.
    """
    marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, begin, rest = document.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not end:
        raise ValueError(f"the document has no place for the table: put the lines {marks[0]} and {marks[1]} into it")
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"
