"""What the documents name is there: files, make targets, fields, reasons. A document that lies is worse than none."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sundog_operator.api.types import LLMDeployment, LLMDeploymentSpec
from sundog_operator.config import Config
from sundog_operator.core.resolve import FORMING, resolve
from sundog_operator.core.timeouts import timeouts
from sundog_serving.contract import Reason

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/*.md")
    for path in ROOT.glob(pattern)
    if not path.name.startswith(".")
)
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
OPERATOR = ROOT / "operator" / "sundog_operator"
# Where reasons are made. Every word of theirs that looks like a reason and is none of Ready=False is listed here.
REASON_CODE = tuple(OPERATOR / "core" / f"{name}.py" for name in ("status", "problems", "judgement"))
STATES_OF_A_REVISION = {"Draining", "Kept", "Serving", "Starting", "Withdrawn"}
STATES = {"True", "False"}
CONDITIONS = {"AutoscalingActive", "Available", "PodScheduled", "Ready", "ReplicaFailure", "Scheduled", "Stalled"}
GOOD_REASONS = {"AllReplicasReady", "ScaledToZero", "Suspended"}
REASONS_OF_OTHER_CONDITIONS = {"NoReplicaReady", "NoRouterReady", "PodsScheduled", "ReplicasAnswer", "RequestsHeld"}
WORDS_OF_KUBERNETES = {
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageInspectError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "Error",
    "ImagePullBackOff",
    "InvalidImageName",
    "OOMKilled",
    "RunContainerError",
}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text())
    local = [link for link in links if "://" not in link and not link.startswith("mailto:")]
    assert [link for link in local if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_anchors_are_headings(document: Path) -> None:
    links = re.findall(r"\]\(([^)#:\s]*)#([^)\s]*)\)", document.read_text())
    lost = [
        f"{path}#{anchor}"
        for path, anchor in links
        if (target := document.parent / path if path else document).suffix == ".md" and anchor not in anchors(target)
    ]
    assert lost == []


def anchors(document: Path) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_site_leads_to_every_page() -> None:
    """The navigation is made of the lists on these pages."""
    docs = ROOT / "docs"
    lists = [docs / "index.md", docs / "migration/README.md", docs / "runbooks/README.md"]
    named = {
        (page.parent / link).resolve()
        for page in lists
        for link in re.findall(r"^[-|] .*?\]\(([\w/-]+\.md)\)", page.read_text(), re.MULTILINE)
    }
    assert set(docs.glob("**/*.md")) - named == {docs / "index.md"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_make_targets_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`(?:[A-Z_0-9]+=\S* )*make ([a-z0-9-]+)", document.read_text()))
    assert named - targets == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_files_that_commands_use_exist(document: Path) -> None:
    text = document.read_text()
    files = re.findall(r"(?:-f|--filename=) ?((?:examples|operator|serving)/\S+?)[\s`)]", text)
    assert [file for file in files if not (ROOT / file).exists()] == []


def manifests() -> Iterator[tuple[str, str]]:
    for example in EXAMPLES:
        yield name(example), example.read_text()
    for document in DOCUMENTS:
        for index, block in enumerate(re.findall(r"```yaml\n(.*?)```", document.read_text(), re.DOTALL)):
            if "kind: LLMDeployment" in block:
                yield f"{name(document)}#{index}", block


@pytest.mark.parametrize("manifest", [pytest.param(text, id=where) for where, text in manifests()])
def test_every_example_is_a_resource_that_can_be_resolved(manifest: str) -> None:
    resource = yaml.safe_load(manifest)
    resource["metadata"] |= {"namespace": "default", "uid": "0", "generation": 1}
    LLMDeployment.model_validate(resource)
    resolve(resource, Config(), b"key")


def test_troubleshooting_has_every_reason_and_no_other() -> None:
    words = {
        node.value
        for file in REASON_CODE
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"[A-Z][A-Za-z]+", node.value)
    }
    known = (
        STATES | STATES_OF_A_REVISION | CONDITIONS | GOOD_REASONS | REASONS_OF_OTHER_CONDITIONS | WORDS_OF_KUBERNETES
    )
    told = words - known | {str(reason) for reason in Reason}
    text = (ROOT / "docs/troubleshooting.md").read_text()
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    explained = {word for row in rows for word in re.findall(r"`([A-Z][A-Za-z]+)`", row)}
    assert explained == told


def test_autoscaling_has_every_reason_of_its_condition() -> None:
    source = (OPERATOR / "core" / "autoscaling.py").read_text()
    given = set(re.findall(r'return (?:"(?:True|False|Unknown)", )?"([A-Z][A-Za-z]+)"', source)) - {"True", "False"}
    text = (
        (ROOT / "docs/autoscaling.md").read_text().partition("| reason of `AutoscalingActive` |")[2].partition("##")[0]
    )
    explained = set(re.findall(r"`([A-Z][A-Za-z]+)`[,| ]", "\n".join(row.split("|")[1] + "|" for row in rows(text))))
    assert explained == given


def test_lora_has_every_reason_of_its_condition() -> None:
    source = (OPERATOR / "core" / "adapters.py").read_text()
    given = set(re.findall(r'"(Adapter[a-z]*[A-Z][a-z]+)"', source)) - {"AdaptersReady"}
    explained = re.findall(r"^\| `([A-Za-z]+)`", (ROOT / "docs/lora.md").read_text(), re.MULTILINE)
    assert set(explained) == given


def test_rollouts_says_of_every_field_whether_it_forms_a_revision() -> None:
    table = (ROOT / "docs/rollouts.md").read_text().partition("| field of `spec` |")[2].partition("\n\n")[0]
    told = {
        field: "forms a new revision" in line
        for line in rows(table)
        for field in re.findall(r"`([A-Za-z]+)`", line.split("|")[1])
    }
    fields = [str(field.alias) for field in LLMDeploymentSpec.model_fields.values()]
    assert told == {field: field in FORMING for field in fields}


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("| `")]


def test_operations_has_the_times_that_are_set() -> None:
    text = (ROOT / "docs/operations.md").read_text()
    times = timeouts(600)
    for words, seconds in (
        ("a draining replica may still answer", times.serve_graceful_shutdown),
        ("streams of a router pod", times.router_hard_stop),
        ("waits for its replica", times.ray_drain),
        ("grace of a router pod", times.router_grace),
        ("grace of a worker pod", times.worker_grace),
    ):
        row = next(line for line in text.splitlines() if words in line)
        assert row.endswith(f"| T + {seconds - 600} |"), row
