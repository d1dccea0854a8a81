"""A constant that was fitted on data beyond FIT is refused wherever features and splits meet."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest

from feature_assets import definitions
from feature_assets.definitions import make_definitions
from feature_assets.errors import SettingError
from feature_assets.features.catalogue import FEATURES
from feature_assets.leakage.fitted import end_of_fit, fitted_beyond_fit, refuse_fitted_beyond_fit
from feature_assets.settings import load_settings
from feature_assets.splits.manifest import SplitManifest, parse_splits

FIT, TUNE = "FIT:2026-02-01..2026-02-04", "TUNE:2026-02-04..2026-02-05"


def _fitted(*date: int):
    return dataclasses.replace(FEATURES[3], fitted_on=dt.date(*date))


def _splits(*splits: str, embargo: int = 0, folds: int = 1) -> SplitManifest:
    return SplitManifest(parse_splits(",".join(splits)), embargo, folds)


@pytest.mark.parametrize(
    ("splits", "last", "first_refused"),
    [
        (_splits(FIT, TUNE), (2026, 2, 4), (2026, 2, 5)),
        (_splits(FIT), (2026, 2, 4), (2026, 2, 5)),
        # The embargo's rows reach into the next split: a day that it cuts into is no longer whole.
        (_splits(FIT, TUNE, embargo=1), (2026, 2, 3), (2026, 2, 4)),
        (_splits(FIT, TUNE, embargo=1440), (2026, 2, 3), (2026, 2, 4)),
        (_splits(FIT, TUNE, embargo=1441), (2026, 2, 2), (2026, 2, 3)),
        # Without a split after it, FIT has no embargo; its folds have theirs, and stay FIT.
        (_splits(FIT, embargo=60, folds=3), (2026, 2, 4), (2026, 2, 5)),
        (_splits("FIT:2026-02-01..2026-02-03T12:00", TUNE), (2026, 2, 3), (2026, 2, 4)),
    ],
)
def test_data_up_to_the_end_of_fit_without_its_embargo_may_be_fitted_on_and_no_later(splits, last, first_refused):
    assert fitted_beyond_fit(_fitted(*last), splits) is None
    assert fitted_beyond_fit(_fitted(*first_refused), splits) is not None


@pytest.mark.parametrize("splits", [_splits(), _splits(TUNE)])
def test_without_a_fit_nothing_is_refused(splits):
    assert end_of_fit(splits) is None
    assert fitted_beyond_fit(_fitted(2999, 1, 1), splits) is None
    refuse_fitted_beyond_fit([_fitted(2999, 1, 1)], splits)


def test_what_was_not_fitted_is_never_refused():
    splits = _splits(FIT, TUNE, embargo=1440)
    assert [fitted_beyond_fit(feature, splits) for feature in FEATURES] == [None] * len(FEATURES)
    refuse_fitted_beyond_fit(FEATURES, splits)


def test_the_code_location_does_not_load_and_says_which_feature_was_fitted_on_what_and_where_fit_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(definitions, "FEATURES", (*FEATURES[:3], _fitted(2026, 2, 4), *FEATURES[4:]))
    settings = load_settings({"FEATURE_ASSETS_SPLITS": f"{FIT},{TUNE}", "FEATURE_ASSETS_EMBARGO_MINUTES": "60"}, tmp_path)
    with pytest.raises(SettingError) as refused:
        make_definitions(settings)
    assert str(refused.value) == (
        "feature ret_60m_bps: it was fitted on data up to fitted_on=2026-02-04, but FIT of SPLITS ends at 2026-02-03T23:00 UTC, "
        "its embargo left out; fit it again on earlier data, or let FIT end later."
    )
    make_definitions(load_settings({"FEATURE_ASSETS_SPLITS": f"{FIT},{TUNE}"}, tmp_path))
