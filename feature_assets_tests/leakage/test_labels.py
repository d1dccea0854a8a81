"""The label proof: a future return under another name is found, and no sound frame is taken for one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from feature_assets.dataset.feature_frame import _frame
from feature_assets.dataset.keys import Key
from feature_assets.features.build import FeatureOptions, iter_day_features
from feature_assets.leakage.labels import future_returns
from feature_assets.market.bars import Bars, to_table
from feature_assets.splits.manifest import SplitManifest
from feature_assets_tests.support.replays import days, random_replay


def frame_of(bars, symbol: str = "BTCUSDT") -> pa.Table:
    """The frame of the replay's last day."""
    kept = Bars.from_table(to_table(bars, "bars"))
    last = bars["event_time"].max().date()
    (day,) = iter_day_features(kept, [last], FeatureOptions())
    return _frame([Key(last, symbol)], [day.table], SplitManifest([]))


@pytest.fixture(scope="module")
def frame() -> pa.Table:
    return frame_of(days("BTCUSDT", 3))


def path(table: pa.Table) -> np.ndarray:
    return np.cumprod(1.0 + table["ret_1m_bps"].to_numpy().astype(float) / 1e4)


def future(table: pa.Table, horizon: int) -> np.ndarray:
    levels = path(table)
    return np.append(levels[horizon:] / levels[:-horizon] - 1.0, np.full(horizon, np.nan))


def with_column(table: pa.Table, name: str, values: np.ndarray) -> pa.Table:
    array = pa.array(values.astype(np.float32), from_pandas=True)
    return table.set_column(table.schema.get_field_index(name), name, array)


def test_a_sound_frame_has_no_label(frame):
    assert future_returns(frame) == []


@pytest.mark.parametrize("horizon", [1, 2, 5, 15, 59, 60, 61, 120, 239, 240])
@pytest.mark.parametrize(
    "disguise",
    [
        lambda r: r * 1e4,
        lambda r: -r,
        np.log1p,
        lambda r: np.tanh(r * 300),
        lambda r: np.argsort(np.argsort(r)).astype(float),
        np.nan_to_num,
    ],
    ids=["as it is", "negative", "logarithm", "squashed", "ranked", "zero at the end"],
)
def test_a_future_return_is_found_under_another_name_with_its_horizon(frame, horizon, disguise):
    (found,) = future_returns(with_column(frame, "spread_rank_24h_pct", disguise(future(frame, horizon))))
    assert found.startswith(
        "spread_rank_24h_pct is a label: over the day its values of BTCUSDT rank as the return over the next "
    )
    assert abs(int(found.split("next ")[1].split(" row")[0]) - horizon) <= max(2, horizon // 20)


def test_a_little_noise_does_not_hide_a_label(frame):
    label = future(frame, 60)
    noisy = label + 0.02 * np.nanstd(label) * np.random.default_rng(1).normal(size=len(label))
    assert len(future_returns(with_column(frame, "oi_delta_15m_bps", noisy))) == 1


def test_a_label_of_one_symbol_of_many_is_found(frame):
    other = frame_of(days("ETHUSDT", 3), "ETHUSDT")
    leaking = with_column(other, "ret_5m_bps", future(other, 30))
    (found,) = future_returns(pa.concat_tables([frame, leaking]))
    assert "values of ETHUSDT" in found


def test_labels_are_found_in_symbols_of_other_numbers_of_rows_and_told_in_their_order(frame):
    names = ("ADAUSDT", "ETHUSDT", "SOLUSDT")
    tables = [frame_of(days(name, 3), name) for name in names]
    tables[1] = tables[1].slice(0, 900)
    leaking = [with_column(table, "ret_5m_bps", future(table, 30)) for table in tables]
    few = frame_of(days("XRPUSDT", 3), "XRPUSDT").slice(0, 50)
    found = future_returns(pa.concat_tables([leaking[0], frame, *leaking[1:], few]))
    assert [text.split("values of ")[1].split(" ")[0] for text in found] == list(names)


def test_a_past_return_is_no_label(frame):
    for horizon in (1, 60, 240):
        past = np.append(np.zeros(horizon), path(frame)[horizon:] / path(frame)[:-horizon])
        assert future_returns(with_column(frame, "oi_delta_15m_bps", past)) == []


@pytest.mark.parametrize("shape", ["constant", "line", "exponential", "wave", "step"])
def test_a_market_whose_future_follows_from_its_past_raises_no_alarm(shape):
    bars = days("BTCUSDT", 3)
    t = np.arange(len(bars))
    level = {
        "constant": np.full(len(t), 100.0),
        "line": 100.0 + 0.01 * t,
        "exponential": 100.0 * 1.00001**t,
        "wave": 100.0 + np.sin(2 * np.pi * t / 120),
        "step": np.where(t < 2 * 1440 + 700, 100.0, 101.0),
    }[shape]
    for name in ("open", "high", "low", "close"):
        bars[name] = level
    assert future_returns(frame_of(bars)) == []


@pytest.mark.parametrize("seed", range(30))
def test_random_replays_raise_no_alarm(seed):
    assert future_returns(frame_of(random_replay(seed))) == []


def test_few_rows_say_nothing(frame):
    assert future_returns(with_column(frame, "ret_5m_bps", future(frame, 5)).slice(0, 100)) == []
    assert future_returns(frame.slice(0, 0)) == []
