"""Kills and failing disks: no unreadable file under a final name, no lying footer or marker, and the next build mends it."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from feature_assets.dataset.store import FEATURE_FRAME, REPLAY, SYMBOL_FEATURES, Store
from feature_assets.dataset.tables import content_hash
from feature_assets_tests.support.crash import build_all, build_replay_day, start
from feature_assets_tests.support.replays import days

KEY = "2025-03-04|BTCUSDT"
# mkdir, open, write, flush, fsync, replace.
CALLS = range(1, 7)


def variables(folder: Path, bars) -> dict[str, str]:
    bars.to_parquet(folder / "replay.parquet", index=False)
    values = {
        "ROOT": str(folder / "store"),
        "SOURCE": f"parquet:{folder / 'replay.parquet'}",
        "SYMBOLS": "BTCUSDT",
        "START_DATE": "2025-03-03",
        "END_DATE": "2025-03-06",
    }
    return {f"FEATURE_ASSETS_{name}": value for name, value in values.items()}


def run(target, *arguments: object) -> int:
    process = start(target, *arguments)
    process.join()
    return process.exitcode


def files(root: Path) -> dict[str, bytes]:
    """The files under their final names; a temporary one that a kill left begins with a dot, which readers leave out."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def assert_honest(root: Path) -> None:
    """Every file is whole, every footer names its own table, and every marker can be read."""
    store = Store(str(root))
    for asset in (REPLAY, SYMBOL_FEATURES, FEATURE_FRAME):
        for key in store.keys(asset):
            table, footer = store.read(asset, key)
            assert content_hash(table) == footer.content_hash
    for marker in root.rglob("REFUSED.json"):
        assert json.loads(marker.read_text())["reason"]


@pytest.fixture
def bars():
    return days("BTCUSDT", 3)


@pytest.mark.parametrize("how", ["kill", "ENOSPC", "EIO"])
def test_a_failure_at_any_step_of_publishing_leaves_the_old_file_or_the_new_one(tmp_path, bars, how):
    settings = variables(tmp_path, bars)
    assert run(build_replay_day, settings, str(tmp_path), KEY, 0, how) == 0
    old = files(tmp_path / "store")
    other = bars.copy()
    other.loc[1440:, "volume"] += 1.0
    variables(tmp_path, other)
    outcomes = []
    for call in CALLS:
        assert run(build_replay_day, settings, str(tmp_path), KEY, call, how) != 0, call
        assert_honest(tmp_path / "store")
        outcomes.append(files(tmp_path / "store") == old)
    # Up to the rename the old file stands; after it, the new one, whole.
    assert outcomes == [True] * 6
    assert run(build_replay_day, settings, str(tmp_path), KEY, 0, how) == 0
    new = files(tmp_path / "store")
    assert new != old
    assert run(build_replay_day, settings, str(tmp_path), KEY, 99, how) == 0, "a call too many is never reached"
    assert files(tmp_path / "store") == new


@pytest.mark.parametrize("how", ["ENOSPC", "EIO"])
def test_a_failing_disk_leaves_no_temporary_file(tmp_path, bars, how):
    settings = variables(tmp_path, bars)
    for call in CALLS:
        run(build_replay_day, settings, str(tmp_path), KEY, call, how)
    assert [path for path in (tmp_path / "store").rglob("*") if path.name.endswith(".tmp")] == []


@pytest.mark.slow
def test_300_kills_at_random_moments_of_a_range_build_leave_a_store_that_the_next_build_completes(tmp_path, bars):
    (tmp_path / "whole").mkdir()
    began = time.monotonic()
    assert run(build_all, variables(tmp_path / "whole", bars), str(tmp_path / "whole")) == 0
    duration = time.monotonic() - began
    expected = files(tmp_path / "whole/store")
    settings = variables(tmp_path, bars)
    moments = random.Random(11)
    killed = 0
    for _ in range(300):
        process, began = start(build_all, settings, str(tmp_path)), time.monotonic()
        process.join(moments.uniform(0.0, duration))
        process.kill()
        process.join()
        killed += process.exitcode != 0
        if process.exitcode == 0:
            # The first build may have been the slowest, and a moment after the end kills nothing.
            duration = min(duration, time.monotonic() - began)
        if (tmp_path / "store").exists():
            assert_honest(tmp_path / "store")
            found = files(tmp_path / "store")
            assert found == {name: expected[name] for name in found}
    assert killed > 100
    assert run(build_all, settings, str(tmp_path)) == 0
    assert files(tmp_path / "store") == expected
