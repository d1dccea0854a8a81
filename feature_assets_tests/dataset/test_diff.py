"""What differs between two stores, and between a store and a reference's folder: found, named, and without locked values."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_assets.dataset import diff as diff_module
from feature_assets.dataset import reference as reference_module
from feature_assets.dataset.diff import Diff, LayerDiff, compare_roots
from feature_assets.dataset.diff_text import as_json, as_text
from feature_assets.dataset.feature_frame import FRAME_SCHEMA
from feature_assets.dataset.keys import Key
from feature_assets.dataset.store import FEATURE_FRAME, REPLAY, SPLIT_MANIFEST_FILE, SYMBOL_FEATURES, Store
from feature_assets.dataset.table_diff import LOCKED_VALUE, TableDiff, compare_tables
from feature_assets.dataset.tables import content_hash
from feature_assets.errors import SettingError
from feature_assets.features.catalogue import FEATURE_ORDER
from feature_assets_tests.support.crash import build_all

REFERENCE = Path(os.environ.get("FEATURE_ASSETS_REFERENCE", "/nowhere"))
FIT, TUNE, LOCKED = "2026-02-01", "2026-02-02", "2026-02-03"
FIT_KEY = "2026-02-01|BTCUSDT"
SECRET = 777.25

Edit = Callable[[pa.Table], pa.Table]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A store of two symbols on three days, the last of them locked."""
    folder = tmp_path_factory.mktemp("built")
    settings = {
        "ROOT": str(folder / "store"),
        "SYMBOLS": "BTCUSDT,ETHUSDT",
        "START_DATE": FIT,
        "END_DATE": "2026-02-04",
        "SPLITS": f"FIT:{FIT}..{TUNE},TUNE:{TUNE}..{LOCKED},VALIDATION_LOCKED:{LOCKED}..2026-02-04",
    }
    build_all({f"FEATURE_ASSETS_{name}": value for name, value in settings.items()}, str(folder))
    return folder / "store"


@pytest.fixture
def roots(built, tmp_path) -> tuple[str, str]:
    """Two copies of the store, to be changed."""
    for name in ("a", "b"):
        shutil.copytree(built, tmp_path / name)
    return str(tmp_path / "a"), str(tmp_path / "b")


def rewrite(root: str, asset: str, key: str, edit: Edit = lambda table: table, **footer: object) -> None:
    """Publish a partition again with what `edit` makes of it, and with other fields in its footer."""
    store, parsed = Store(root), Key.parse(key)
    table, old = store.read(asset, parsed)
    table = edit(table)
    store.publish(asset, parsed, table, dataclasses.replace(old, content_hash=content_hash(table), **footer))


def with_cell(column: str, row: int, change: Callable[[object], object]) -> Edit:
    """An edit that changes one cell."""

    def edit(table: pa.Table) -> pa.Table:
        number = table.column_names.index(column)
        values = table[column].to_pylist()
        values[row] = change(values[row])
        return table.set_column(number, table.schema.field(number), pa.array(values, table.schema.field(number).type))

    return edit


def next_float32(value: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(np.inf)))


def layer(diff: Diff, asset: str) -> LayerDiff:
    return next(found for found in diff.layers if found.asset == asset)


def only_difference(diff: Diff, asset: str) -> tuple[str, LayerDiff]:
    """The key of the one partition that differs in the whole diff, and its layer."""
    assert [found.asset for found in diff.layers if found.differs] == [asset]
    (partition,) = layer(diff, asset).changed
    return str(partition.key), layer(diff, asset)


# Two stores


def test_equal_stores_are_the_same_by_their_footers_alone(roots, monkeypatch):
    monkeypatch.setattr(Store, "read", None)
    diff = compare_roots(roots)
    assert diff.same
    assert {found.asset: found.same for found in diff.layers} == {REPLAY: 20, SYMBOL_FEATURES: 6, FEATURE_FRAME: 3}
    assert "the same: 29 partitions" in as_text(diff)
    assert as_json(diff)["same"] is True


def test_a_file_url_is_compared_as_its_folder_is(roots):
    assert compare_roots((roots[0], f"file://{roots[1]}")).same


@pytest.mark.parametrize(
    ("asset", "column", "change"),
    [(REPLAY, "volume", lambda value: float(np.nextafter(value, np.inf))), (SYMBOL_FEATURES, "ret_1m_bps", next_float32)],
)
def test_one_changed_bit_is_found_with_its_minute_its_column_and_both_values(roots, asset, column, change):
    old = Store(roots[0]).read_table(asset, Key.parse(FIT_KEY))[column]
    rewrite(roots[1], asset, FIT_KEY, with_cell(column, 7, change))
    diff = compare_roots(roots)
    key, found = only_difference(diff, asset)
    assert key == FIT_KEY
    table = found.changed[0].table
    assert (table.changed, table.only, table.notes) == (1, (0, 0), ())
    assert (str(table.first.row), table.first.column) == ("2026-02-01 00:07 BTCUSDT", column)
    kind = np.float64 if asset == REPLAY else np.float32
    assert tuple(map(kind, table.first.values)) == (kind(old[7].as_py()), kind(change(old[7].as_py())))
    assert table.first.values[0] != table.first.values[1]
    assert {name: (found.rows, found.steps) for name, found in found.columns.items()} == {column: (1, 1)}
    text = as_text(diff)
    assert f"DIFFERENT: {asset}" in text
    assert f"{FIT_KEY}: 1 row(s) changed, first 2026-02-01 00:07 BTCUSDT {column}: {table.first.values[0]} in A, " in text


@pytest.mark.parametrize("column", FRAME_SCHEMA.names)
def test_a_change_of_any_column_of_a_frame_is_found(roots, column):
    def change(value):
        return (
            value + dt.timedelta(days=900)
            if column == "event_time"
            else "another"
            if isinstance(value, str)
            else (value or 0) + 1
        )

    rewrite(roots[1], FEATURE_FRAME, FIT, with_cell(column, 2000, change))
    key, found = only_difference(compare_roots(roots), FEATURE_FRAME)
    assert key == FIT
    if column in ("symbol", "event_time"):
        assert found.changed[0].table.only == (1, 1)  # another row
    else:
        assert found.changed[0].table.first.column == column


def test_the_first_change_is_the_earliest_minute_whatever_its_symbol(roots):
    def edit(table):
        return with_cell("ret_1m_bps", 1440 + 3, lambda _: 1.0)(with_cell("ret_5m_bps", 9, lambda _: 1.0)(table))

    rewrite(roots[1], FEATURE_FRAME, TUNE, edit)
    table = compare_roots(roots).layers[2].changed[0].table
    assert table.changed == 2
    assert (str(table.first.row), table.first.column) == ("2026-02-02 00:03 ETHUSDT", "ret_1m_bps")


@pytest.mark.parametrize("largest", [FIT_KEY, "2026-02-02|ETHUSDT"])
def test_the_largest_difference_of_a_column_is_told_with_its_row(roots, largest):
    def edit(table):
        return with_cell("spread_bps", 2, next_float32)(with_cell("spread_bps", 5, three_steps)(table))

    def three_steps(value):
        return next_float32(next_float32(next_float32(value)))

    for key in (FIT_KEY, "2026-02-02|ETHUSDT"):
        rewrite(roots[1], SYMBOL_FEATURES, key, edit if key == largest else with_cell("spread_bps", 0, next_float32))
    date, _, symbol = largest.partition("|")
    column = layer(compare_roots(roots), SYMBOL_FEATURES).columns["spread_bps"]
    assert (column.rows, column.steps, str(column.where)) == (3, 3, f"{date} 00:05 {symbol}")


def test_partitions_that_one_side_lacks_are_named_by_layer(roots):
    for root, asset, keys in (
        (roots[1], REPLAY, ["2026-01-25|BTCUSDT", "2026-01-26|BTCUSDT"]),
        (roots[0], SYMBOL_FEATURES, ["2026-02-02|ETHUSDT"]),
        (roots[1], FEATURE_FRAME, [LOCKED]),
    ):
        for key in keys:
            Path(root, Store.partition_file(asset, Key.parse(key))).unlink()
    diff = compare_roots(roots)
    assert {found.asset: tuple([str(key) for key in keys] for keys in found.only) for found in diff.layers} == {
        REPLAY: (["2026-01-25|BTCUSDT", "2026-01-26|BTCUSDT"], []),
        SYMBOL_FEATURES: ([], ["2026-02-02|ETHUSDT"]),
        FEATURE_FRAME: ([LOCKED], []),
    }
    text = as_text(diff)
    assert "only in A: 2026-01-25|BTCUSDT...2026-01-26|BTCUSDT\n" in text
    assert "only in B: 2026-02-02|ETHUSDT\n" in text
    assert as_json(diff)["layers"][FEATURE_FRAME]["only"] == {"a": [LOCKED], "b": []}


def test_rows_that_one_side_lacks_are_counted_and_the_others_still_compared(roots):
    rewrite(roots[0], FEATURE_FRAME, FIT, lambda table: table.slice(0, table.num_rows - 2))
    rewrite(roots[1], FEATURE_FRAME, FIT, lambda table: with_cell("ret_1m_bps", 100, lambda _: 5.0)(table).slice(3))
    table = compare_roots(roots).layers[2].changed[0].table
    assert table.only == (3, 2)
    assert tuple(map(str, table.first_only)) == ("2026-02-01 00:00 BTCUSDT", "2026-02-01 23:58 ETHUSDT")
    assert (table.changed, str(table.first.row)) == (1, "2026-02-01 01:40 BTCUSDT")


def test_a_range_leaves_out_what_lies_outside(roots):
    rewrite(roots[1], FEATURE_FRAME, FIT, lambda table: table.slice(1))
    assert not compare_roots(roots, end=dt.date(2026, 2, 2)).same
    diff = compare_roots(roots, dt.date(2026, 2, 2), dt.date(2026, 2, 3))
    assert diff.same
    assert [found.partitions for found in diff.layers] == [2, 2, 1]


def test_other_inputs_and_other_code_of_the_same_content_are_told_and_are_no_difference(roots):
    rewrite(roots[1], SYMBOL_FEATURES, FIT_KEY, code_version="feedbeef")
    rewrite(roots[1], FEATURE_FRAME, FIT, inputs={**Store(roots[0]).footer(FEATURE_FRAME, Key.parse(FIT)).inputs, "other": "1"})
    diff = compare_roots(roots)
    assert diff.same
    old = Store(roots[0]).footer(SYMBOL_FEATURES, Key.parse(FIT_KEY)).code_version
    assert layer(diff, SYMBOL_FEATURES).other_code == {(old, "feedbeef"): 1}
    assert (layer(diff, FEATURE_FRAME).other_inputs, layer(diff, FEATURE_FRAME).first_inputs) == (1, f"{FIT}: other")
    assert [found.other_bytes for found in diff.layers] == [0, 1, 1]
    text = as_text(diff)
    assert f"code       symbol_features: 1 partition(s) by version {old} in A, feedbeef in B" in text
    assert f"inputs     feature_frame: 1 partition(s) have others, first {FIT}: other" in text
    assert "bytes      feature_frame: 1 partition(s) of the same content are other bytes" in text


def test_the_library_that_wrote_the_files_is_told_where_it_differs(roots):
    writer = f"parquet-cpp-arrow version {pa.__version__}"
    assert f"libraries  written by {writer}\n" in as_text(compare_roots(roots))
    other = writer[:-1] + "?"
    path = Path(roots[1], Store.partition_file(FEATURE_FRAME, Key.parse(FIT)))
    path.write_bytes(path.read_bytes().replace(writer.encode(), other.encode()))
    diff = compare_roots(roots)
    assert diff.same
    assert layer(diff, FEATURE_FRAME).other_bytes == 1
    assert diff.libraries == ({writer}, {writer, other})


def test_another_content_hash_is_a_difference_even_where_no_row_shows_it(roots, monkeypatch):
    rewrite(roots[1], REPLAY, FIT_KEY, with_cell("volume", 7, lambda _: 1.0))
    monkeypatch.setattr(diff_module, "compare_tables", lambda *_: TableDiff())
    diff = compare_roots(roots)
    assert only_difference(diff, REPLAY)[0] == FIT_KEY
    assert f"{FIT_KEY}: the content hashes differ, no row does" in as_text(diff)


# The locked split


def assert_no_secret(diff: Diff) -> None:
    assert not diff.same
    shown = as_text(diff) + json.dumps(as_json(diff))
    bits = int(np.float32(SECRET).view(np.int32)), int(np.float64(SECRET).view(np.int64))
    for secret in (str(SECRET), *(text for number in bits for text in (str(number), f"{number:,}"))):
        assert secret not in shown
    assert LOCKED_VALUE in shown


@pytest.mark.parametrize("asset", [REPLAY, SYMBOL_FEATURES, FEATURE_FRAME])
def test_a_locked_value_is_never_shown_nor_its_distance(roots, asset):
    key = LOCKED if asset == FEATURE_FRAME else f"{LOCKED}|BTCUSDT"
    column = "volume" if asset == REPLAY else "spread_bps"
    rewrite(roots[0], asset, key, with_cell(column, 7, lambda _: 0.0))
    rewrite(roots[1], asset, key, with_cell(column, 7, lambda _: SECRET))
    diff = compare_roots(roots)
    assert layer(diff, asset).columns[column].rows == 1
    assert layer(diff, asset).columns[column].steps is None
    assert f"first 2026-02-03 00:07 BTCUSDT {column}: {LOCKED_VALUE}" in as_text(diff)
    assert_no_secret(diff)


@pytest.mark.parametrize("side", [0, 1])
def test_a_row_that_one_side_alone_has_locked_is_not_shown(roots, side):
    change = with_cell("spread_bps", 7, lambda _: SECRET)
    rewrite(roots[1], FEATURE_FRAME, FIT, change)
    rewrite(roots[side], FEATURE_FRAME, FIT, with_cell("split_id", 7, lambda _: "VALIDATION_LOCKED"))
    assert_no_secret(compare_roots(roots))


@pytest.mark.parametrize("side", [0, 1])
def test_replay_and_features_are_locked_by_the_split_manifest_of_either_side(roots, side):
    for asset, column in ((REPLAY, "volume"), (SYMBOL_FEATURES, "spread_bps")):
        rewrite(roots[1], asset, f"{TUNE}|BTCUSDT", with_cell(column, 7, lambda _: SECRET))
    manifest = json.loads(Store(roots[side]).read_bytes(SPLIT_MANIFEST_FILE))
    manifest["splits"][1:] = [{"split_id": "VALIDATION_LOCKED", "start": TUNE, "end": LOCKED}]
    Store(roots[side]).write_bytes(SPLIT_MANIFEST_FILE, json.dumps(manifest).encode())
    assert_no_secret(compare_roots(roots))


def test_replay_is_locked_by_the_frame_that_was_built_before_the_splits_changed(roots):
    rewrite(roots[1], REPLAY, f"{LOCKED}|BTCUSDT", with_cell("volume", 7, lambda _: SECRET))
    for root in roots:
        Store(root).write_bytes(SPLIT_MANIFEST_FILE, b'{"splits": [], "embargo_minutes": 0, "walk_forward_folds": 1}')
    assert_no_secret(compare_roots(roots))


@pytest.mark.parametrize("broken", [None, b"{half"])
def test_without_a_readable_split_manifest_every_value_of_replay_may_be_locked(roots, broken):
    rewrite(roots[1], REPLAY, FIT_KEY, with_cell("volume", 7, lambda _: SECRET))
    path = Path(roots[1], SPLIT_MANIFEST_FILE)
    path.unlink()
    if broken is not None:
        path.write_bytes(broken)
    diff = compare_roots(roots)
    assert_no_secret(diff)
    assert diff.notes == [f"{path}: no readable split manifest, so any value of replay may be locked"]


# Files that are broken


def test_an_unreadable_file_is_a_difference_with_its_name_on_either_side(roots):
    paths = [Path(root, Store.partition_file(REPLAY, Key.parse(FIT_KEY))) for root in roots]
    for path in paths:
        path.write_bytes(path.read_bytes()[:500])
    diff = compare_roots(roots)
    key, found = only_difference(diff, REPLAY)
    assert key == FIT_KEY
    assert f"A: {paths[0]}: no sound footer: " in found.changed[0].problem
    assert f"B: {paths[1]}: no sound footer: " in found.changed[0].problem
    assert found.changed[0].problem in as_text(diff)


def test_the_text_names_a_few_partitions_and_an_unreadable_one_whatever_else_differs(roots):
    keys = Store(roots[1]).keys(REPLAY)
    for key in keys[:-1]:
        rewrite(roots[1], REPLAY, str(key), with_cell("volume", 0, lambda value: value + 1.0))
    path = Path(roots[1], Store.partition_file(REPLAY, keys[-1]))
    path.write_bytes(b"")
    diff = compare_roots(roots)
    text = as_text(diff)
    assert f"  {keys[-1]}: B: {path}: no sound footer: " in text
    assert text.count("row(s) changed") == 5
    assert "  and 14 more partitions that differ; --json has all" in text
    assert len(as_json(diff)["layers"][REPLAY]["differ"]) == 20


def test_damage_inside_a_file_that_has_to_be_read_is_named(roots):
    rewrite(roots[0], SYMBOL_FEATURES, FIT_KEY, with_cell("ret_1m_bps", 7, lambda _: 1.0))
    path = Path(roots[1], Store.partition_file(SYMBOL_FEATURES, Key.parse(FIT_KEY)))
    data = bytearray(path.read_bytes())
    data[4:4000] = bytes(3996)
    path.write_bytes(data)
    _, found = only_difference(compare_roots(roots), SYMBOL_FEATURES)
    assert found.changed[0].problem.startswith(f"B: {path}: not readable: ")


def test_a_file_that_is_not_what_its_footer_says_is_named(roots):
    store, key = Store(roots[1]), Key.parse(FIT_KEY)
    table, footer = store.read(REPLAY, key)
    store.publish(REPLAY, key, table, dataclasses.replace(footer, content_hash="f00"))
    _, found = only_difference(compare_roots(roots), REPLAY)
    path = store.path(store.partition_file(REPLAY, key))
    assert found.changed[0].problem.startswith(f"B: {path}: the content hash is {footer.content_hash}, the footer says f00.")


# Wrong arguments


def test_a_folder_that_is_neither_a_store_nor_a_references_is_a_wrong_argument(roots, tmp_path):
    for wrong in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(SettingError, match=f"ROOT_B: {wrong} is neither a store"):
            compare_roots((roots[0], str(wrong)))


def test_nothing_to_compare_is_a_wrong_argument(roots):
    with pytest.raises(SettingError, match="has a partition from 2030-01-01; there is nothing to compare"):
        compare_roots(roots, dt.date(2030, 1, 1))


def test_a_url_that_cannot_be_opened_is_a_wrong_argument_that_shows_no_secret(roots):
    with pytest.raises(SettingError, match="ROOT_A: abfs://x cannot be opened") as caught:
        compare_roots(("abfs://x?account_key=secret", roots[1]))
    assert "secret" not in str(caught.value)


# Two tables


def _table(values: list[float | None], kind: pa.DataType | None = None) -> pa.Table:
    times = pa.array([60_000 * number for number in range(len(values))], pa.timestamp("ms", tz="UTC"))
    return pa.table({"event_time": times, "value": pa.array(values, kind or pa.float32())})


def _compare(left: pa.Table, right: pa.Table):
    return compare_tables(left, right, "BTCUSDT", lambda minutes: np.zeros(len(minutes), dtype=bool), None)


@pytest.mark.parametrize(
    ("left", "right", "values", "steps", "one_sided"),
    [
        (0.0, -0.0, ("0.0", "-0.0"), 0, 0),
        (1.0, None, ("1.0", "null"), None, 1),
        (float("nan"), None, ("nan", "null"), None, 0),
        (float("nan"), 1.0, ("nan", "1.0"), None, 1),
        (-1e-45, 1e-45, ("-1e-45", "1e-45"), 2, 0),
        (3.4028235e38, float("inf"), ("3.4028235e+38", "inf"), 1, 0),
        (-float("inf"), float("inf"), ("-inf", "inf"), 2 * 0x7F800000, 0),
    ],
)
def test_any_other_bits_are_another_value(left, right, values, steps, one_sided):
    found = _compare(_table([5.0, left]), _table([5.0, right]))
    assert not found.same
    assert (str(found.first.row), found.first.values) == ("1970-01-01 00:01 BTCUSDT", values)
    assert (found.columns["value"].steps, found.columns["value"].one_sided) == (steps, one_sided)


def test_two_nan_of_other_bits_are_told_apart():
    nan = pa.Table.from_arrays(
        [_table([0.0])["event_time"], pa.array(np.array([0x7FC00001], np.uint32).view("f4"))], ["event_time", "value"]
    )
    found = _compare(_table([float("nan")]), nan)
    assert found.first.values == ("nan (bits 0x7fc00000)", "nan (bits 0x7fc00001)")


def test_float64_values_at_both_ends_are_counted_in_their_own_steps():
    largest = float(np.finfo(float).max)
    found = _compare(_table([-largest], pa.float64()), _table([largest], pa.float64()))
    assert found.columns["value"].steps == 2 * int(np.float64(largest).view(np.int64))


def test_tables_of_other_columns_types_or_order_differ_though_no_value_does():
    table = _table([1.0, 2.0])
    assert _compare(table, table).same
    assert _compare(table, table.append_column("more", table["value"])).notes == ("column more is in B alone",)
    assert _compare(table, table.select(["event_time"])).notes == ("column value is in A alone",)
    assert _compare(table, table.select(["value", "event_time"])).notes == ("the columns are in another order",)
    assert _compare(table, _table([1.0, 2.0], pa.float64())).notes == ("column value is float in A, double in B",)
    assert _compare(table, table.take([1, 0])).notes == ("the rows are in another order",)
    assert "rows not compared without event_time" in _compare(table, table.select(["value"])).notes


def test_a_row_that_is_there_twice_is_another_row_each_time():
    table = _table([1.0, 2.0])
    found = _compare(table, table.take([0, 0, 1]))
    assert (found.changed, found.only, str(found.first_only[1])) == (0, (0, 1), "1970-01-01 00:00 BTCUSDT")


# A store and a reference


@pytest.fixture
def against(built, tmp_path) -> tuple[str, str]:
    """A copy of the store, and its frames as the reference writes them."""
    shutil.copytree(built, tmp_path / "store")
    store = Store(str(built))
    frame = pd.concat([store.read_table(FEATURE_FRAME, key).to_pandas() for key in store.keys(FEATURE_FRAME)])
    write_reference(tmp_path / "reference", frame.assign(feature_version="theirs"))
    return str(tmp_path / "store"), str(tmp_path / "reference")


def write_reference(folder: Path, frame: pd.DataFrame) -> None:
    folder.mkdir(exist_ok=True)
    frame = frame.sort_values(["symbol", "event_time"], ignore_index=True)
    frame.to_parquet(folder / "feature_frame.parquet", index=False, row_group_size=3000)


def change_reference(against: tuple[str, str], change: Callable[[pd.DataFrame], pd.DataFrame | None]) -> Diff:
    """Compare after a change of the reference's rows."""
    folder = Path(against[1])
    frame = pd.read_parquet(folder / "feature_frame.parquet")
    changed = change(frame)
    write_reference(folder, frame if changed is None else changed)
    return compare_roots(against)


def set_value(column: str, row: int, value: object) -> Callable[[pd.DataFrame], None]:
    def change(frame: pd.DataFrame) -> None:
        frame.loc[row, column] = value

    return change


@pytest.mark.parametrize("block", [1, 3000, 250_000])
def test_a_reference_of_the_same_rows_is_the_same_however_it_is_read(against, monkeypatch, block):
    monkeypatch.setattr(reference_module, "_BLOCK_ROWS", block)
    monkeypatch.setattr(reference_module, "_BATCH_ROWS", 1000)
    for roots in (against, against[::-1]):
        diff = compare_roots(roots)
        assert diff.same, as_text(diff)
        assert layer(diff, FEATURE_FRAME).same == 3
    assert "the same within the contract's tolerances: 3 partitions" in as_text(diff)


def test_a_value_within_its_tolerance_is_the_same_and_one_beyond_is_not(against):
    def change(frame):
        frame.loc[100, "realized_vol_15m_bps"] += 9e-6

    assert change_reference(against, change).same
    diff = change_reference(against, set_value("spread_bps", 30, 3.5))
    found = layer(diff, FEATURE_FRAME).changed[0].table
    assert (found.changed, str(found.first.row), found.first.column) == (1, "2026-02-01 00:30 BTCUSDT", "spread_bps")
    assert found.first.values[1] == "3.5"
    assert layer(diff, FEATURE_FRAME).columns["spread_bps"].rows == 1
    assert layer(diff, FEATURE_FRAME).columns["realized_vol_15m_bps"].rows == 0
    assert layer(diff, FEATURE_FRAME).columns["realized_vol_15m_bps"].steps > 0
    reverse = layer(compare_roots(against[::-1]), FEATURE_FRAME).changed[0].table
    assert reverse.first.values == found.first.values[::-1]


@pytest.mark.parametrize(("steps", "same"), [(2, True), (3, False)])
def test_two_float32_steps_are_allowed(against, steps, same):
    def change(frame):
        value = np.float32(frame.loc[30, "spread_bps"])
        for _ in range(steps):
            value = np.nextafter(value, np.float32(np.inf))
        frame.loc[30, "spread_bps"] = value

    assert change_reference(against, change).same is same


def test_the_steps_are_those_at_the_references_value(against):
    # Below 1 the steps are half as long: three of them are within two of those at 1.
    below = 1.0 - 3 * 2.0**-24
    rewrite(against[0], FEATURE_FRAME, FIT, with_cell("spread_bps", 30, lambda _: below))
    change_reference(against, set_value("spread_bps", 30, np.float32(1.0)))
    assert compare_roots(against).same
    assert compare_roots(against[::-1]).same
    rewrite(against[0], FEATURE_FRAME, FIT, with_cell("spread_bps", 30, lambda _: 1.0))
    change_reference(against, set_value("spread_bps", 30, np.float32(below)))
    assert not compare_roots(against).same
    assert not compare_roots(against[::-1]).same


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_tolerance_holds_for_nan_or_an_infinity(against, value):
    diff = change_reference(against, set_value("realized_vol_60m_bps", 600, value))
    assert layer(diff, FEATURE_FRAME).columns["realized_vol_60m_bps"].rows == 1


def test_after_an_extreme_bar_the_volume_zscore_has_the_wider_tolerance_for_its_symbol_alone(against):
    greatest = np.float32(59 / 60**0.5)

    def change(frame):
        frame.loc[[100, 1440 * 3 + 100], "volume_zscore_60m"] += 4e-3

    diff = change_reference(against, change)
    assert [partition.table.changed for partition in layer(diff, FEATURE_FRAME).changed] == [2]
    rewrite(against[0], FEATURE_FRAME, FIT, with_cell("volume_zscore_60m", 70, lambda _: float(greatest)))
    diff = change_reference(against, set_value("volume_zscore_60m", 70, greatest))
    (partition,) = layer(diff, FEATURE_FRAME).changed
    assert (partition.table.changed, partition.table.first.row.symbol) == (1, "ETHUSDT")


@pytest.mark.parametrize("column", ["sample_id", "split_id", "walk_forward_fold", "data_quality_flag"])
def test_meta_columns_are_held_exactly_but_the_feature_version(against, column):
    diff = change_reference(against, set_value(column, 100, "another"))
    assert layer(diff, FEATURE_FRAME).changed[0].table.first.column == column


def test_a_locked_value_is_not_shown_beside_the_references_either(against):
    assert_no_secret(change_reference(against, set_value("spread_bps", 2 * 1440 + 5, SECRET)))


def test_rows_and_dates_that_one_side_lacks_are_named(against):
    Path(against[0], Store.partition_file(FEATURE_FRAME, Key.parse(FIT))).unlink()
    diff = change_reference(against, lambda frame: frame[(frame["event_time"].dt.day != 3) & (frame.index != 1440)])
    found = layer(diff, FEATURE_FRAME)
    assert tuple([str(key) for key in keys] for keys in found.only) == ([LOCKED], [FIT])
    assert found.changed[0].table.only == (1, 0)
    assert str(found.changed[0].table.first_only[0]) == "2026-02-02 00:00 BTCUSDT"


def test_a_stored_date_without_rows_is_as_good_as_none(against):
    rewrite(against[0], FEATURE_FRAME, TUNE, lambda table: table.slice(0, 0))
    assert change_reference(against, lambda frame: frame[frame["event_time"].dt.day != 2]).same


def test_a_range_holds_for_a_reference_too(against):
    change_reference(against, set_value("spread_bps", 30, 3.5))
    assert compare_roots(against, dt.date(2026, 2, 2)).same
    assert not compare_roots(against, None, dt.date(2026, 2, 2)).same


@pytest.mark.parametrize("kept", [0, 1000, -1])
def test_an_unreadable_reference_is_a_difference_with_its_name(against, kept):
    path = Path(against[1], "feature_frame.parquet")
    path.write_bytes(path.read_bytes()[:kept])
    diff = compare_roots(against)
    assert not diff.same
    assert f"B: {path}: not readable: " in as_text(diff)


def test_damage_inside_a_reference_is_a_difference_with_its_name(against):
    path = Path(against[1], "feature_frame.parquet")
    column = pq.read_metadata(path).row_group(1).column(20)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(data)
    assert f"B: {path}: not readable: " in as_text(compare_roots(against))


def test_an_unreadable_frame_beside_a_reference_is_named_and_the_others_are_compared(against):
    path = Path(against[0], Store.partition_file(FEATURE_FRAME, Key.parse(FIT)))
    path.write_bytes(path.read_bytes()[:1000])
    found = layer(compare_roots(against), FEATURE_FRAME)
    assert found.same == 2
    assert found.changed[0].problem.startswith(f"A: {path}: no sound footer: ")


def test_a_reference_of_other_columns_differs_and_the_others_are_compared(against):
    def change(frame):
        return frame.drop(columns="ret_1m_bps").assign(label=1.0, ret_5m_bps=frame["ret_5m_bps"].astype(float))

    diff = change_reference(against, change)
    path = Path(against[1], "feature_frame.parquet")
    assert layer(diff, FEATURE_FRAME).problems == [
        f"column ret_1m_bps is not in {path}",
        f"column label of {path} is none of the frame's",
        f"column ret_5m_bps of {path} is double, not float",
    ]
    assert layer(diff, FEATURE_FRAME).same == 3
    assert not diff.same
    diff = change_reference(against, lambda frame: frame.drop(columns="symbol").assign(symbol=1))
    assert "no row of" in as_text(diff)


def test_a_reference_row_without_a_time_is_named(against):
    diff = change_reference(against, set_value("event_time", 5, pd.NaT))
    assert "feature_frame.parquet: 1 row(s) have no event_time" in as_text(diff)


@pytest.mark.parametrize("name", ["feature_order.json", "feature_schema.json"])
def test_the_order_and_schema_of_the_features_are_held_byte_for_byte(against, name):
    store = Store(against[0])
    store.write_bytes(f"dataset/{name}", b"[]\n")
    Path(against[1], name).write_bytes(b"[]\n")
    assert compare_roots(against).same
    Path(against[1], name).write_bytes(b"[1]\n")
    assert layer(compare_roots(against), FEATURE_FRAME).problems == [
        f"{store.path(f'dataset/{name}')} is not byte-equal to {against[1]}/{name}"
    ]


def test_two_folders_of_the_reference_are_a_wrong_argument(against):
    with pytest.raises(SettingError, match="are both folders of the reference; give a store"):
        compare_roots((against[1], against[1]))


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="FEATURE_ASSETS_REFERENCE names no folder")
def test_a_golden_case_is_the_same_and_one_changed_value_is_not(tmp_path):
    golden = REFERENCE.parent / "golden/three_by_five"
    settings = {
        "ROOT": str(tmp_path / "store"),
        "SOURCE": f"parquet:{golden / 'replay.parquet'}",
        "SYMBOLS": "BTCUSDT,ETHUSDT,SOLUSDT",
        "START_DATE": "2025-01-01",
        "END_DATE": "2025-01-06",
        "SPLITS": f"file:{golden / 'split_manifest.json'}",
        "ALLOW_INCOMPLETE_DAYS": str(json.loads((golden / "args.json").read_text())["allow_incomplete_days"]).lower(),
    }
    build_all({f"FEATURE_ASSETS_{name}": value for name, value in settings.items()}, str(tmp_path))
    roots = (settings["ROOT"], str(golden))
    diff = compare_roots(roots)
    assert diff.same, as_text(diff)
    assert layer(diff, FEATURE_FRAME).same == 5
    for name in FEATURE_ORDER:
        column = layer(diff, FEATURE_FRAME).columns.get(name)
        assert column is None or column.rows == 0
    rewrite(roots[0], FEATURE_FRAME, "2025-01-02", with_cell("ret_60m_bps", 1440 + 61, lambda value: value * 1.0001))
    (partition,) = layer(compare_roots(roots), FEATURE_FRAME).changed
    assert (partition.table.changed, str(partition.table.first.row), partition.table.first.column) == (
        1,
        "2025-01-02 01:01 ETHUSDT",
        "ret_60m_bps",
    )
