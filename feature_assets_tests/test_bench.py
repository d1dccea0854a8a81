"""The bench works and says what it compares with; no time is judged."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET

import pytest

from feature_assets_bench import document
from feature_assets_bench.rows import ROWS, SMALL
from feature_assets_bench.run import PROJECT, REFERENCE, Found

TINY = dataclasses.replace(SMALL, naive_rows=300, year=3, reading=(1, 6))
CURVES = {"process": [(10, 3.0), (1000, 3.5)], "after import": [(10, 1.0), (1000, 1.5)], "peak": [(10, 250.0), (1000, 260.0)]}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["year", "day", "reading", "event_log"])
def test_a_row_that_runs_without_dagster_works(name, tmp_path, monkeypatch):
    monkeypatch.delenv(REFERENCE, raising=False)
    found = ROWS[name](tmp_path / "store", TINY)
    text = document.report({name: found})
    assert found.lines or found.text
    assert all(len(line) == 5 for line in found.lines)
    assert "*other* is the tests' naive version" in text
    if name == "day":
        assert "10 of 10 rows bit-equal to the stored ones" in text


def test_the_table_names_cores_and_versions_but_no_path():
    text = document.report({"day": Found([("a day", "1 ms", "2 ms", "0.5x", "<= 1x")], ["A sentence."])})
    assert "cores; Python 3." in text
    assert "pyarrow" in text
    assert "| a day | 1 ms | 2 ms  | 0.5x  | <= 1x  |" in text
    assert text.endswith("A sentence.")
    assert str(PROJECT) not in text


def test_writing_replaces_what_is_between_the_markers_and_nothing_else(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text(f"above\n{document.BEGIN}\nold\n{document.END}\nbelow\n")
    for _ in range(2):
        document.write(tmp_path, "new", CURVES)
        assert page.read_text() == f"above\n{document.BEGIN}\nnew\n{document.END}\nbelow\n"
    assert (tmp_path / document.PICTURE).read_text() == document.picture(CURVES)


def test_without_its_markers_the_page_is_left_alone(tmp_path):
    page = tmp_path / "performance.md"
    page.write_text(f"{document.END} {document.BEGIN}")
    with pytest.raises(RuntimeError, match="markers"):
        document.write(tmp_path, "new", CURVES)
    assert page.read_text() == f"{document.END} {document.BEGIN}"
    assert not (tmp_path / document.PICTURE).exists()


def test_the_projects_page_has_its_markers():
    before, _, rest = (PROJECT / "docs/performance.md").read_text().partition(document.BEGIN)
    assert before
    assert document.END in rest


def test_the_picture_is_sound_and_every_point_lies_in_it():
    picture = ET.fromstring(document.picture(CURVES))
    circles = [node for node in picture if node.tag.endswith("circle")]
    assert len(circles) == 6
    assert all(0 < float(node.get("cx")) < 720 and 40 < float(node.get("cy")) <= 210 for node in circles)
