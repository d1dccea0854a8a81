"""The replay asset."""

from __future__ import annotations

import dagster as dg

from feature_assets.assets.columns import REPLAY_METADATA
from feature_assets.assets.events import partitioned_asset
from feature_assets.dataset.replay import build_replay, replay_code_version
from feature_assets.dataset.store import REPLAY
from feature_assets.market.sources import load_source
from feature_assets.partitions import Partitions
from feature_assets.settings import Settings


def replay_asset(settings: Settings) -> dg.AssetsDefinition:
    """One-minute bars as the source has them, a symbol's day a partition."""
    spec = dg.AssetSpec(
        REPLAY,
        description="One-minute bars of a symbol's day, as the source gives them, sorted and held against the rules of a sound "
        "replay. A day that the source does not have for good is an empty partition; one that is not published yet is "
        "none at all and is asked for again.",
        partitions_def=Partitions(settings).replay,
        group_name="market",
        kinds={"parquet"},
        owners=["team:market-data"],
        code_version=replay_code_version(load_source(settings.source).source),
        metadata=REPLAY_METADATA,
        skippable=True,
    )

    return partitioned_asset(spec, lambda store, source, keys: build_replay(store, source, settings, keys))
