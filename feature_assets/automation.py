"""Jobs by layer, and the sensor that keeps the store up to date.

A sensor and not a schedule, as a layer can only be asked for when the one before it is done; and not declarative
automation, as that knows neither which day a source has published nor which refusal is worth another try. What is due
is decided by feature_assets.dataset.due; the day itself comes round by the date: from the end of a day and its source's
publication delay on, that day is due.
"""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import dagster as dg

from feature_assets.dataset.due import due_requests
from feature_assets.dataset.store import (
    FEATURE_FRAME,
    FEATURE_MANIFEST,
    QUALITY_REPORT,
    REPLAY,
    SPLIT_MANIFEST,
    SYMBOL_FEATURES,
)
from feature_assets.partitions import range_tags
from feature_assets.resources import SourceResource, StoreResource
from feature_assets.settings import Settings

_LAYERS = ((REPLAY,), (SPLIT_MANIFEST,), (SYMBOL_FEATURES,), (FEATURE_FRAME,), (FEATURE_MANIFEST, QUALITY_REPORT))
_SECONDS = 300
_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def layer_jobs() -> list[Any]:
    """A job a layer, for the launchpad and for the sensor."""
    return [dg.define_asset_job(_job_name(assets), selection=list(assets)) for assets in _LAYERS]


def keep_up_sensor(settings: Settings, jobs: list[Any]) -> dg.SensorDefinition:
    """Asks for what is due, layer by layer; stopped until it is started in the UI."""

    @dg.sensor(
        name="keep_up",
        jobs=jobs,
        minimum_interval_seconds=_SECONDS,
        description="Asks for every date up to yesterday that is not built, layer by layer, in date order. A refused date is "
        "asked for again once its inputs or the code have changed.",
    )
    def keep_up(
        context: dg.SensorEvaluationContext, source: SourceResource, store: StoreResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        yield from run_requests(settings, context.instance, source, store, dt.datetime.now(dt.UTC))

    return keep_up


def run_requests(
    settings: Settings, instance: dg.DagsterInstance, source: SourceResource, store: StoreResource, now: dt.datetime
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """The runs to ask for at `now`; none while a run of this graph is queued or going on."""
    if instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED), limit=1):
        yield dg.SkipReason("a run is queued or going on; what is due is looked at when it is done")
        return
    bars = source.open()
    requests = due_requests(store.open(bars), bars.source, settings, now)
    if not requests:
        yield dg.SkipReason("everything that is published is built, or refused with nothing changed since")
    for request in requests:
        tags = range_tags(request.first, request.last) if request.first else {}
        yield dg.RunRequest(job_name=_job_name(request.assets), tags=tags)


def _job_name(assets: tuple[str, ...]) -> str:
    return f"build_{'_and_'.join(assets)}"
