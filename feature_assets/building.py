"""`feature-assets build`: all layers of a range, one Dagster run after the other, in this process.

What has to be built is decided by feature_assets.dataset.plan; how the terminal looks is cli.py's.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import dagster as dg

from feature_assets.assets.events import LEFT
from feature_assets.dataset import plan
from feature_assets.dataset.feature_frame import frame_code_version
from feature_assets.dataset.keys import ONE_DAY, Key, dates
from feature_assets.dataset.store import (
    FEATURE_FRAME,
    FEATURE_MANIFEST,
    QUALITY_REPORT,
    REPLAY,
    SPLIT_MANIFEST,
    SYMBOL_FEATURES,
    Store,
)
from feature_assets.dataset.symbol_features import features_code_version
from feature_assets.definitions import make_definitions
from feature_assets.features.catalogue import LOOKBACK_DAYS
from feature_assets.market.sources import load_source
from feature_assets.partitions import range_tags
from feature_assets.resources import StoreResource
from feature_assets.settings import Settings


@dataclass
class BuildResult:
    """What a build did: its runs' errors and warnings, its checks by state, the partitions left stale on request."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    checks: Counter[str] = field(default_factory=Counter)
    left_stale: list[str] = field(default_factory=list)


def build_range(
    settings: Settings, instance: dg.DagsterInstance, start: dt.date, end: dt.date, *, only: bool = False
) -> BuildResult:
    """Build every layer of [start, end): first what is missing or outdated of the look-back replay, last the published
    days around the range whose inputs have changed by it, unless `only`.

    A layer with refused partitions does not stop the next one: what does not stand on them is built.
    """
    loaded = load_source(settings.source)
    store = StoreResource(root=settings.root, symbols=list(settings.symbol_names)).open(loaded)
    builder = _Builder(settings, instance)
    symbols = plan.symbol_dates(settings, start, end)
    look_back = plan.outdated_replay(store, loaded.source, settings, plan.look_back_keys(symbols))
    builder.run([SPLIT_MANIFEST])
    builder.run_partitions(REPLAY, [*look_back, *symbols])
    builder.run_partitions(SYMBOL_FEATURES, [*symbols, *builder.stale_around(store, SYMBOL_FEATURES, start, end, only)])
    frames = [Key(date) for date in dates(start, end) if settings.members(date)]
    builder.run_partitions(FEATURE_FRAME, [*frames, *builder.stale_around(store, FEATURE_FRAME, start, end, only)])
    if not builder.result.left_stale:
        builder.run([FEATURE_MANIFEST, QUALITY_REPORT])
    return builder.result


class _Builder:
    """Runs layers and gathers what became of them."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self._settings, self._instance = settings, instance
        self._repository = make_definitions(settings).get_repository_def()
        self._code_versions = {
            SYMBOL_FEATURES: features_code_version(settings.options),
            FEATURE_FRAME: frame_code_version(),
        }
        self.result = BuildResult()

    def stale_around(self, store: Store, asset: str, start: dt.date, end: dt.date, only: bool) -> list[Key]:
        """Partitions outside [start, end), within the look-back's reach of it, to build with it: published ones whose
        inputs have changed, and holes that a refusal had left.
        """
        reach = LOOKBACK_DAYS * ONE_DAY
        first, last = max(self._settings.start, start - reach), min(self._settings.end_date(), end + reach)
        around = [date for date in dates(first, last) if not start <= date < end]
        symbols = self._settings.symbol_names if asset == SYMBOL_FEATURES else (None,)
        near = [Key(date, symbol) for date in around for symbol in symbols]
        found = plan.stale(store, asset, near, self._code_versions[asset])
        found += plan.holes(store, asset, self._settings, start, end, last)
        if only:
            self.result.left_stale += [f"{asset} {key}" for key in found]
            return []
        return found

    def run_partitions(self, asset: str, keys: Sequence[Key]) -> None:
        for first, last in plan.rectangles(keys, self._settings.symbol_names):
            self.run([asset], range_tags(first, last))

    def run(self, assets: Iterable[str], tags: dict[str, str] | None = None) -> None:
        keys = [dg.AssetKey(asset) for asset in assets]
        job = self._repository.get_implicit_job_def_for_assets(keys)
        assert job is not None
        with _collect_left(self.result.warnings):
            result = job.execute_in_process(
                instance=self._instance,
                asset_selection=keys,
                tags=tags,
                raise_on_error=False,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
        for evaluation in result.get_asset_check_evaluations():
            warns = evaluation.severity == dg.AssetCheckSeverity.WARN
            self.result.checks["passed" if evaluation.passed else "warned" if warns else "failed"] += 1
            if warns and not evaluation.passed:
                self.result.warnings.append(f"{evaluation.check_name} {evaluation.description}")
        for event in result.filter_events(lambda event: event.is_step_failure):
            self.result.errors.append(_error_text(event))


@contextlib.contextmanager
def _collect_left(reasons: list[str]) -> Iterator[None]:
    """Gather the reasons of partitions that are left unbuilt while a run is going on."""
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: reasons.append(record.getMessage())  # type: ignore[method-assign]
    LEFT.addHandler(handler)
    try:
        yield
    finally:
        LEFT.removeHandler(handler)


def _error_text(event: dg.DagsterEvent) -> str:
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    cause = data.error.cause or data.error if data.error else None
    return cause.message.strip() if cause else "the step failed"
