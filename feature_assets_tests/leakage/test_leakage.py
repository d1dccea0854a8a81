"""The proofs against leakage: each finds what it is there to find, and nothing in what is sound."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from feature_assets.dataset.feature_frame import FRAME_SCHEMA, _frame
from feature_assets.dataset.keys import Key
from feature_assets.features import build
from feature_assets.features.build import FeatureOptions, feature_table, iter_day_features, window_of_day
from feature_assets.features.catalogue import FEATURE_ORDER, FEATURES, SYMBOL_FEATURES_SCHEMA
from feature_assets.leakage.lookahead import KINDS, Cut, cuts, look_ahead
from feature_assets.leakage.splits import split_leaks
from feature_assets.market.bars import MINUTE_MS, REPLAY_COLUMNS, Bars, day_start_ms
from feature_assets.market.sources.synthetic import SyntheticSource
from feature_assets.splits.manifest import SplitManifest, parse_splits

DAY = dt.date(2026, 2, 3)
OPTIONS = FeatureOptions()

# Look-ahead


@pytest.fixture(scope="module")
def window() -> tuple[Bars, int]:
    """DAY's window of the synthetic market, and the index of DAY's first row in it."""
    source = SyntheticSource()
    days = [Bars.from_table(source.day("BTCUSDT", DAY - dt.timedelta(days=back))) for back in (2, 1, 0)]
    return window_of_day(Bars.concat(days), DAY)


def _leak(monkeypatch, name: str, leaking: Callable[[np.ndarray], np.ndarray]) -> None:
    """Let the feature `name` pass all its rows through `leaking`."""

    def replaced(feature):
        if feature.name != name:
            return feature
        return dataclasses.replace(feature, function=lambda bars: leaking(feature.function(bars)))

    monkeypatch.setattr(build, "FEATURES", tuple(map(replaced, FEATURES)))


def _removed(row: int) -> Cut:
    return Cut(row, "removed", 1)


def _found(window: tuple[Bars, int], row: int, kind: str = "removed") -> str | None:
    bars, first = window
    bars = bars.rows(0, len(bars))
    return look_ahead(bars, first, feature_table(bars, first, OPTIONS), Cut(row, kind, 1), OPTIONS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("row", [0, 1, 479, 720, 1438, 1439])
def test_the_catalogue_does_not_look_ahead(window, row, kind):
    assert _found(window, row, kind) is None


@pytest.mark.parametrize("options", [FeatureOptions(gaps="restart"), FeatureOptions(("quotes", "funding"))])
def test_the_catalogue_does_not_look_ahead_under_other_options(window, options):
    bars, first = window
    assert look_ahead(bars, first, feature_table(bars, first, options), _removed(700), options) is None


def test_a_day_whose_first_rows_are_warm_up_does_not_look_ahead():
    bars = Bars.from_table(SyntheticSource().day("BTCUSDT", DAY))
    (day,) = iter_day_features(bars, [DAY], OPTIONS)
    assert [look_ahead(bars, 0, day.table, _removed(row), OPTIONS) for row in (0, 59, 1438, 1439)] == [None] * 4


@pytest.mark.parametrize("name", ["ret_1m_bps", "spread_rank_24h_pct", "minute_of_day_cos", "level1_ofi_1m"])
def test_a_feature_that_reads_one_row_ahead_is_found_with_its_name_cut_and_both_values(window, monkeypatch, name):
    bars, first = window
    cut = 700
    sound = feature_table(bars.rows(0, len(bars)), first, OPTIONS)[name]
    _leak(monkeypatch, name, lambda values: np.append(values[1:], -7.0))
    found = _found(window, cut)
    assert found is not None
    assert found.startswith(
        f"{name} looks ahead 1 row(s): cut after row {cut}, later rows removed, row {cut} (2026-02-03 11:40:00"
    )
    assert "is -7.0 without the later rows" in found
    assert f"{sound[cut + 1].as_py()} with them" in found
    assert found.endswith("; 1 row(s) differ.")


def test_a_row_rolled_back_by_one_is_found(window, monkeypatch):
    _leak(monkeypatch, "spread_bps", lambda values: np.roll(values, -1))
    assert str(_found(window, 100)).startswith(
        "spread_bps looks ahead 1 row(s): cut after row 100, later rows removed, row 100 (2026-02-03 01:40:00"
    )


def test_a_centred_window_is_found_in_every_row_it_reaches(window, monkeypatch):
    _leak(monkeypatch, "level1_ofi_1m", lambda values: values + np.append(values[30:], np.zeros(30)))
    found = str(_found(window, 100))
    assert found.startswith("level1_ofi_1m looks ahead 30 row(s): cut after row 100, later rows removed, row 71 ")
    assert found.endswith("30 row(s) differ.")


def test_a_scale_over_the_whole_sample_is_found(window, monkeypatch):
    _leak(monkeypatch, "level1_ofi_1m", lambda values: values / np.abs(values).sum())
    assert str(_found(window, 100)).startswith(
        "level1_ofi_1m looks ahead 1439 row(s): cut after row 100, later rows removed, row 0 "
    )


def test_a_change_of_the_last_bit_is_found(window, monkeypatch):
    def nudge(values):
        return np.append(np.nextafter(values[:-1].astype(np.float32), np.float32(np.inf)), np.float32(values[-1]))

    _leak(monkeypatch, "minute_of_day_sin", nudge)
    found = str(_found(window, 5))
    assert found.startswith("minute_of_day_sin looks ahead 1 row(s): cut after row 5, later rows removed, row 5 ")
    assert found.endswith("1 row(s) differ.")


def test_a_value_that_is_null_only_without_the_later_rows_is_found(window, monkeypatch):
    _leak(monkeypatch, "spread_bps", lambda values: np.append(values[:-1], np.nan))
    found = str(_found(window, 5))
    assert found.startswith("spread_bps looks ahead 1 row(s): cut after row 5, later rows removed, row 5 ")
    assert "is None without the later rows" in found


def test_a_flag_that_knows_the_next_row_is_found(monkeypatch):
    bars = Bars.from_table(SyntheticSource().day("BTCUSDT", DAY))
    flags = build._flags
    monkeypatch.setattr(build, "_flags", lambda *arguments: np.roll(flags(*arguments), -1))
    found = str(look_ahead(bars, 0, feature_table(bars, 0, OPTIONS), _removed(1438), OPTIONS))
    assert found.startswith("data_quality_flag looks ahead 1 row(s): cut after row 1438, later rows removed, row 1438 ")


def test_a_row_that_exists_only_by_hindsight_is_found(window):
    bars, first = window
    table = feature_table(bars.rows(0, len(bars)), first, OPTIONS).slice(0, 90)
    found = look_ahead(bars, first, table, _removed(99), OPTIONS)
    assert found == "cut after row 99, later rows removed: 100 rows instead of 90: a row's existence depends on later rows."


def test_rows_after_the_cut_are_not_compared(window):
    bars, first = window
    table = feature_table(bars.rows(0, len(bars)), first, OPTIONS)
    spoilt = np.append(table["spread_bps"].to_numpy()[:101], np.full(1339, 9e9, dtype=np.float32))
    table = table.set_column(table.schema.names.index("spread_bps"), "spread_bps", pa.array(spoilt))
    assert look_ahead(bars, first, table, _removed(100), OPTIONS) is None
    assert "spread_bps does not follow from its window: row 101" in str(look_ahead(bars, first, table, _removed(101), OPTIONS))


@pytest.mark.parametrize(("rows", "shown"), [(300, True), (300, False), (1500, True)])
def test_a_feature_that_looks_back_further_than_it_declares_is_named_and_not_called_a_look_ahead(
    window, monkeypatch, rows, shown
):
    bars, first = window
    _leak(monkeypatch, "spread_bps", lambda values: np.append(np.full(min(rows, len(values)), 7.0), values[:-rows]))
    wide = Bars.concat([Bars.from_table(SyntheticSource().day("BTCUSDT", DAY - dt.timedelta(days=4))), bars])
    monkeypatch.setattr(build, "_NEAR_ROWS", 5000)
    table = feature_table(wide, first + 1440, OPTIONS)
    monkeypatch.undo()
    _leak(monkeypatch, "spread_bps", lambda values: np.append(np.full(min(rows, len(values)), 7.0), values[:-rows]))
    found = str(look_ahead(bars, first, table, _removed(700), OPTIONS, show_values=shown))
    assert found.startswith("spread_bps does not follow from its window: row 0 (2026-02-03 00:00:00")
    assert (" is 7.0 by its bars and " in found) == shown
    assert found.endswith("Does it look back further than it declares? `feature-assets prove` tells.")


@pytest.mark.parametrize("kind", ["random", "huge", "nan"])
@pytest.mark.parametrize("ahead", [1, 2, 60, 240])
def test_a_look_ahead_shows_in_any_poison_and_says_how_far_it_reads(window, monkeypatch, kind, ahead):
    _leak(monkeypatch, "ret_1m_bps", lambda values: np.append(values[ahead:], values[-ahead:]))
    found = str(_found(window, 700, kind))
    assert found.startswith(f"ret_1m_bps looks ahead {ahead} row(s): cut after row 700, later rows {kind}, row ")
    assert found.endswith(f"; {ahead} row(s) differ.")


def test_a_look_ahead_into_a_flat_stretch_is_seen_in_poison_though_not_in_what_is_left_out(window, monkeypatch):
    """Where the next value equals the last one, repeating the last one for want of a next gives nothing away."""
    bars, first = window
    flat = {name: bars[name].copy() for name in REPLAY_COLUMNS}
    flat["spread_bps"][first + 600 : first + 800] = 1.0
    flat_window = Bars(flat), first
    _leak(monkeypatch, "spread_bps", lambda values: np.append(values[1:], values[-1]))
    assert _found(flat_window, 700) is None
    assert "spread_bps looks ahead 1 row(s)" in str(_found(flat_window, 700, "huge"))


def test_no_value_is_told_where_none_may_be_shown(window, monkeypatch):
    bars, first = window
    _leak(monkeypatch, "spread_bps", lambda values: np.append(values[1:], -7.0))
    table = feature_table(bars.rows(0, len(bars)), first, OPTIONS)
    hidden = str(look_ahead(bars, first, table, _removed(700), OPTIONS, show_values=False))
    assert hidden.startswith(
        "spread_bps looks ahead 1 row(s): cut after row 700, later rows removed, row 700 (2026-02-03 11:40:00"
    )
    assert hidden.endswith(" is another without the later rows; 1 row(s) differ.")


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT", "1000PEPEUSDT"])
def test_over_a_month_every_hour_of_the_day_is_cut_and_every_kind_is_tried(symbol):
    for begin in range(0, 100, 7):
        month = [cut for day in range(30) for cut in cuts(symbol, DAY + dt.timedelta(days=begin + day), 1440)]
        rows = sorted(cut.row for cut in month)
        assert max(np.diff([*rows, rows[0] + 1440])) <= 60
        assert {cut.kind for cut in month} == set(KINDS)


def test_cuts_follow_from_the_key_alone_and_1440_of_them_are_every_minute():
    assert list(cuts("BTCUSDT", DAY, 1440, 3)) == list(cuts("BTCUSDT", DAY, 1440, 3))
    assert list(cuts("BTCUSDT", DAY, 1440, 3)) != list(cuts("ETHUSDT", DAY, 1440, 3))
    assert sorted(cut.row for cut in cuts("BTCUSDT", DAY, 1440, 1440)) == list(range(1440))
    assert {cut.row for cut in cuts("BTCUSDT", DAY, 1, 50)} == {0}
    assert {cut.row for cut in cuts("BTCUSDT", DAY, 7, 50)} == set(range(7))


# Splits

MANIFEST = SplitManifest(
    parse_splits("FIT:2026-02-03T00:00..2026-02-03T10:00,TUNE:2026-02-03T10:00..2026-02-03T16:00"),
    embargo_minutes=60,
    walk_forward_folds=2,
)
HOURS = 20


def _features() -> pa.Table:
    """A row an hour: FIT fold_01 0..3, no fold 4 (03:30..04:30), fold_02 5..8, EMBARGO 9, TUNE 10..15, UNASSIGNED 16..19."""
    times = day_start_ms(DAY) + np.arange(HOURS) * 60 * MINUTE_MS
    columns = {
        "event_time": pa.array(times).cast(SYMBOL_FEATURES_SCHEMA.field("event_time").type),
        "open_time_ms": pa.array(times),
        "data_quality_flag": pa.array(["OK"] * HOURS),
        **{name: pa.array(np.zeros(HOURS, dtype=np.float32)) for name in FEATURE_ORDER},
    }
    return pa.table(columns, schema=SYMBOL_FEATURES_SCHEMA)


@pytest.fixture
def frame() -> pa.Table:
    return _frame([Key(DAY, "AAA"), Key(DAY, "BBB")], [_features(), _features()], MANIFEST)


def _with(frame: pa.Table, name: str, row: int, value: object) -> pa.Table:
    values = frame[name].to_pylist()
    values[row] = value
    column = frame.schema.get_field_index(name)
    return frame.set_column(column, frame.schema.field(name), pa.array(values, type=frame.schema.field(name).type))


def test_a_sound_frame_has_no_split_leak(frame):
    assert frame["split_id"].to_pylist()[:HOURS] == ["FIT"] * 9 + ["EMBARGO"] + ["TUNE"] * 6 + ["UNASSIGNED"] * 4
    assert split_leaks(frame, FRAME_SCHEMA, MANIFEST) == []


def test_a_frame_of_no_rows_has_no_split_leak():
    assert split_leaks(FRAME_SCHEMA.empty_table(), FRAME_SCHEMA, MANIFEST) == []


def test_without_splits_every_row_must_be_unassigned(frame):
    nothing = SplitManifest([])
    sound = _frame([Key(DAY, "AAA")], [_features()], nothing)
    assert split_leaks(sound, FRAME_SCHEMA, nothing) == []
    assert split_leaks(frame, FRAME_SCHEMA, nothing)[0].startswith("split_id: 32 row(s) differ, e.g. AAA 2026-02-03 00:00:00")


@pytest.mark.parametrize(
    ("row", "wrong", "expected"),
    [
        (8, "TUNE", "FIT"),
        (9, "FIT", "EMBARGO"),
        (9, "TUNE", "EMBARGO"),
        (10, "FIT", "TUNE"),
        (16, "TUNE", "UNASSIGNED"),
        (0, None, "FIT"),
    ],
)
def test_a_row_in_a_wrong_split_is_named_with_both_splits(frame, row, wrong, expected):
    (found,) = [leak for leak in split_leaks(_with(frame, "split_id", row, wrong), FRAME_SCHEMA, MANIFEST) if "split_id" in leak]
    assert found.startswith(f"split_id: 1 row(s) differ, e.g. AAA 2026-02-03 {row:02d}:00:00")
    assert found.endswith(f"has {wrong}, expected {expected}.")


def test_a_frame_of_another_manifest_is_found(frame):
    other = SplitManifest(MANIFEST.splits, embargo_minutes=120)
    assert split_leaks(frame, FRAME_SCHEMA, other)[0].startswith("split_id: 2 row(s) differ, e.g. AAA 2026-02-03 08:00:00")


@pytest.mark.parametrize("row", [9, 10, 19])
def test_a_fold_outside_fit_is_found(frame, row):
    broken = _with(frame, "walk_forward_fold", row, "fold_01")
    (found,) = split_leaks(broken, FRAME_SCHEMA, MANIFEST)
    assert found.startswith("walk_forward_fold: 1 row(s) ")


@pytest.mark.parametrize(
    ("row", "wrong"), [(0, "fold_02"), (4, "fold_01"), (4, "fold_02"), (5, "fold_01"), (5, "NO_FOLD"), (0, "fold_9")]
)
def test_a_wrong_fold_inside_fit_is_found(frame, row, wrong):
    assert frame["walk_forward_fold"][row].as_py() != wrong
    found = split_leaks(_with(frame, "walk_forward_fold", row, wrong), FRAME_SCHEMA, MANIFEST)
    assert [leak.split(":")[0] for leak in found] == ["walk_forward_fold"]


def test_a_duplicate_row_is_found(frame):
    broken = pa.concat_tables([frame, frame.slice(3, 1)])
    assert split_leaks(broken, FRAME_SCHEMA, MANIFEST) == ["sample_id: a row is there twice."]


def test_a_wrong_sample_id_is_named_with_the_right_one(frame):
    time = day_start_ms(DAY)
    found = split_leaks(_with(frame, "sample_id", HOURS, f"AAA:{time + 1}"), FRAME_SCHEMA, MANIFEST)
    assert len(found) == 1
    assert found[0].startswith("sample_id: 1 row(s) differ, e.g. BBB 2026-02-03 00:00:00")
    assert found[0].endswith(f"has AAA:{time + 1}, expected BBB:{time}.")


def test_a_symbol_that_is_not_the_sample_ids_is_found(frame):
    found = split_leaks(_with(frame, "symbol", 0, "BBB"), FRAME_SCHEMA, MANIFEST)
    assert found[0].startswith("sample_id: 1 row(s) differ")


def test_an_open_time_off_its_event_time_is_found(frame):
    time = day_start_ms(DAY)
    found = split_leaks(_with(frame, "open_time_ms", 0, time + MINUTE_MS), FRAME_SCHEMA, MANIFEST)
    assert [leak.split(":")[0] for leak in found] == ["sample_id", "open_time_ms"]
    assert found[1].endswith(f"has {time + MINUTE_MS}, expected {time}.")


@pytest.mark.parametrize("name", ["future_return", "date"])
def test_a_column_that_is_not_the_frames_is_named(frame, name):
    broken = frame.append_column(name, pa.array(np.zeros(frame.num_rows)))
    assert split_leaks(broken, FRAME_SCHEMA, MANIFEST) == [
        f"columns are not the frame's own: extra ['{name}'], missing [], or another order."
    ]


def test_a_missing_column_is_named(frame):
    assert split_leaks(frame.drop_columns(["split_id"]), FRAME_SCHEMA, MANIFEST) == [
        "columns are not the frame's own: extra [], missing ['split_id'], or another order."
    ]


def test_columns_in_another_order_are_found(frame):
    turned = frame.select(frame.schema.names[::-1])
    assert split_leaks(turned, FRAME_SCHEMA, MANIFEST) == [
        "columns are not the frame's own: extra [], missing [], or another order."
    ]
