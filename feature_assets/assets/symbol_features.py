"""The symbol_features asset."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from feature_assets.assets.columns import SYMBOL_FEATURES_METADATA
from feature_assets.assets.events import partitioned_asset
from feature_assets.dataset.keys import Key
from feature_assets.dataset.lock import hidden_from
from feature_assets.dataset.outcomes import Outcome
from feature_assets.dataset.processes import build_in_processes
from feature_assets.dataset.store import REPLAY, SYMBOL_FEATURES, Store
from feature_assets.dataset.symbol_features import features_code_version
from feature_assets.features.catalogue import FEATURES, LOOKBACK_DAYS
from feature_assets.market.sources import Source
from feature_assets.partitions import Partitions, look_back
from feature_assets.settings import Settings


def symbol_features_asset(settings: Settings) -> dg.AssetsDefinition:
    """A symbol's day of features, from its replay and the look-back days before it."""
    spec = dg.AssetSpec(
        SYMBOL_FEATURES,
        description=f"{len(FEATURES)} features of a symbol's day, each row from its own minute and the minutes before it, "
        f"back to at most {LOOKBACK_DAYS} days. Published only if every value is finite and a recomputation without the "
        "future gives the same bits.",
        deps=[dg.AssetDep(REPLAY, partition_mapping=look_back())],
        partitions_def=Partitions(settings).symbol_features,
        group_name="features",
        kinds={"parquet", "numpy"},
        owners=["team:features"],
        code_version=features_code_version(settings.options),
        metadata=SYMBOL_FEATURES_METADATA,
        skippable=True,
    )

    def build(store: Store, _: Source, keys: list[Key]) -> Iterator[Outcome]:
        return build_in_processes(store, settings.options, keys, hidden_from(store, settings.splits))

    return partitioned_asset(spec, build)
