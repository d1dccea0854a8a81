"""A range build holds a few days of a symbol: its peak memory does not follow the range."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROBE = """
import resource, sys
from feature_assets.cli import main
code = main(["build"])
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def peak_kib(folder, end: str) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FEATURE_ASSETS_", "DAGSTER"))}
    environment |= {"FEATURE_ASSETS_SYMBOLS": "BTCUSDT,ETHUSDT", "FEATURE_ASSETS_START_DATE": "2025-01-01"}
    environment |= {"FEATURE_ASSETS_END_DATE": end}
    folder.mkdir()
    result = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return int(result.stdout.split("PEAK ")[1])


@pytest.mark.slow
def test_the_peak_of_120_days_is_within_15_percent_of_that_of_30(tmp_path):
    short, long = peak_kib(tmp_path / "short", "2025-01-31"), peak_kib(tmp_path / "long", "2025-05-01")
    assert long < 1.15 * short, f"{short} KiB for 30 days, {long} KiB for 120"
