"""The page of metrics is what the code tells, and every metric that boards use is explained."""

from pathlib import Path

import pytest

from sundog_operator import metrics_reference
from sundog_operator.api.generated import run
from sundog_operator.metrics import Metrics

ROOT = Path(__file__).parents[3]


def test_the_page_is_up_to_date() -> None:
    page = ROOT / "docs/reference/metrics.md"
    assert run(metrics_reference.reference(), module="m", arguments=["--check", str(page)]) == 0


def test_the_page_has_every_metric_of_the_operator() -> None:
    page = metrics_reference.reference()
    told = {family.name for family in Metrics().registry.collect() if not family.name.startswith("process_")}
    assert told
    assert not [name for name in told if f"| `{name}" not in page]


def test_a_metric_that_a_board_uses_and_the_page_does_not_explain_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"haproxy_frontend_http_requests_total": ("requests", "Requests.")}
    monkeypatch.setattr(metrics_reference, "_OF_OTHERS", known)
    with pytest.raises(LookupError, match="ray_vllm_prompt_tokens_total"):
        metrics_reference.reference()
