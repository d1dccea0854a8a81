"""Declarations: what follows from them, that they are true, and that a feature is added in one file."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import feature_assets
from feature_assets.errors import FeatureDeclarationError
from feature_assets.features.catalogue import FEATURE_ORDER, FEATURES, LOOKBACK_ROWS
from feature_assets.features.declaration import feature
from feature_assets.market import bars as market
from feature_assets.market.bars import INPUT_GROUPS, Bars
from feature_assets_tests.support.replays import days


@pytest.fixture(scope="module")
def bars() -> Bars:
    return Bars.from_table(market.to_table(days("BTCUSDT", 3), "days"))


def test_there_are_37_features_and_the_longest_look_back_is_1453_rows():
    assert len(FEATURES) == len(set(FEATURE_ORDER)) == 37
    assert LOOKBACK_ROWS == 1453


@pytest.mark.parametrize("declared", FEATURES, ids=lambda declared: declared.name)
def test_a_feature_reads_the_columns_it_declares_and_no_other(declared, bars):
    alone = declared.function(bars.only(declared.columns))
    np.testing.assert_array_equal(alone, declared.function(bars))


@pytest.mark.parametrize("declared", FEATURES, ids=lambda declared: declared.name)
def test_a_feature_reads_no_further_back_than_it_declares(declared, bars):
    last = len(bars)
    enough = bars.rows(last - declared.lookback_rows - 1, last)
    # With less than 1,440 rows of warm-up behind it, a z-score over all rows there are is another value.
    assert declared.function(enough)[-1] == declared.function(bars)[-1]


@pytest.mark.parametrize("declared", FEATURES, ids=lambda declared: declared.name)
def test_a_declaration_names_its_group_its_meaning_and_sound_bounds(declared, bars):
    of_group = {*INPUT_GROUPS[declared.group], "event_time"}
    assert set(declared.columns) <= of_group
    assert declared.description.endswith((".", ";", ")"))
    low, high = declared.bounds
    values = declared.function(bars)
    assert np.nanmin(values) >= low
    assert np.nanmax(values) <= high


def test_declarations_that_contradict_the_catalogue_are_refused():
    with pytest.raises(FeatureDeclarationError, match="group 'weather' is none of bars"):
        feature(unit="", lookback=0, columns=(), group="weather")(lambda bars: bars)
    with pytest.raises(FeatureDeclarationError, match="rain is no replay column"):
        feature(unit="", lookback=0, columns=("rain",))(_documented)
    with pytest.raises(FeatureDeclarationError, match="has no docstring"):
        feature(unit="", lookback=0, columns=("close",))(lambda bars: bars)
    for wrong in ("2026-02-03", dt.datetime(2026, 2, 3, 12, tzinfo=dt.UTC)):
        with pytest.raises(FeatureDeclarationError, match=r"feature _documented: fitted_on .* is no date"):
            feature(unit="", lookback=0, columns=("close",), fitted_on=wrong)(_documented)


def _documented(bars):
    """Says something."""
    return bars


NEW_FEATURE = '''

@feature(unit="bps", lookback=4320, columns=("close",), bounds=(-BPS, np.inf))
def ret_3d_bps(bars: Bars) -> np.ndarray:
    """Simple return of the close over three days of rows."""
    return relative_change(bars["close"], 4320) * BPS
'''
PROBE = """
import json
from feature_assets.definitions import defs
from feature_assets.features import catalogue
from feature_assets.dataset.feature_frame import FRAME_SCHEMA
from feature_assets.partitions import look_back
import dagster as dg
metadata = defs.get_repository_def().asset_graph.get(dg.AssetKey("feature_frame")).metadata
below = defs.get_repository_def().asset_graph.get(dg.AssetKey("symbol_features")).metadata
print(json.dumps({
    "order": catalogue.FEATURE_ORDER, "rows": catalogue.LOOKBACK_ROWS, "days": catalogue.LOOKBACK_DAYS,
    "schema": json.loads(catalogue.feature_schema_json()), "frame": FRAME_SCHEMA.names,
    "columns": [column.name for column in metadata["dagster/column_schema"].columns],
    "lineage": [dep.column_name for dep in below["dagster/column_lineage"].deps_by_column["ret_3d_bps"]],
    "offset": look_back().downstream_mappings_by_upstream_dimension["date"].partition_mapping.start_offset,
}))
"""


def test_adding_a_feature_touches_one_file_and_everything_follows(tmp_path):
    copy = tmp_path / "feature_assets"
    shutil.copytree(Path(feature_assets.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    family = copy / "features/families/returns.py"
    family.write_text(family.read_text() + NEW_FEATURE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FEATURE_ASSETS_")}
    environment |= {"PYTHONPATH": str(tmp_path), "PYTHONWARNINGS": "ignore", "PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", PROBE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["order"][:6] == [*FEATURE_ORDER[:5], "ret_3d_bps"]
    assert (found["rows"], found["days"], found["offset"]) == (4320, 8, -8)
    assert {"dtype": "float32", "lookback_rows": 4320, "name": "ret_3d_bps", "unit": "bps"} in found["schema"]
    assert "ret_3d_bps" in found["frame"]
    assert found["columns"] == found["frame"]
    assert found["lineage"] == ["close"]
