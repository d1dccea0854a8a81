"""Dagster's partitions and mappings, from the settings and the features' declared look-back."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cached_property

import dagster as dg

from feature_assets.features.catalogue import LOOKBACK_DAYS
from feature_assets.settings import Settings

DATE, SYMBOL = "date", "symbol"


@dataclass(frozen=True)
class Partitions:
    """Three definitions that differ on purpose.

    Replay dates begin LOOKBACK_DAYS before the features': that is the look-back's reach, and assets whose partitions
    definitions differ are never put into one backfill run, where a day and its look-back would not be ordered.
    """

    settings: Settings

    @cached_property
    def replay(self) -> dg.MultiPartitionsDefinition:
        return self._by_date_and_symbol(self.settings.start - dt.timedelta(days=LOOKBACK_DAYS))

    @cached_property
    def symbol_features(self) -> dg.MultiPartitionsDefinition:
        return self._by_date_and_symbol(self.settings.start)

    @cached_property
    def feature_frame(self) -> dg.DailyPartitionsDefinition:
        return self._dates(self.settings.start)

    def _by_date_and_symbol(self, start: dt.date) -> dg.MultiPartitionsDefinition:
        symbols = dg.StaticPartitionsDefinition(list(self.settings.symbol_names))
        return dg.MultiPartitionsDefinition({DATE: self._dates(start), SYMBOL: symbols})

    def _dates(self, start: dt.date) -> dg.DailyPartitionsDefinition:
        end = self.settings.end
        return dg.DailyPartitionsDefinition(start_date=str(start), end_date=str(end) if end else None, timezone="UTC")


def range_tags(first: object, last: object) -> dict[str, str]:
    """The tags with which Dagster runs every partition from one key to another in one run."""
    return {"dagster/asset_partition_range_start": str(first), "dagster/asset_partition_range_end": str(last)}


def look_back() -> dg.MultiPartitionMapping:
    """A day of a symbol reads that symbol's replay of the day and of LOOKBACK_DAYS before it."""
    return dg.MultiPartitionMapping(
        {
            DATE: dg.DimensionPartitionMapping(DATE, dg.TimeWindowPartitionMapping(start_offset=-LOOKBACK_DAYS)),
            SYMBOL: dg.DimensionPartitionMapping(SYMBOL, dg.IdentityPartitionMapping()),
        }
    )


def all_symbols() -> dg.MultiToSingleDimensionPartitionMapping:
    """A date reads every symbol's partition of that date."""
    return dg.MultiToSingleDimensionPartitionMapping(DATE)
