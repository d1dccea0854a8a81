"""The code location: assembles the assets and resources from the settings. Nothing is decided here."""

from __future__ import annotations

import warnings

import dagster as dg

from feature_assets.assets.feature_frame import feature_frame_asset
from feature_assets.assets.replay import replay_asset
from feature_assets.assets.symbol_features import symbol_features_asset
from feature_assets.assets.whole import feature_manifest_asset, quality_report_asset, split_manifest_asset
from feature_assets.automation import keep_up_sensor, layer_jobs
from feature_assets.features.catalogue import FEATURES
from feature_assets.leakage.fitted import refuse_fitted_beyond_fit
from feature_assets.resources import SourceResource, StoreResource
from feature_assets.settings import Settings, load_settings


def make_definitions(settings: Settings) -> dg.Definitions:
    """The graph of these settings; raises SettingError where a feature was fitted on data that lies beyond FIT."""
    refuse_fitted_beyond_fit(FEATURES, settings.splits)
    # Partitioned checks, owners and multi-dimensional mappings are preview or beta in this release, which is pinned;
    # the notices are for this package's authors, who keep tests of what they lean on.
    with warnings.catch_warnings():
        for category in (dg.PreviewWarning, dg.BetaWarning):
            warnings.simplefilter("ignore", category)
        return _definitions(settings)


def _definitions(settings: Settings) -> dg.Definitions:
    jobs = layer_jobs()
    return dg.Definitions(
        assets=[
            replay_asset(settings),
            split_manifest_asset(settings),
            symbol_features_asset(settings),
            feature_frame_asset(settings),
            feature_manifest_asset(settings),
            quality_report_asset(settings),
        ],
        jobs=jobs,
        # A run has one step or two: a process of its own for each would double a run's time.
        executor=dg.in_process_executor,
        sensors=[keep_up_sensor(settings, jobs)],
        resources={
            "source": SourceResource(source=settings.source),
            "store": StoreResource(root=settings.root, symbols=list(settings.symbol_names)),
        },
    )


defs = make_definitions(load_settings())
