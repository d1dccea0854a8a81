"""The process in which features are proven: `python -m feature_assets.leakage.sealed JOB.json`, started by prove.py.

While a feature computes here nothing can be opened: no file, folder, socket or process. Python's audit events tell what
was asked for; as libraries in C++ (Parquet, CSV readers) raise none, the process may hold no further file descriptor
either. While the features' modules are imported, their own code may open no data file. Nothing but lines of JSON is
written to standard output: what was found, a line a feature.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import importlib.machinery
import json
import os
import resource
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before the seal: what a feature may use in any case.
import numpy as np
import pandas as pd  # noqa: F401
import pyarrow as pa  # noqa: F401

if TYPE_CHECKING:
    from feature_assets.features.declaration import Feature
    from feature_assets.leakage.probes import Replay
    from feature_assets.market.bars import Bars

_CODE = tuple(importlib.machinery.all_suffixes())
_INSTALLED = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_AT_IMPORT = ("open", "socket.", "subprocess.", "sqlite3.", "urllib.")
_WATCHED = (*_AT_IMPORT, "os.", "shutil.", "glob.", "pathlib.", "tempfile.", "http.", "ftplib.")


class Seal:
    """What the process may open: anything (`free`), code (`importing`, `trying`), nothing (`closed`).

    `refused` holds what each feature asked for, by its name; `at_import` pairs of what was opened during an import and
    the modules that were being imported then, the innermost first.
    """

    def __init__(self, own: Sequence[str]) -> None:
        self._own, self._state, self._feature = {name.split(".")[0] for name in own}, "free", ""
        self.refused: dict[str, list[str]] = {}
        self.at_import: list[tuple[str, list[str]]] = []
        sys.addaudithook(self._hear)

    @contextlib.contextmanager
    def state(self, state: str, feature: str = "") -> Iterator[None]:
        before, self._state, self._feature = self._state, state, feature
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        if state == "closed":
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            yield
        except OSError as error:
            if error.errno == errno.EMFILE:
                self._refuse(str(error))
            raise
        finally:
            self._state = before
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._state == "free":
            return
        if self._state == "closed" and event == "import":
            raise ImportError(f"{arguments[0]} is imported while the feature computes; import it at the module's top")
        if not event.startswith(_WATCHED) or self._is_code(event, arguments):
            return
        what = f"{event} {arguments[0] if arguments else ''}".strip()
        if self._state == "importing":
            self._hear_import(event, what)
            return
        # Libraries ask these about the processor, and go on where they cannot.
        if not what.startswith(("open /sys/", "open /proc/")):
            self._refuse(what)
        raise PermissionError(f"{what}: refused while features are proven")

    def _refuse(self, what: str) -> None:
        self.refused.setdefault(self._feature, []).append(what)

    def _is_code(self, event: str, arguments: tuple[Any, ...]) -> bool:
        """Whether this is part of an import, which only a closed seal forbids."""
        if self._state == "closed":
            return False
        return event in {"os.listdir", "os.scandir"} or (event == "open" and str(arguments[0]).endswith(_CODE))

    def _hear_import(self, event: str, what: str) -> None:
        """Note what the project's own modules open while they are imported; a library's are its own affair."""
        modules, frame = [], sys._getframe(2)  # noqa: SLF001 - the only way to see who asks
        while frame.f_back:
            if frame.f_code.co_name == "<module>":
                modules.append((frame.f_globals.get("__name__", ""), frame.f_code.co_filename))
            frame = frame.f_back
        if event.startswith(_AT_IMPORT) and modules and not self.is_library(*modules[0]):
            self.at_import.append((what, [name for name, _ in modules]))

    def is_library(self, module: str, path: str | None) -> bool:
        return module.split(".", maxsplit=1)[0] not in self._own and (path or "<").startswith((*_INSTALLED, "<"))


def main() -> None:
    """Do the job; `preload` empty means to try the features once and to tell which libraries' modules that loaded."""
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    seal = Seal([name.partition(":")[0] for name in job["features"]])
    features = _load(seal, job)
    with np.errstate(all="ignore"):
        if job["preload"]:
            for answer in _prove(seal, job, features):
                answers.write(json.dumps(answer) + "\n")
        else:
            _try(seal, job, features)
            loaded = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
            answers.write(json.dumps({"modules": [name for name, path in loaded.items() if seal.is_library(name, path)]}) + "\n")
    answers.close()


def _load(seal: Seal, job: dict[str, Any]) -> list[Feature]:
    with seal.state("importing"):
        for name in job["preload"]:
            # What a library loads late, in its own time; what is no module of its own is not missed.
            with contextlib.suppress(Exception):
                importlib.import_module(name)
        functions = [name.split(":") for name in job["features"]]
        return [getattr(importlib.import_module(module), function).feature for module, function in functions]


def _replays(job: dict[str, Any], features: Sequence[Feature]) -> list[Replay]:
    import datetime as dt

    from feature_assets.leakage.probes import make_replays, rows_for

    return make_replays(rows_for(max(feature.lookback_rows for feature in features)), dt.date.fromisoformat(job["start"]))


def _try(seal: Seal, job: dict[str, Any], features: Sequence[Feature]) -> None:
    from feature_assets.leakage.probes import frozen_bars

    for replay in _replays(job, features):
        for feature in features:
            with contextlib.suppress(Exception), seal.state("trying"):
                feature.function(frozen_bars(replay.columns))


def _prove(seal: Seal, job: dict[str, Any], features: Sequence[Feature]) -> Iterator[dict[str, Any]]:
    """The values of all features, for the comparison with another process, and the proofs of those to `examine`."""
    from feature_assets.leakage.probes import RUNS, Findings, examine

    replays = _replays(job, features)
    np.save(job["values"], _values(seal, job, features, replays))
    for number in job["examine"]:
        feature = features[number]
        findings = examine(feature, replays, _sealed(seal, feature))
        if opened := sorted({*seal.refused.get(_name(feature), []), *_opened_at_import(seal, feature)}):
            asked = f"it asked for {' and '.join(opened[:3])}"
            wrong = {RUNS: f"{asked}, which is refused: a feature reads bars alone; write what it needs into its module"}
            findings = Findings(wrong=wrong, unproven=True)
        yield {"feature": number, **vars(findings)}


def _values(seal: Seal, job: dict[str, Any], features: Sequence[Feature], replays: Sequence[Replay]) -> np.ndarray:
    """Values by feature, replay and row; NaN where a feature raises, which its examination tells.

    One process takes features and replays in order and each feature on bars of its own, the other in reverse and all
    features on the same bars: what remembers or depends on others differs.
    """
    from feature_assets.leakage.probes import feature_values, frozen_bars

    values = np.full((len(features), len(replays), len(replays[0])), np.nan)
    turn = -1 if job["reverse"] else 1
    for place, replay in list(enumerate(replays))[::turn]:
        bars = frozen_bars(replay.columns)
        for number, feature in list(enumerate(features))[::turn]:
            with contextlib.suppress(Exception):
                own = bars if job["reverse"] else frozen_bars(replay.columns)
                values[number, place] = feature_values(_sealed(seal, feature), own)
    return values


def _sealed(seal: Seal, feature: Feature) -> Callable[[Bars], np.ndarray]:
    def compute(bars: Bars) -> np.ndarray:
        with seal.state("closed", _name(feature)):
            return feature.function(bars)

    return compute


def _name(feature: Feature) -> str:
    return f"{feature.function.__module__}:{feature.name}"


def _opened_at_import(seal: Seal, feature: Feature) -> list[str]:
    """What was opened while the feature's module, and what it imports first, was imported."""
    module = feature.function.__module__
    return [f"{what} while {modules[0]} is imported" for what, modules in seal.at_import if module in modules]


if __name__ == "__main__":
    main()
