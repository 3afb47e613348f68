"""Policies as values, and the table of what came of them."""

from pathlib import Path

import pytest

from sundog_operator.core.autoscaling import BEHAVIOR
from tests.load import __main__ as program
from tests.load.arrivals import SCALE
from tests.load.outcome import SLO, Fault, Outcome
from tests.load.replay import COLUMNS, HPA_BEHAVIOR, POLICIES, VARIANTS, Row, as_markdown, compressed, with_table
from tests.load.samples import Run, Sample
from tests.load.test_outcome import record

QUICK = SLO(first_token_seconds=1.0, inter_token_seconds=0.1)


def run(title: str = "ours") -> Run:
    slow, refused, cut = record(3, first_token=9), record(4, first_token=None), record(5)
    refused.fault, cut.fault = Fault.REFUSED, Fault.CUT
    samples = [Sample(0.0, replicas=1), Sample(1800.0, replicas=3)]
    return Run(title, 3600.0, samples, Outcome([*(record(at) for at in range(3)), slow, refused, cut]))


def test_the_times_of_a_behavior_are_divided_as_those_of_the_trace_are() -> None:
    assert compressed(HPA_BEHAVIOR, 5) == {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "selectPolicy": "Max",
            "policies": [
                {"type": "Percent", "value": 100, "periodSeconds": 3},
                {"type": "Pods", "value": 4, "periodSeconds": 3},
            ],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": 60,
            "policies": [{"type": "Percent", "value": 100, "periodSeconds": 3}],
        },
    }
    assert compressed(HPA_BEHAVIOR, 1) == HPA_BEHAVIOR
    assert compressed(HPA_BEHAVIOR, 100)["scaleUp"]["policies"][0]["periodSeconds"] == 1  # the least there may be


def test_the_policy_called_ours_is_the_one_that_is_shipped() -> None:
    assert POLICIES["defaults"].spec["autoscaling"]["behavior"] == compressed(BEHAVIOR, SCALE.time_divisor)
    assert {name for name, policy in POLICIES.items() if "replicas" in policy.spec} == {"fixed-2", "fixed-3"}


def test_a_run_is_counted() -> None:
    row = Row.of(run(), QUICK)
    assert (row.requests, row.attainment, row.replica_hours) == (6, 0.5, 2.0)
    assert (row.most_replicas, row.refused, row.cut) == (3, 1, 1)
    assert row.first_token_p99 == 6.0
    assert as_markdown([row]).splitlines() == [
        f"| {' | '.join(COLUMNS)} |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| ours | 6 | 50.0% | 2.000 | 2 | 3 | 1 | 1 | 6.0 s | 50 ms |",
    ]


def test_the_table_takes_the_place_of_the_one_before() -> None:
    document = "# Title\n\n<!-- a -->\nold\n<!-- end of a -->\n\n<!-- b -->\n<!-- end of b -->\n"
    once = with_table(document, "a", "| new |")
    assert once == "# Title\n\n<!-- a -->\n\n| new |\n\n<!-- end of a -->\n\n<!-- b -->\n<!-- end of b -->\n"
    assert with_table(once, "a", "| new |") == once
    with pytest.raises(ValueError, match="put the lines <!-- c --> and <!-- end of c --> into it"):
        with_table(document, "c", "| new |")


def policies(text: str) -> list[str]:
    return [line[2:].split(" | ")[0] for line in text.splitlines() if line.startswith("| ")][2:]


def test_a_report_is_made_of_the_runs_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(program, "DOCUMENT", tmp_path / "replay.md")
    assert program.main(["report"]) == 1
    assert "make replay makes them" in capsys.readouterr().err

    (tmp_path / "replay.md").write_text(
        "".join(f"<!-- {x} -->\n<!-- end of {x} -->\n" for x in ("measured", "simulated"))
    )
    folder = tmp_path / "sundog" / "replay"
    folder.mkdir(parents=True)
    (folder / "fixed-2.json").write_bytes(run("always 2").to_json())
    (folder / "defaults.json").write_bytes(run("ours").to_json())
    assert program.main(["report"]) == 0
    measured, _, simulated = (tmp_path / "replay.md").read_text().partition("<!-- simulated -->")
    assert policies(measured) == ["ours", "always 2"]
    assert policies(simulated) == [policy.title for policy in (POLICIES | VARIANTS).values()]
    assert (tmp_path / "replay.svg").exists()
    assert "always 2" in capsys.readouterr().out

    (folder / "hpa.json").write_text('{"title": 3}')
    assert program.main(["report"]) == 1
    assert "hpa.json is of another version: run python -m tests.load replay hpa again" in capsys.readouterr().err


def test_a_policy_that_does_not_exist_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["replay", "mine"])
    assert "there is no policy 'mine': there are defaults, hpa, fixed-2, fixed-3" in capsys.readouterr().err
