"""`make compare-concurrency`: what is measured is written down as it is, and into the pages' own parts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.concurrency import figure, page, report
from benchmarks.concurrency.cells import Cell
from tests.documents import ROOT

CELLS = [
    Cell("merge", 10, 0.5, 10, 20, siblings=4, done=10),
    Cell("serial", 10, 1.0, 15, 30, again=2, parked=1, done=10),
    Cell("merge", 100, 5.0, 100, 200, done=100),
    Cell("serial", 100, 10.0, 400, 300, done=80, capped=True),
]


def test_median_cell_has_the_median_of_each_figure_and_says_where_one_was_capped() -> None:
    """Three rounds of one cell are one; a figure of a capped round is only what came so far, so that is said."""
    rounds = [Cell("serial", 10, s, r, t, done=d) for s, r, t, d in ((3, 10, 5, 10), (1, 30, 7, 10), (2, 20, 6, 10))]
    assert Cell.median(rounds) == Cell("serial", 10, 2, 20, 6, done=10)
    assert Cell.median([*rounds[:2], Cell("serial", 10, 60, 1, 1, capped=True)]).capped


def test_table_has_a_row_a_cell_and_marks_the_capped() -> None:
    """Retries are the sum of their causes; of a capped cell what a reply costs is known of those that were handled."""
    header, _, *rows = (line.strip("| ").split(" | ") for line in report.table(CELLS).splitlines())
    cells = [dict(zip(header, row, strict=True)) for row in rows]
    assert [(cell["way"], cell["replies"], cell["runs a reply"]) for cell in cells] == [
        ("merge", "10", "1.00"),
        ("serial", "10", "1.50"),
        ("merge", "100", "1.00"),
        ("serial", "100", "5.00"),
    ]
    assert (cells[1]["retries"], cells[1]["run again"], cells[1]["requeued"]) == ("3", "2", "1")
    assert (cells[0]["siblings merged"], cells[0]["seconds"]) == ("4", "0.500")
    assert cells[3]["seconds"] == "10.000 (capped, 80 replies done)"


def test_ratios_compare_with_merging_at_the_largest_number_of_replies() -> None:
    """Of a cell that was given up, nothing is known."""
    assert report.ratios(CELLS[:2]).splitlines()[2:] == ["| serial | 1.50 | 1.50 | 2.00 |"]
    assert "not known: capped" in report.ratios(CELLS).splitlines()[2]


def test_plot_has_bars_of_one_length_where_a_reply_costs_the_same() -> None:
    """What grows linearly is seen at once; the longest bar of each plot fills it."""
    runs = report.plot(CELLS).split("\n\n")[0].splitlines()[1:]
    lengths = [line.count("█") for line in runs]
    assert [line.split()[:2] for line in runs] == [
        ["merge", "10"],
        ["merge", "100"],
        ["serial", "10"],
        ["serial", "100"],
    ]
    assert lengths[0] == lengths[1] < lengths[2] < lengths[3] == 44


def test_page_keeps_what_people_wrote_around_the_figures(tmp_path: Path) -> None:
    """Only what stands between the markers is replaced, as often as it is measured."""
    path = tmp_path / "page.md"
    path.write_text("before\n<!-- x:begin -->\nold\n<!-- x:end -->\nafter\n", "utf-8")
    for text in ("new", "newer\n"):
        page.rewrite(path, "x", text)
    assert path.read_text("utf-8") == "before\n<!-- x:begin -->\nnewer\n<!-- x:end -->\nafter\n"


@pytest.mark.parametrize("text", ["no part\n", "<!-- x:begin -->\n", "<!-- x:end -->\n<!-- x:begin -->\n"])
def test_page_without_a_part_for_the_figures_is_left_alone(tmp_path: Path, text: str) -> None:
    """The error says what to write where."""
    path = tmp_path / "page.md"
    path.write_text(text, "utf-8")
    with pytest.raises(page.NoPlaceError, match=r"write the lines <!-- x:begin --> and <!-- x:end -->"):
        page.rewrite(path, "x", "new")
    assert path.read_text("utf-8") == text


@pytest.mark.parametrize("name", ["concurrency.md", "measured.md"])
def test_pages_have_a_part_for_the_figures(name: str, tmp_path: Path) -> None:
    """`make compare-concurrency` does not find out only at its end."""
    path = tmp_path / name
    path.write_text((ROOT / "docs" / name).read_text("utf-8"), "utf-8")
    page.rewrite(path, "concurrency", "figures")
    assert "figures\n<!-- concurrency:end -->" in path.read_text("utf-8")


def test_missing_plotter_is_noticed_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(figure.NoPlotterError, match=r"\.\[bench\]"):
        figure.require()
