"""A report as a tree for a terminal: values in, something that rich prints out."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from sundog_cli.phases import Phase, duration, seconds_of
from sundog_cli.report import Report, Revision

BAR_CELLS = 20
DECISIONS_SHOWN = 3


def trees(reports: Sequence[Report], *, now: float) -> RenderableType:
    """Draw one tree for each LLMDeployment."""
    return Group(*(_tree(report, now=now) for report in reports))


def _tree(report: Report, *, now: float) -> Tree:
    style = "green" if report.ready == "True" else "yellow" if report.is_well else "red"
    head = Text.assemble(
        (f"{report.namespace}/{report.name}", "bold"),
        f"  {report.model}  ",
        f"{report.ready_replicas} of {report.wanted} replicas ready  ",
        (report.reason, style),
    )
    if report.since:
        head.append(f" for {duration(now - seconds_of(report.since))}", "dim")
    tree = Tree(head)
    if report.message:
        tree.add(Text(report.message, style))
    if report.cure:
        tree.add(Text(f"what to do: {report.cure}", "bold"))
    _add_pods_of(tree, report, now=now)
    if report.autoscaling:
        tree.add(Text(f"autoscaling: {report.autoscaling}"))
    if report.decisions:
        decisions = tree.add("last decisions")
        for decision in report.decisions[:DECISIONS_SHOWN]:
            went = f" (went: {', '.join(decision.victims)})" if decision.victims else ""
            decisions.add(Text(f"{duration(now - seconds_of(decision.time))} ago: {decision.sentence}{went}"))
    if report.url:
        tree.add(Text(report.url))
    for sentence in report.unread:
        tree.add(Text(f"not shown: {sentence}", "dim"))
    return tree


def _add_pods_of(tree: Tree, report: Report, *, now: float) -> None:
    for revision in report.revisions:
        _add_revision(tree, revision, now=now)
    if report.routers:
        ready = sum(each.ready for each in report.routers)
        routers = tree.add(f"router: {ready} of {len(report.routers)} pods ready")
        _add_pods(routers, [each for each in report.routers if not each.ready])


def _add_revision(tree: Tree, revision: Revision, *, now: float) -> None:
    age = f", {duration(now - seconds_of(revision.created))} old" if revision.created else ""
    label = f"revision {revision.hash} ({revision.state}{age}): {revision.ready} of {revision.replicas} replicas ready"
    branch = tree.add(Text(label))
    _add_pods(branch, [each for each in revision.head if not each.ready], prefix="head ")
    _add_pods(branch, revision.workers)


def _add_pods(branch: Tree, pods: Sequence[Phase], *, prefix: str = "") -> None:
    for pod in pods:
        style = "green" if pod.ready else "red" if pod.reason else "yellow"
        text = Text.assemble(f"{prefix}{pod.pod}  ", (pod.phase, style))
        if pod.progress is not None and pod.remaining_seconds is not None:
            text.append_text(_bar(pod.progress))
            left = duration(pod.remaining_seconds)
            text.append(f"about {left} left" if pod.remaining_seconds else "longer than the others took")
        text.append(f"  {duration(pod.seconds)}", "dim")
        if pod.node:
            text.append(f"  on {pod.node}", "dim")
        if pod.reason:
            text.append(f"  {pod.reason}", "red")
        branch.add(text)


def _bar(progress: float) -> Text:
    done = round(progress * BAR_CELLS)
    return Text.assemble("  ", ("█" * done, "green"), ("░" * (BAR_CELLS - done), "dim"), f" {progress:.0%}  ")
