"""The checks that the assets carry out: their declarations for Dagster.

A check runs inside its asset, before anything is published, so that it can keep a partition back; its rule is domain
code (feature_assets.market, .leakage, .quality, .dataset). How its result becomes an event is assets/events.py.
"""

from __future__ import annotations

import dagster as dg

from feature_assets.dataset.feature_frame import COMPLETE, NO_SPLIT_LEAK
from feature_assets.dataset.feature_manifest import MATCHES_STORE
from feature_assets.dataset.quality_report import DRIFT
from feature_assets.dataset.replay import SOUND_REPLAY
from feature_assets.dataset.store import FEATURE_FRAME, FEATURE_MANIFEST, QUALITY_REPORT, REPLAY, SYMBOL_FEATURES
from feature_assets.dataset.symbol_features import FINITE_VALUES, NO_LOOKAHEAD

_CHECKS = {
    REPLAY: {
        SOUND_REPLAY: "One row a minute with sound prices and volumes. Fails on a broken rule and names the rows; warns on an "
        "absent or short day. A day that fails is not published: mend the source and materialize it again.",
    },
    SYMBOL_FEATURES: {
        FINITE_VALUES: "No value is infinite, OK rows have every value, bounded features stay in their bounds.",
        NO_LOOKAHEAD: "The rows up to a cut are recomputed without the rows after it and must be bit-equal. A failure names "
        "the feature that reads the future.",
    },
    FEATURE_FRAME: {
        NO_SPLIT_LEAK: "Every row lies in the split and fold that its time says, once, with the bits that symbol_features has of "
        "it; none is left out, no other column is in the frame, no column is a future return, and no published row of "
        "VALIDATION_LOCKED changes, unless `feature-assets relock` has accepted it.",
        COMPLETE: "Warns about symbols without rows, dropped incomplete days, and windows that run across missing minutes.",
    },
    FEATURE_MANIFEST: {
        MATCHES_STORE: "Every file that the manifest names has the hash it names, stands on inputs that are still the same, and "
        "comes from one split manifest and one code version; locked rows are those of the validation lock. No other file lies "
        "beside them, and every symbol is a member on its dates.",
    },
    QUALITY_REPORT: {DRIFT: "Differences of medians between VALIDATION_LOCKED and FIT, to look at; it never fails."},
}
_NEVER_BLOCK = {COMPLETE, DRIFT}


def checks_of(asset: str) -> list[dg.AssetCheckSpec]:
    """The declarations of an asset's checks."""
    return [
        dg.AssetCheckSpec(name, asset=asset, description=description, blocking=name not in _NEVER_BLOCK)
        for name, description in _CHECKS[asset].items()
    ]
