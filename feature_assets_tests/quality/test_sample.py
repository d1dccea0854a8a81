"""The sample of rows: it follows from the rows alone, whatever the order in which they come."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest

from feature_assets.dataset import frame_sample
from feature_assets.dataset.frame_sample import FrameSample, add_stats
from feature_assets.features.catalogue import FEATURE_ORDER, feature_values
from feature_assets.quality import sample
from feature_assets.quality.sample import FeatureCounts, RowSample

FIRST = 29_000_000


def frame(day: int, rows: int = 1440, symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT"), split: str = "FIT") -> pa.Table:
    rng = np.random.default_rng(day)
    minutes = np.tile(FIRST + 1440 * day + np.arange(rows), len(symbols))
    values = {name: pa.array(rng.normal(size=len(minutes)).astype(np.float32), from_pandas=True) for name in FEATURE_ORDER}
    names = np.repeat(symbols, rows).tolist()
    return pa.table({"symbol": names, "open_time_ms": minutes * 60_000, "split_id": [split] * len(minutes), **values})


def drawn(*frames: pa.Table) -> RowSample:
    rows = RowSample()
    for each in frames:
        rows.add(each, feature_values(each))
    return rows


@pytest.fixture
def frames() -> list[pa.Table]:
    return [frame(day) for day in range(6)]


def test_few_rows_are_all_there(frames):
    table = drawn(*frames).table()
    assert table.num_rows == 6 * 2880
    expected = np.sort(np.concatenate([each["ret_1m_bps"].to_numpy() for each in frames]))
    assert np.array_equal(np.sort(table["ret_1m_bps"].to_numpy()), expected)


def test_of_many_rows_those_with_the_smallest_hashes_are_drawn_in_whatever_order_they_come(frames, monkeypatch):
    whole = drawn(*frames).table()
    monkeypatch.setattr(sample, "MOST_ROWS", 1000)
    for seed in range(5):
        shuffled = frames.copy()
        random.Random(seed).shuffle(shuffled)
        assert drawn(*shuffled).table().equals(whole.slice(0, 1000))


def test_rows_that_were_drawn_before_count_as_if_all_had_come_at_once(frames, monkeypatch):
    monkeypatch.setattr(sample, "MOST_ROWS", 1000)
    again = RowSample()
    again.add_drawn(drawn(*frames[:4]).table())
    again.add(frames[4], feature_values(frames[4]))
    again.add(frames[5], feature_values(frames[5]))
    assert again.table().equals(drawn(*frames).table())


def test_every_symbol_and_day_has_its_share_of_the_sample(monkeypatch):
    monkeypatch.setattr(sample, "MOST_ROWS", 4000)
    counted = []
    for symbols in (("BTCUSDT",), ("ETHUSDT",)):
        both = drawn(*(frame(day) for day in range(6))).table()["row_hash"].to_pylist()
        alone = drawn(*(frame(day, symbols=symbols) for day in range(6))).table()["row_hash"].to_pylist()
        counted.append(len(set(both) & set(alone)))
    assert sum(counted) == 4000
    assert 1850 < counted[0] < 2150
    shares = [len(set(both) & set(drawn(frame(day)).table()["row_hash"].to_pylist())) for day in range(6)]
    assert all(550 < share < 790 for share in shares)


def test_the_hashes_are_the_same_everywhere():
    row = frame(0, rows=1, symbols=("BTCUSDT",))
    assert drawn(row).table()["row_hash"].to_pylist() == [2720421289710142734]


def test_counts_and_extremes_are_of_all_rows_and_leave_nan_out():
    table = frame(0, rows=3, symbols=("BTCUSDT",))
    place = table.schema.get_field_index("ret_1m_bps")
    rows = [pa.array(values, type=pa.float32()) for values in ([1.0, None, -2.0], [None] * 3, [np.inf, 0.5, 7.0])]
    counts = FeatureCounts()
    for values in rows:
        counts.add(feature_values(table.set_column(place, "ret_1m_bps", values)))
    assert counts.rows == 9
    assert counts.of(FEATURE_ORDER.index("ret_1m_bps")) == {
        "nan_count": 4,
        "inf_count": 1,
        "minimum": -2.0,
        "maximum": np.inf,
    }
    assert FeatureCounts.from_stats(counts.to_stats()).to_stats() == counts.to_stats()


def test_a_feature_without_a_value_has_no_extremes():
    assert FeatureCounts().of(0) == {"nan_count": 0, "inf_count": 0, "minimum": None, "maximum": None}


def test_a_frame_sample_comes_back_from_its_file_and_goes_on(monkeypatch):
    monkeypatch.setattr(sample, "MOST_ROWS", 1000)
    monkeypatch.setattr(frame_sample, "_MOST_LOCKED_ROWS", 500)
    split = [frame(day, split="VALIDATION_LOCKED" if day > 3 else "FIT") for day in range(6)]
    hidden_from = (FIRST + 1440 * 4) * 60_000
    whole, part = FrameSample(), FrameSample()
    for day, each in enumerate(split):
        whole.add(each, hidden_from)
        part.add(each, hidden_from)
        for each_sample in (whole, part):
            add_stats(each_sample.sums, {"rows/BTCUSDT/FIT/OK": day, "first/FIT": 10 - day})
        part = FrameSample.from_parquet(part.to_parquet())
    assert part.to_parquet() == whole.to_parquet()
    assert part.sums == {"rows/BTCUSDT/FIT/OK": 15, "first/FIT": 5}
    assert part.counts.rows == 4 * 2880, "locked rows are in no count"
    assert part.rows()["split_id"].to_pylist() == ["FIT"] * 1000 + ["VALIDATION_LOCKED"] * 500


def test_rows_after_the_locked_ones_are_in_neither_sample():
    later = FrameSample()
    later.add(frame(6, split="UNASSIGNED"), FIRST * 60_000)
    assert later.rows().num_rows == 0
    assert later.counts.rows == 0


def test_stats_of_dates_are_summed_up_and_hidden_dates_leave_out_what_is_told_by_date():
    stats = {"rows/BTCUSDT/FIT/OK": 3, "first/FIT": 7, "last/FIT": 9, "dropped/BTCUSDT": 5, "proven/BTCUSDT": 2, "seen/rows": 3}
    sums: dict[str, int] = {}
    add_stats(sums, stats)
    assert sums == {**stats, "proven_days/BTCUSDT": 1}
    add_stats(sums, {**stats, "first/FIT": 4, "last/FIT": 11, "proven/BTCUSDT": 0})
    assert sums == {
        "rows/BTCUSDT/FIT/OK": 6,
        "first/FIT": 4,
        "last/FIT": 11,
        "dropped/BTCUSDT": 10,
        "seen/rows": 6,
        "proven/BTCUSDT": 2,
        "proven_days/BTCUSDT": 1,
    }
    before = dict(sums)
    add_stats(sums, stats, hidden=True)
    assert sums == before | {"rows/BTCUSDT/FIT/OK": 9, "seen/rows": 9}
