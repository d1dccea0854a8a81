"""Every leak of the corpus is caught by what it names, and nothing of it is published; what is told of the corpus is so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from feature_assets.leakage.corpus import CORPUS_FILE, corpus_line, read_corpus, rows_of
from feature_assets_tests.leakage import doors
from feature_assets_tests.leakage.corpus import LEAKS, MISSED, README, corpus_json, entry, readme_table
from feature_assets_tests.leakage.injection import BUILD, D1, Case, Leak, below, run_leak

QUICK = {
    "values: shift(-1), one feature",
    "values: shift(-1), one row",
    "stamps: mark of the next minute, one day",
    "splits: overlap, one row",
    "splits: row again in another split, one row",
    "membership: values of another symbol's row, one row",
    "stale: features of another replay, one row",
}
MECHANISMS = {
    *("values", "row selection", "stamps", "availability", "membership", "splits", "readers", "reports", "stale"),
}


def _parameters(leaks: tuple[Leak, ...]) -> list:
    return [pytest.param(leak, id=leak.title, marks=[] if leak.title in QUICK else [pytest.mark.slow]) for leak in leaks]


@pytest.mark.parametrize("leak", _parameters(LEAKS))
def test_a_leak_is_caught_by_what_it_names_and_nothing_of_it_is_published(leak, tmp_path, monkeypatch):
    found = run_leak(leak, tmp_path / "leak", monkeypatch)
    assert (found.by, found.check) == (leak.by, leak.check), found.text
    assert leak.says in found.text
    if leak.by == BUILD:
        assert not {name for partition in leak.where for name in below(partition)} & found.published
    assert entry(leak, found) in read_corpus()["leaks"], "run `make corpus`"


@pytest.mark.slow
@pytest.mark.parametrize("leak", [pytest.param(leak, id=leak.name) for leak in MISSED])
def test_what_is_said_not_to_be_caught_is_not_caught(leak, tmp_path, monkeypatch):
    found = run_leak(leak, tmp_path / "leak", monkeypatch)
    assert found.by == leak.by, f"it is caught now, by {found.check}: {found.text}; move it from MISSED to LEAKS"
    assert not found.text


@pytest.mark.slow
@pytest.mark.parametrize("act", [doors.open_doors, doors.two_stores, doors.two_refusals], ids=lambda act: act.__name__)
def test_a_sound_pipeline_shows_and_gives_no_locked_value(act, tmp_path, monkeypatch):
    case = Case(tmp_path / "sound", monkeypatch)
    act(case)
    assert case.findings == []


@pytest.mark.slow
def test_without_locked_medians_a_sound_report_shows_no_locked_value(tmp_path, monkeypatch):
    case = Case(tmp_path / "sound", monkeypatch)
    case.settings["SHOW_LOCKED_MEDIANS"] = "false"
    doors.two_stores(case)
    assert case.findings == []


def test_the_corpus_has_every_mechanism_in_every_scope_and_no_leak_twice():
    titles = [leak.title for leak in LEAKS]
    assert len(set(titles)) == len(titles) >= 40
    assert {leak.mechanism for leak in LEAKS} == MECHANISMS
    for mechanism in MECHANISMS:
        scopes = {leak.scope for leak in LEAKS if leak.mechanism == mechanism}
        assert scopes >= {"one symbol", "one day"} | ({"one row"} if mechanism != "stamps" else set())
    assert set(titles) >= QUICK


def test_what_the_report_and_the_readme_say_is_of_this_corpus():
    corpus = read_corpus()
    named = {(leak["mechanism"], leak["leak"], leak["scope"]) for leak in corpus["leaks"]}
    assert named == {(leak.mechanism, leak.name, leak.scope) for leak in LEAKS}, "run `make corpus`"
    assert corpus["missed"] == [leak.name for leak in MISSED]
    assert {leak["caught_by"] for leak in corpus["leaks"]} <= {"the build", "the audit", "the tests"}
    assert readme_table(corpus) in README.read_text(encoding="utf-8")
    assert CORPUS_FILE.read_text(encoding="utf-8") == corpus_json(corpus["leaks"])


def test_the_line_of_the_report_sums_the_corpus_up():
    rows = rows_of(read_corpus()["leaks"])
    assert sum(row["injected"] for row in rows) == len(LEAKS)
    number = sum(leak["mechanism"] == "values" for leak in read_corpus()["leaks"])
    assert f"corpus of {len(LEAKS)} injected leaks" in corpus_line()
    assert f"caught (values {number}/{number}, " in corpus_line()


# The tests' modules load the code location, which would refuse the leak's settings before the command is there.
INJECTED = """
import os, sys
from pathlib import Path
import pytest
held = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("FEATURE_ASSETS_")}
from feature_assets.cli import main
from feature_assets_tests.leakage import corpus, injection
leak = next(leak for leak in corpus.LEAKS if leak.title == sys.argv[1])
leak.inject(injection.Case(Path("unused"), pytest.MonkeyPatch()))
os.environ.update(held)
sys.exit(main(["build"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("title", "code"),
    [
        ("values: shift(-1), one feature", 1),
        ("row selection: losing rows left out of the frame, one day", 1),
        ("stamps: mark of the next minute, one day", 1),
        ("availability: flag of the day's file, one day", 1),
        ("membership: values of another symbol's row, one row", 1),
        ("membership: symbol given twice, one symbol", 2),
        ("splits: overlap, one row", 2),
        ("splits: label column, everywhere", 1),
        ("readers: locked rows called FIT, everywhere", 1),
    ],
)
def test_the_command_exits_with_another_code_than_0_and_publishes_nothing_of_the_leak(title, code, tmp_path):
    (leak,) = (leak for leak in LEAKS if leak.title == title)
    with pytest.MonkeyPatch.context() as patch:
        case = Case(tmp_path / "leak", patch)
        leak.inject(case)
        variables = case.graph.variables
    result = _run([sys.executable, "-W", "ignore", "-c", INJECTED, title], case.folder, variables)
    assert result.returncode == code, result.stderr
    assert (leak.check if code == 1 else leak.says) in result.stderr or "FAILED" in result.stderr
    published = {str(path.relative_to(case.folder / "store")) for path in case.folder.glob("store/**/*.*")}
    assert not {name for partition in leak.where for name in below(partition)} & published
    assert leak.where or not published


@pytest.mark.slow
def test_dagsters_own_command_exits_with_1_on_a_stale_partition(tmp_path, monkeypatch):
    (leak,) = (leak for leak in LEAKS if leak.title == "stale: features of another replay, one row")
    case = Case(tmp_path / "leak", monkeypatch)
    leak.inject(case)
    program = Path(sys.executable).with_name("dagster")
    arguments = ["asset", "materialize", "-m", "feature_assets.definitions", "--select", "feature_frame", "--partition", D1]
    result = _run([str(program), *arguments], case.folder, case.graph.variables)
    assert result.returncode == 1
    assert "is stale: built from replay" in result.stderr
    assert case.graph.files() == case.before


def _run(command: list[str], folder: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FEATURE_ASSETS_", "DAGSTER"))}
    environment |= {f"FEATURE_ASSETS_{name}": value for name, value in variables.items()}
    environment |= {"DAGSTER_DISABLE_TELEMETRY": "1", "PYTHONPATH": str(README.parent)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
