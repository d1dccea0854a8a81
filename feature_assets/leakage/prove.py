"""Proofs of features that need nothing from their authors: `feature-assets prove`.

Every feature is called in two fresh processes (sealed.py) on made-up replays under names and at dates that no store
has, and its declaration is held against what changes of the input do to its values (probes.py): the look-back is exact,
the columns are exact, nothing later matters, two processes agree, and a row needs no more history than its window.

What this cannot see: a branch that no replay here enters, such as a number that is recognized by its value; today's
date where it moves no value today; a table of numbers in a module that were taken from later data (fitted_on is its
author's word); a file that a C or C++ library reads while a module is imported, or whose refusal the feature catches.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feature_assets.errors import ProofError
from feature_assets.features.declaration import Feature
from feature_assets.leakage.fitted import fitted_beyond_fit
from feature_assets.leakage.probes import COLUMNS, DETERMINISTIC, HISTORY_FREE, LOOK_AHEAD, LOOK_BACK
from feature_assets.splits.manifest import SplitManifest

FITTED_ON = "fitted_on"
PROOFS = (LOOK_BACK, COLUMNS, LOOK_AHEAD, DETERMINISTIC, HISTORY_FREE, FITTED_ON)

# What the table says where a proof holds, and where it does not.
_CELLS = {COLUMNS: ("ok", "WRONG"), LOOK_AHEAD: ("none", "FOUND"), DETERMINISTIC: ("yes", "NO"), HISTORY_FREE: ("yes", "NO")}

_PROGRESS = logging.getLogger("feature_assets.progress")


@dataclass(frozen=True)
class Proof:
    """What was found about a feature; see feature_assets.leakage.probes.Findings.

    wrong: what does not hold, by the names of PROOFS or RUNS, a sentence each that ends in what to do.
    """

    feature: Feature
    observed: int | None
    at_least: bool
    wrong: dict[str, str]
    unproven: bool

    @property
    def holds(self) -> bool:
        return not self.wrong

    def cell(self, name: str) -> str:
        """What the table says of one of PROOFS; a dash where it could not be tried or nothing is declared."""
        if name == FITTED_ON:
            return str(self.feature.fitted_on or "-") + (" beyond FIT" if name in self.wrong else "")
        if self.unproven and name not in self.wrong:
            return "-"
        if name == LOOK_BACK:
            return "none" if self.observed is None else f"{'>=' if self.at_least else ''}{self.observed:,}"
        return _CELLS[name][name in self.wrong]


def prove(features: Sequence[Feature], splits: SplitManifest, start: dt.date) -> list[Proof]:
    """Prove each of `features`, which lie in modules that another process can import, on replays from `start` on.

    Raises ProofError where a process ends before it has told what it found.
    """
    with tempfile.TemporaryDirectory(prefix="feature_assets_prove_") as folder:
        workers = _Workers(Path(folder), features, start)
        (tried,) = workers.run("try", {"preload": []})
        with ThreadPoolExecutor(2) as pool:
            halves = list(pool.map(workers.prove, (False, True), (tried["modules"],) * 2))
        ordered, reverse = (np.load(workers.values_path(turned)) for turned in (False, True))
    found = {answer["feature"]: answer for half in halves for answer in half}
    proofs = []
    for number, feature in enumerate(features):
        answer = found[number]
        wrong = dict(answer["wrong"])
        if sentence := _disagreement(ordered[number], reverse[number]):
            wrong.setdefault(DETERMINISTIC, sentence)
        if sentence := fitted_beyond_fit(feature, splits):
            wrong[FITTED_ON] = sentence
        proofs.append(Proof(feature, answer["observed"], answer["at_least"], wrong, answer["unproven"]))
    return proofs


def _disagreement(ordered: np.ndarray, reverse: np.ndarray) -> str | None:
    different = np.argwhere(ordered.view(np.int64) != reverse.view(np.int64))
    if not len(different):
        return None
    replay, row = different[0]
    return (
        f"{len(different)} of {ordered.size} values differ between two fresh processes, of other hash seeds, time zones and "
        f"orders of calls, e.g. {ordered[replay, row]} and {reverse[replay, row]}; compute from the bars alone"
    )


class _Workers:
    """The processes, each with a job's file, and its own view of the environment."""

    def __init__(self, folder: Path, features: Sequence[Feature], start: dt.date) -> None:
        self._folder, self._start = folder, start
        self._names = [f"{feature.function.__module__}:{feature.name}" for feature in features]
        self._done, self._lock = 0, threading.Lock()

    def values_path(self, reverse: bool) -> Path:
        return self._folder / f"values_{reverse}.npy"

    def prove(self, reverse: bool, modules: list[str]) -> list[dict[str, Any]]:
        """Examine every other feature in a process that knows what to load; every second one, if `reverse`."""
        job = {
            "preload": modules,
            "examine": list(range(reverse, len(self._names), 2)),
            "reverse": reverse,
            "values": str(self.values_path(reverse)),
        }
        answers = []
        for answer in self.run(f"prove_{reverse}", job):
            answers.append(answer)
            with self._lock:
                self._done += 1
                _PROGRESS.info("%s %d/%d", "prove", self._done, len(self._names))
        return answers

    def run(self, name: str, job: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The answers of a process that does `job`, as they come."""
        path, folder = self._folder / f"{name}.json", self._folder / name
        path.write_text(json.dumps({"features": self._names, "start": str(self._start), **job}), encoding="utf-8")
        folder.mkdir()
        command = [sys.executable, "-m", "feature_assets.leakage.sealed", str(path)]
        with (
            path.with_suffix(".err").open("wb") as errors,
            subprocess.Popen(  # noqa: S603 - this interpreter, this package
                command,
                cwd=folder,
                env=_environment(turned=job.get("reverse", False)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            ) as process,
        ):
            assert process.stdout is not None
            answered = 0
            for answered, line in enumerate(process.stdout, start=1):  # noqa: B007 - how many there were is told below
                yield json.loads(line)
        if process.returncode:
            left = [self._names[number] for number in job.get("examine", [])[answered:]] or self._names
            said = path.with_suffix(".err").read_text(encoding="utf-8", errors="replace").strip()
            raise ProofError(
                f"features were being proven, {left[0]} the next, when their process ended with exit code "
                f"{process.returncode}. It said: {said[-2000:] or 'nothing'}"
            )


def _environment(*, turned: bool) -> dict[str, str]:
    """This process's environment and module path without the project's settings, the two proofs' as unlike as can be."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FEATURE_ASSETS_", "DAGSTER_"))}
    path = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path)
    return kept | {
        "PYTHONPATH": path,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "2" if turned else "1",
        "TZ": "PROOF-5:45" if turned else "UTC",
    }
