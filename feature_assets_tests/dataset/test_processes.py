"""Long ranges in processes of their own: the same outcomes and files as without, and an end with whoever began them."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feature_assets.dataset import outcomes, processes
from feature_assets.dataset.keys import Key
from feature_assets.dataset.outcomes import Blocked, Check, Left, Published, Refused
from feature_assets.dataset.processes import build_in_processes
from feature_assets.dataset.replay import build_replay
from feature_assets.dataset.store import REPLAY, SYMBOL_FEATURES, Refusal, Store
from feature_assets.dataset.symbol_features import build_symbol_features
from feature_assets.dataset.tables import Footer
from feature_assets.errors import ProofError
from feature_assets.market.sources import load_source
from feature_assets.settings import Settings, load_settings

Popen = subprocess.Popen
DAYS = 17
VALUES = {"SYMBOLS": "BTCUSDT,ETHUSDT,SOLUSDT", "SOURCE": "synthetic", "START_DATE": "2025-03-01", "END_DATE": "2025-03-18"}


@pytest.fixture(autouse=True)
def two(monkeypatch):
    """Two processes and parts of eight dates, whatever the machine has."""
    monkeypatch.setattr(processes, "_PROCESSES", 2)
    monkeypatch.setattr(processes, "_DATES", 8)


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    folder = tmp_path_factory.mktemp("processes")
    settings = load_settings({f"FEATURE_ASSETS_{name}": value for name, value in VALUES.items()}, folder)
    store = Store(settings.root)
    list(build_replay(store, load_source(settings.source).source, settings, keys_of(settings, back=3)))
    # A refused day, which blocks itself and the two after it, and a symbol's last days without any replay.
    store.refuse(REPLAY, Key.parse("2025-03-05|ETHUSDT"), Refusal("sound_replay", "made up"), None)
    for day in (16, 17):
        (Path(settings.root) / store.partition_file(REPLAY, Key.parse(f"2025-03-{day}|SOLUSDT"))).unlink()
    return settings


def keys_of(settings: Settings, back: int = 0) -> list[Key]:
    ordinals = range(settings.start.toordinal() - back, settings.start.toordinal() + DAYS)
    return [Key(settings.start.fromordinal(day), symbol) for day in ordinals for symbol in settings.symbol_names]


def files(settings: Settings) -> dict[str, bytes]:
    root = Path(settings.root) / SYMBOL_FEATURES
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.parquet")}


def without_clock(outcome: outcomes.Outcome) -> outcomes.Outcome:
    return replace(outcome, details=outcome.details | {"seconds": 0}) if isinstance(outcome, Published) else outcome


def test_outcomes_and_bytes_are_those_of_one_process_also_where_days_are_blocked_or_left(settings):
    keys = keys_of(settings)
    alone = [without_clock(outcome) for outcome in build_symbol_features(Store(settings.root), settings.options, keys)]
    bytes_alone = files(settings)
    for path in (Path(settings.root) / SYMBOL_FEATURES).rglob("*.parquet"):
        path.unlink()
    found = [without_clock(outcome) for outcome in build_in_processes(Store(settings.root), settings.options, keys)]
    assert found == alone
    assert files(settings) == bytes_alone
    assert {type(outcome) for outcome in found} == {Published, Blocked, Left}


def test_of_many_symbols_and_few_dates_the_first_are_built_here(settings, monkeypatch):
    given_away = []
    process = processes._process
    monkeypatch.setattr(processes, "_process", lambda *job: given_away.append(job[2]) or process(*job))
    keys = [key for key in keys_of(settings) if key.date.day <= 3]
    assert len(list(build_in_processes(Store(settings.root), settings.options, keys))) == 9
    assert given_away == [[[key for key in keys if key.symbol == "SOLUSDT"]]]


def test_a_short_range_needs_no_process(settings, monkeypatch):
    monkeypatch.setattr(processes.subprocess, "Popen", None)
    keys = [Key.parse(f"2025-03-{day:02}|BTCUSDT") for day in range(1, 9)]
    assert len(list(build_in_processes(Store(settings.root), settings.options, keys))) == 8


def test_a_process_that_is_killed_is_told_with_the_key_it_was_at_and_what_came_before_is_given(settings, monkeypatch):
    started: list[subprocess.Popen] = []
    monkeypatch.setattr(processes, "_PROCESSES", 1)
    monkeypatch.setattr(processes.subprocess, "Popen", lambda *a, **k: started.append(Popen(*a, **k)) or started[-1])
    found = build_in_processes(Store(settings.root), settings.options, keys_of(settings))
    given_ = [next(found) for _ in range(8)]
    started[0].kill()
    with pytest.raises(
        ProofError, match=r"symbol_features 2025-03-\d\d\|\w+ was being built when .* exit code -9; .*again"
    ) as error:
        given_ += found
    assert len(given_) >= 8
    assert str(given_[-1].key) not in str(error.value)


def test_a_line_that_a_kill_cut_off_is_no_answer():
    keys = [Key.parse(f"2025-03-0{day}|BTCUSDT") for day in (1, 2)]
    lines = [outcomes.to_json(Left(key, "nothing there")) + "\n" for key in keys]
    killed = SimpleNamespace(stdout=[lines[0], lines[1][:-20]], wait=lambda: -9)
    found = processes._outcomes(killed, keys, io.StringIO())
    assert next(found).key == keys[0]
    with pytest.raises(ProofError, match=r"symbol_features 2025-03-02\|BTCUSDT was .* exit code -9; .* It said: nothing"):
        next(found)


def test_code_that_has_changed_since_the_run_began_builds_nothing(settings, monkeypatch):
    monkeypatch.setattr(processes, "features_code_version", lambda options: "older")
    with pytest.raises(ProofError, match=r"the code has changed from older to .*; start it again"):
        list(build_in_processes(Store(settings.root), settings.options, keys_of(settings)))


def test_whoever_stops_taking_outcomes_stops_the_processes(settings, monkeypatch):
    started: list[subprocess.Popen] = []
    monkeypatch.setattr(processes.subprocess, "Popen", lambda *a, **k: started.append(Popen(*a, **k)) or started[-1])
    found = build_in_processes(Store(settings.root), settings.options, keys_of(settings))
    next(found)
    found.close()
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)
    assert not list(Path(settings.root).rglob(".*.tmp"))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for the process in /proc")
def test_processes_end_when_the_one_that_began_them_is_killed(settings, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""
        import subprocess, sys, pathlib
        from feature_assets.dataset import processes
        from feature_assets.dataset.store import Store
        from feature_assets_tests.dataset.test_processes import keys_of, load_settings, VALUES
        values = {{f"FEATURE_ASSETS_{{name}}": value for name, value in VALUES.items()}}
        settings = load_settings(values, pathlib.Path({settings.root!r}).parent)
        processes._PROCESSES, processes._DATES = 1, 8
        popen = subprocess.Popen
        def told(*arguments, **named):
            process = popen(*arguments, **named)
            print(process.pid, flush=True)
            return process
        subprocess.Popen = told
        for outcome in processes.build_in_processes(Store({settings.root!r}), settings.options, keys_of(settings)):
            pass
        """)
    )
    project = Path(processes.__file__).parents[2]
    with Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(project)}
    ) as run:
        pid = int(run.stdout.readline())
        run.send_signal(signal.SIGKILL)
    assert ends_within(20, pid)


def ends_within(seconds: int, pid: int) -> bool:
    for _ in range(10 * seconds):
        try:
            # Nobody may have taken its exit code.
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False


def test_a_feature_that_prints_does_not_spoil_the_answers():
    code = textwrap.dedent("""
        from feature_assets.dataset import processes
        from feature_assets.dataset.keys import Key
        from feature_assets.dataset.outcomes import Left
        def build(store, options, keys, hidden_from):
            print("noise")
            return [Left(key, "nothing there") for key in keys]
        processes.build_symbol_features = build
        processes.main()
        """)
    options = {"optional_groups": ["liquidations"], "allow_incomplete_days": False, "gaps": "bridge"}
    version = processes.features_code_version(load_settings({}, Path()).options)
    job = {"root": "store", "options": options, "code_version": version, "hidden_from": None, "parts": [["2025-03-01|BTCUSDT"]]}
    ran = subprocess.run([sys.executable, "-c", code], input=json.dumps(job), capture_output=True, text=True, check=False)
    assert ran.returncode == 0
    assert outcomes.from_json(ran.stdout) == Left(Key.parse("2025-03-01|BTCUSDT"), "nothing there")
    assert ran.stderr == "noise\n"


NUMBERS = st.floats(allow_nan=False) | st.integers()
TEXTS = st.dictionaries(st.text(max_size=5), NUMBERS | st.text(max_size=5) | st.lists(st.text(max_size=5)), max_size=3)
CHECKS = st.lists(st.builds(Check, st.text(), st.booleans(), st.text(), st.booleans(), TEXTS), max_size=3).map(tuple)
KEYS = st.sampled_from([Key.parse("2025-03-01|BTCUSDT"), Key.parse("2025-03-01")])
STATS = st.dictionaries(st.text(max_size=5), st.integers(), max_size=3)
FOOTERS = st.builds(Footer, st.text(), st.text(), st.dictionaries(st.text(max_size=5), st.text(max_size=5)), STATS, st.text())


@given(
    st.builds(Published, KEYS, FOOTERS, CHECKS, TEXTS)
    | st.builds(Refused, KEYS, CHECKS, st.text())
    | st.builds(Blocked, KEYS, st.text())
    | st.builds(Left, KEYS, st.text())
)
def test_an_outcome_comes_out_of_its_json_as_it_went_in(outcome):
    line = outcomes.to_json(outcome)
    assert "\n" not in line
    assert outcomes.from_json(line) == outcome
