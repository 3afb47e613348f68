"""The plot of recorded runs is an SVG that a browser can show, with every series in it."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.load.outcome import SLO, Fault, Outcome
from tests.load.plot import save
from tests.load.samples import Run, Sample
from tests.load.test_outcome import record

SVG = "{http://www.w3.org/2000/svg}"
SERIES = {
    "ongoing",
    "waiting",
    "asked",
    "replicas",
    "ready",
    "first-p50",
    "first-p99",
    "between-p50",
    "between-p99",
    "first-promised",
    "between-promised",
    "faults",
}


def run(title: str = "ours") -> Run:
    samples = [
        Sample(float(at), asked=1 + at // 20, replicas=1 + at // 22, ready=1 + at // 30, ongoing=at / 2, waiting=at / 9)
        for at in range(60)
    ]
    records = [record(float(at), first_token=at + 0.1 + at / 50, last_token=at + 2.0) for at in range(60)]
    records[30].fault = Fault.CUT
    return Run(title, 60.0, samples, Outcome(records))


def drawn(path: Path) -> dict[str, list[ET.Element]]:
    """The paths of each series, by its name."""
    root = ET.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    found: dict[str, list[ET.Element]] = {}
    for group in root.iter(f"{SVG}g"):
        if group.get("id") in SERIES:
            found.setdefault(str(group.get("id")), []).extend([*group.iter(f"{SVG}path"), *group.iter(f"{SVG}use")])
    return found


def points(element: ET.Element) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", str(element.get("d")))]


def test_the_plot_holds_every_series_with_its_data(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.svg"
    save([run()], path, slo=SLO(0.5, 0.1))
    series = drawn(path)
    assert set(series) == SERIES
    assert all(series.values())
    rising = [y for _, y in points(series["ongoing"][0])]
    assert len(rising) > 1
    assert rising[0] > rising[-1]  # in an SVG up is less
    ready = {y for _, y in points(series["replicas"][0])}
    assert len(ready) == 3  # three heights: 1, 2 and 3 replicas


def test_the_plot_names_what_it_shows_in_texts(tmp_path: Path) -> None:
    save([run("defaults"), run("fixed")], tmp_path / "runs.svg", slo=SLO(0.5, 0.1))
    texts = [text.text for text in ET.parse(tmp_path / "runs.svg").getroot().iter(f"{SVG}text")]
    for wanted in ("defaults", "fixed", "ongoing", "ready", "asked for", "p99", "promised", "not whole", "seconds"):
        assert wanted in texts
    assert len(drawn(tmp_path / "runs.svg")["ongoing"]) == 2


@pytest.mark.parametrize(
    "poor",
    [Run("nothing"), Run("unknown", 9.0, [Sample(1.0, problem="HTTP 503")], Outcome([record(first_token=None)]))],
)
def test_a_run_of_which_little_is_known_is_drawn_all_the_same(tmp_path: Path, poor: Run) -> None:
    save([poor], tmp_path / "poor.svg")
    assert "ongoing" in {text.text for text in ET.parse(tmp_path / "poor.svg").getroot().iter(f"{SVG}text")}


def test_the_same_run_is_the_same_file(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        save([run()], tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
