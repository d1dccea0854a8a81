"""The rule for constants that were fitted on data: all of that data lies in FIT, or before it.

A number that was fitted on rows of TUNE or VALIDATION_LOCKED tells about them in every row that it touches, and no
recomputation can find that; so the declaration says until when the data ran (feature(fitted_on=...)). FIT ends here
where its embargo begins, not where the embargo ends: the embargo is there because its rows' outcomes reach into the
next split, so a number that was fitted on them is fitted on that split. The rule knows FIT as a whole: a number that
was fitted on all of it is known to each of its walk-forward folds.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from feature_assets.errors import SettingError
from feature_assets.features.declaration import Feature
from feature_assets.splits.manifest import FIT, SplitManifest


def end_of_fit(splits: SplitManifest) -> dt.datetime | None:
    """The end (exclusive) of the rows that are trained on: FIT's without its embargo; None where there is no FIT."""
    ends = [segment.end_ms for segment in splits.segments if segment.split_id == FIT]
    return dt.datetime.fromtimestamp(max(ends) / 1000, dt.UTC) if ends else None


def fitted_beyond_fit(feature: Feature, splits: SplitManifest) -> str | None:
    """What is wrong with a feature's fitted_on, in words; None where it is in order or there is no FIT."""
    end = end_of_fit(splits)
    if end is None or feature.fitted_on is None:
        return None
    if dt.datetime.combine(feature.fitted_on, dt.time(), dt.UTC) <= end:
        return None
    return (
        f"it was fitted on data up to fitted_on={feature.fitted_on}, but FIT of SPLITS ends at {end:%Y-%m-%dT%H:%M} UTC, its "
        "embargo left out; fit it again on earlier data, or let FIT end later"
    )


def refuse_fitted_beyond_fit(features: Sequence[Feature], splits: SplitManifest) -> None:
    """Raise SettingError, one sentence, for the first of `features` that was fitted on data beyond FIT."""
    for feature in features:
        if wrong := fitted_beyond_fit(feature, splits):
            raise SettingError(f"feature {feature.name}: {wrong}.")
