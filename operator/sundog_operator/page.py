"""The operator's page for people: every LLMDeployment, its tree, why it is not ready, and the last decisions.

Values in, text out. It shows what the status says and the names of pods, and nothing else of a spec than the model's
address: what a container is given may be a secret. It needs no script, so the browser is forbidden to run any.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from sundog_operator.core import names
from sundog_operator.core.autoscaling import sentence
from sundog_operator.core.names import Manifest
from sundog_operator.core.problems import pod_problem
from sundog_operator.core.view import condition, is_part, is_ready

SHOWN: Final = 100
"""LLMDeployments on one page, those that are not ready first: a page of 1,000 helps nobody and keeps the operator busy
for half a second."""
REFRESH_SECONDS: Final = 10

_STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --dim: #8889; --good: #1a7f37; --wait: #9a6700; --bad: #cf222e; }
@media (prefers-color-scheme: dark) { :root { --dim: #aaaa; --good: #3fb950; --wait: #d29922; --bad: #f85149; } }
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; padding: 16px; max-width: 1080px;
  overflow-wrap: anywhere; }
h1 { font-size: 22px; margin: 0 0 4px; }
h2 { font-size: 17px; margin: 0; }
h3 { font-size: 12px; margin: 12px 0 2px; text-transform: uppercase; letter-spacing: .06em; color: GrayText; }
p { margin: 4px 0; }
nav { display: flex; flex-wrap: wrap; gap: 4px 14px; margin: 8px 0 16px; }
nav b { text-decoration: underline; }
article { border: 1px solid var(--line); border-left: 5px solid var(--wait); border-radius: 6px; padding: 12px 14px;
  margin: 0 0 14px; }
article.good { border-left-color: var(--good); }
article.bad { border-left-color: var(--bad); }
header { display: flex; flex-wrap: wrap; gap: 2px 12px; align-items: baseline; }
.state { font-weight: 600; }
.state.good { color: var(--good); } .state.wait { color: var(--wait); } .state.bad { color: var(--bad); }
.dim, time { color: GrayText; }
ul { list-style: none; margin: 2px 0; padding: 0; }
ul ul { border-left: 1px solid var(--line); margin-left: 5px; padding-left: 12px; }
li { padding: 1px 0; }
code { font: 13px ui-monospace, monospace; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); gap: 0 28px; }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS: Final[Mapping[str, str]] = {
    # This style and nothing else: no script, image, form, frame or request, whatever stands in a name or a message.
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_PARTS: Final = {names.HEAD: "head ", names.WORKER: "replica "}


class _Html(str):
    """Text that is HTML already; every other text is escaped where it is put into an element."""

    __slots__ = ()


def page(resources: Iterable[Manifest], pods: Callable[[Manifest], Sequence[Manifest]], *, namespace: str = "") -> str:
    """Make the page.

    Args:
        resources: all LLMDeployments.
        pods: gives the pods of one of them; it is asked for those that are shown only.
        namespace: show those of this namespace only; empty means all.
    """
    known = list(resources)
    chosen = [one for one in known if namespace in {"", one["metadata"]["namespace"]}]
    chosen.sort(key=lambda one: (_is_ready(one), one["metadata"]["namespace"], one["metadata"]["name"]))
    ready = sum(map(_is_ready, chosen))
    left_out = len(chosen) - SHOWN
    body = (
        _element("h1", "Sundog"),
        _element("p", f"{ready} of {len(chosen)} LLMDeployments are ready", f" in {namespace}" if namespace else ""),
        _namespaces({one["metadata"]["namespace"] for one in known}, namespace),
        *(_deployment(one, pods(one)) for one in chosen[:SHOWN]),
        _element("p", f"{left_out} more are not shown; choose a namespace.") if left_out > 0 else _Html(),
        _element("p", "Try: ", _element("code", "kubectl apply -f examples/minimal-gpu.yaml"))
        if not known
        else _Html(),
    )
    head = (
        _Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        _Html(f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">'),
        _element("title", f"Sundog: {ready} of {len(chosen)} ready"),
        _Html(f"<style>{_STYLE}</style>"),
    )
    return f'<!doctype html>\n<html lang="en">{_element("head", *head)}{_element("body", *body)}</html>\n'


def _element(tag: str, *children: str, **attributes: str) -> _Html:
    """Write an element; a trailing underscore keeps Python's own words free for attributes."""
    written = "".join(f' {name.rstrip("_")}="{html.escape(value)}"' for name, value in attributes.items())
    inside = "".join(child if isinstance(child, _Html) else html.escape(child) for child in children)
    return _Html(f"<{tag}{written}>{inside}</{tag}>")


def _namespaces(known: set[str], chosen: str) -> _Html:
    if len(known) < 2 and chosen in {"", *known}:
        return _Html()
    entries = [("", "all namespaces"), *((name, name) for name in sorted(known))]
    links = (
        _element("b", text)
        if name == chosen
        else _element("a", text, href=f"?{urlencode({'namespace': name})}" if name else "?")
        for name, text in entries
    )
    return _element("nav", *links)


def _deployment(resource: Manifest, pods: Sequence[Manifest]) -> _Html:
    metadata, status = resource["metadata"], resource.get("status") or {}
    ready = condition(resource, "Ready")
    colour = _colour(resource)
    # Ready's own message comes first; these say more only where they say something else.
    told = {ready.get("message")}
    others = [
        entry
        for entry in status.get("conditions", [])
        if entry["status"] == "False" and entry["type"] != "Ready" and entry.get("message") not in told
    ]
    count = f"{status.get('readyReplicas', 0)} replicas answer, {resource['spec'].get('replicas', 1)} are asked for"
    reason = str(ready.get("reason", ""))
    return _element(
        "article",
        _element(
            "header",
            _element("h2", f"{metadata['namespace']}/{metadata['name']}"),
            _element("span", reason or "New", class_=f"state {colour}"),
            _element("span", count),
        ),
        _element("p", ready.get("message") or "no pass has looked at it yet"),
        *(_element("p", f"{entry['type']} is {entry['status']}: {entry.get('message', '')}") for entry in others),
        _element(
            "p",
            _element("code", resource["spec"]["model"]["uri"]),
            *((" at ", _element("code", status["url"])) if status.get("url") else ()),
            class_="dim",
        ),
        _element("div", _tree(status, pods, told=reason), _decisions(status.get("scaling") or []), class_="columns"),
        class_=colour,
    )


def _tree(status: Manifest, pods: Sequence[Manifest], *, told: str) -> _Html:
    """Show revisions and pods; a pod's trouble at length, unless it is the reason that was told already."""
    revisions = status.get("revisions") or []
    branches = [
        _element(
            "li",
            "revision ",
            _element("code", one["hash"]),
            f": {one['ready']} of {one['replicas']} replicas answer",
            "" if one.get("current") else ", of an older spec",
            _pods([pod for pod in pods if _label(pod, names.REVISION_LABEL) == one["hash"]], told=told),
        )
        for one in revisions
    ]
    routers = [pod for pod in pods if is_part(pod, names.ROUTER)]
    if routers:
        branches.insert(0, _element("li", "router", _pods(routers, told=told)))
    known = {one["hash"] for one in revisions}
    # A revision that the status does not tell of any more: its last pods end.
    lost = [pod for pod in pods if not is_part(pod, names.ROUTER) and _label(pod, names.REVISION_LABEL) not in known]
    if lost:
        branches.append(_element("li", "pods of no revision in the status", _pods(lost, told=told)))
    return _element("section", _element("h3", "Tree"), _element("ul", *branches)) if branches else _Html()


def _pods(pods: Sequence[Manifest], *, told: str) -> _Html:
    return _element("ul", *(_element("li", *_pod(pod, told=told)) for pod in pods))


def _pod(pod: Manifest, *, told: str) -> Iterable[str]:
    word, colour = _state(pod)
    yield _element("span", word, class_=f"state {colour}")
    yield f" {_PARTS.get(_label(pod, names.COMPONENT_LABEL), '')}"
    yield _element("code", pod["metadata"]["name"])
    if node := (pod.get("spec") or {}).get("nodeName"):
        yield _element("span", f" on {node}", class_="dim")
    if problem := None if is_ready(pod) else pod_problem([pod]):
        yield f": {problem.reason}" if problem.reason == told else _element("p", f"{problem.reason}: {problem.message}")


def _state(pod: Manifest) -> tuple[str, str]:
    if pod["metadata"].get("deletionTimestamp"):
        return "ending", "wait"
    if is_ready(pod):
        return "ready", "good"
    phase = (pod.get("status") or {}).get("phase", "Pending")
    return ("starting", "wait") if phase == "Running" else (phase.lower(), "bad" if phase == "Failed" else "wait")


def _decisions(scaling: Sequence[Mapping[str, Any]]) -> _Html:
    if not scaling:
        return _Html()
    listed = (
        _element("li", _element("time", entry["time"], datetime=entry["time"]), f" {sentence(entry)}")
        for entry in reversed(scaling)
    )
    return _element("section", _element("h3", "Last decisions"), _element("ul", *listed))


def _label(pod: Manifest, label: str) -> str:
    return str((pod["metadata"].get("labels") or {}).get(label, ""))


def _is_ready(resource: Manifest) -> bool:
    """Whether it is ready, as the status says of the newest spec."""
    ready = condition(resource, "Ready")
    newest = ready.get("observedGeneration") == resource["metadata"].get("generation")
    return newest and ready.get("status") == "True"


def _colour(resource: Manifest) -> str:
    if _is_ready(resource):
        return "good"
    return "bad" if condition(resource, "Stalled").get("status") == "True" else "wait"
