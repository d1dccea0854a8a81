"""Child processes, timed from outside, and what the rows have in common. Imports nothing heavy.

A child's peak memory counts from its parent's, so the parent stays small.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
START = dt.date(2022, 1, 1)
REFERENCE = "FEATURE_ASSETS_REFERENCE"
_SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", *(f"COIN{n}USDT" for n in range(7)))


@dataclass(frozen=True)
class Ran:
    """A process: its whole time, its peak memory (0 where that says nothing), and what it said."""

    seconds: float
    mib: float
    answer: dict[str, Any]


@dataclass
class Found:
    """What a row of the bench found: lines of the table (what, ours, other, ratio, target), text below it, and curves."""

    lines: list[tuple[str, str, str, str, str]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


class Place:
    """A folder with a store of its own, the settings of its children, and Dagster's files as the project sets them up."""

    def __init__(self, folder: Path, symbols: int, days: int, source: str = "synthetic", start: dt.date = START) -> None:
        self.folder, self.symbols, self.days, self.start = folder, list(_SYMBOLS[:symbols]), days, start
        folder.mkdir()
        shutil.copy(PROJECT / "dagster.yaml", folder)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FEATURE_ASSETS_", "DAGSTER"))}
        fit, tune, end = (self.date(share * days // 5 if days >= 5 else n) for n, share in enumerate((3, 4, 5), start=1))
        if days < 5:
            end = self.date(max(days, 3))
        self.environment = kept | {
            "PYTHONPATH": str(PROJECT),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            "FEATURE_ASSETS_ROOT": "store",
            "FEATURE_ASSETS_SOURCE": source,
            "FEATURE_ASSETS_SYMBOLS": ",".join(self.symbols),
            "FEATURE_ASSETS_START_DATE": str(start),
            "FEATURE_ASSETS_END_DATE": str(self.date(days)),
            "FEATURE_ASSETS_SPLITS": f"FIT:{start}..{fit},TUNE:{fit}..{tune},VALIDATION_LOCKED:{tune}..{end}",
        }

    def date(self, number: int) -> dt.date:
        return self.start + dt.timedelta(days=number)

    def run(self, task: str, **arguments: Any) -> Ran:
        """A task of child.py in a process of its own."""
        return self._process(["feature_assets_bench.child", task, json.dumps(arguments)])

    def build(self, first: int, last: int) -> Ran:
        """`feature-assets build` of the days first..last, counted from 0, when END_DATE is the day after the last."""
        end = str(self.date(last + 1))
        self.environment["FEATURE_ASSETS_END_DATE"] = end
        return self.run("command", arguments=["build", "--from", str(self.date(first)), "--to", end])

    def other(self, replay: Path, naive_rows: int) -> Ran:
        """The reference on a replay, or the tests' naive version, scaled from its first rows, where there is none."""
        folder = os.environ.get(REFERENCE)
        if not folder:
            ran = self.run("naive", replay=str(replay), rows=naive_rows)
            return Ran(ran.answer["seconds"], 0.0, ran.answer)
        out = self.folder / "reference"
        shutil.rmtree(out, ignore_errors=True)
        return self._process(["feature_assets_bench.reference", folder, str(replay), str(out)])

    def forget(self, *names: str) -> None:
        """Take parts of the store away. They are not deleted yet: ext4 is slow to make files when many have just gone."""
        for name in names:
            if (self.folder / "store" / name).exists():
                (self.folder / "store" / name).rename(tempfile.mkdtemp(dir=self.folder.parent, prefix="forgotten_"))

    def _process(self, command: Sequence[str]) -> Ran:
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            started = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=self.folder, env=self.environment, stdout=out, stderr=err
            )
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            out.seek(0)
            err.seek(0)
            if process.returncode:
                raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{err.read()[-2000:]}")
            answer = json.loads(out.read().splitlines()[-1])
        return Ran(seconds, usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10), answer)


def other_name() -> str:
    return "the reference" if os.environ.get(REFERENCE) else "the tests' naive version, scaled from its first rows"


def middle(runs: Sequence[Ran]) -> Ran:
    """The run of median time among an odd number."""
    return sorted(runs, key=lambda ran: ran.seconds)[len(runs) // 2]


def part(runs: Sequence[Ran]) -> float:
    """The median of the seconds that the tasks themselves counted."""
    return statistics.median(ran.answer["seconds"] for ran in runs)
