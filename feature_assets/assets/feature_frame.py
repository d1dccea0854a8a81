"""The feature_frame asset."""

from __future__ import annotations

import dagster as dg

from feature_assets.assets.columns import FEATURE_FRAME_METADATA
from feature_assets.assets.events import partitioned_asset
from feature_assets.dataset.feature_frame import build_feature_frame, frame_code_version
from feature_assets.dataset.store import FEATURE_FRAME, SPLIT_MANIFEST, SYMBOL_FEATURES
from feature_assets.partitions import Partitions, all_symbols
from feature_assets.settings import Settings


def feature_frame_asset(settings: Settings) -> dg.AssetsDefinition:
    """A date's rows of all symbols, with their splits: what a model is trained on."""
    spec = dg.AssetSpec(
        FEATURE_FRAME,
        description="The rows of all symbols on a date, by symbol and minute, with split, walk-forward fold and quality flag. "
        "Train on rows whose split_id is FIT; VALIDATION_LOCKED is not to be looked at.",
        deps=[dg.AssetDep(SYMBOL_FEATURES, partition_mapping=all_symbols()), SPLIT_MANIFEST],
        partitions_def=Partitions(settings).feature_frame,
        group_name="dataset",
        kinds={"parquet"},
        owners=["team:features"],
        code_version=frame_code_version(),
        metadata=FEATURE_FRAME_METADATA,
        skippable=True,
    )

    return partitioned_asset(spec, lambda store, _source, keys: build_feature_frame(store, settings, keys))
