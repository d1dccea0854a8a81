"""A replay table in Parquet as a source: every layout gives the same days, and only what is needed is read, once."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from feature_assets.errors import SourceError
from feature_assets.market.bars import TIME_COLUMNS
from feature_assets.market.sources import ABSENT, NOT_YET, read_days
from feature_assets.market.sources.parquet import ParquetSource
from feature_assets.market.sources.synthetic import SyntheticSource

FIRST = dt.date(2026, 2, 1)
ONE_DAY = dt.timedelta(days=1)
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
DAYS = 3
DAY_ROWS = 1440
MARKET = SyntheticSource()


def bars(symbols: tuple[str, ...] = SYMBOLS, days: int = DAYS, start: dt.date = FIRST) -> pa.Table:
    """The synthetic replay of some symbols and days, symbol by symbol, with a column `symbol`."""
    tables = []
    for symbol in symbols:
        for number in range(days):
            day = MARKET.day(symbol, start + number * ONE_DAY)
            tables.append(day.add_column(0, "symbol", pa.array([symbol] * day.num_rows)))
    return pa.concat_tables(tables)


def by_time(table: pa.Table) -> pa.Table:
    return table.sort_by([("event_time", "ascending"), ("symbol", "ascending")])


def replaced(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)


def take(source: ParquetSource, symbol: str = "BTCUSDT", start: dt.date = FIRST, days: int = DAYS) -> list[object]:
    """What the source answers for `days` days: tables, ABSENT, NOT_YET, or the error's text."""
    answers = read_days(source, symbol, start, start + days * ONE_DAY)
    return [str(answer) if isinstance(answer, SourceError) else answer for _, answer in answers]


def in_lockstep(source: ParquetSource, symbols: tuple[str, ...] = SYMBOLS, days: int = DAYS) -> dict[str, list[object]]:
    """The answers for several symbols, taken day by day as the graph takes them."""
    streams = [read_days(source, symbol, FIRST, FIRST + days * ONE_DAY) for symbol in symbols]
    found: dict[str, list[object]] = {symbol: [] for symbol in symbols}
    for answers in zip(*streams, strict=True):
        for symbol, (_, answer) in zip(symbols, answers, strict=True):
            found[symbol].append(str(answer) if isinstance(answer, SourceError) else answer)
    return found


def is_day(answer: object, symbol: str = "BTCUSDT", date: dt.date = FIRST) -> bool:
    return isinstance(answer, pa.Table) and answer.equals(MARKET.day(symbol, date))


def are_the_days(answers: list[object], symbol: str) -> bool:
    return len(answers) == DAYS and all(is_day(answer, symbol, FIRST + n * ONE_DAY) for n, answer in enumerate(answers))


def damage(file: Path, row_group: int, column: str) -> None:
    """Overwrite a column's pages in one row group: the footer stays readable, these values do not."""
    metadata = pq.read_metadata(file)
    chunk = metadata.row_group(row_group).column(metadata.schema.names.index(column))
    offsets = (chunk.dictionary_page_offset, chunk.data_page_offset)
    first = min(offset for offset in offsets if offset is not None)
    content = bytearray(file.read_bytes())
    content[first : first + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    file.write_bytes(content)


@pytest.fixture
def reads(monkeypatch) -> list[int]:
    """The numbers of the row groups that sources read from here on."""
    numbers: list[int] = []
    read = ParquetSource.read

    def counting(self: ParquetSource, group: object) -> None:
        numbers.append(group.number)
        read(self, group)

    monkeypatch.setattr(ParquetSource, "read", counting)
    return numbers


def write_one_row_group(folder: Path) -> Path:
    pq.write_table(bars(), folder / "bars.parquet")
    return folder / "bars.parquet"


def write_by_symbol(folder: Path) -> Path:
    pq.write_table(bars(), folder / "bars.parquet", row_group_size=DAY_ROWS)
    return folder / "bars.parquet"


def write_by_time(folder: Path) -> Path:
    pq.write_table(by_time(bars()), folder / "bars.parquet", row_group_size=len(SYMBOLS) * DAY_ROWS)
    return folder / "bars.parquet"


def write_across_midnight(folder: Path) -> Path:
    pq.write_table(by_time(bars()), folder / "bars.parquet", row_group_size=1000)
    return folder / "bars.parquet"


def write_unsorted(folder: Path) -> Path:
    table = bars()
    pq.write_table(table.take(np.random.default_rng(5).permutation(len(table))), folder / "bars.parquet", row_group_size=5000)
    return folder / "bars.parquet"


def write_without_statistics(folder: Path) -> Path:
    pq.write_table(bars(), folder / "bars.parquet", row_group_size=DAY_ROWS, write_statistics=False)
    return folder / "bars.parquet"


def write_a_file_a_day(folder: Path) -> Path:
    for number in range(DAYS):
        day = FIRST + number * ONE_DAY
        (folder / "bars" / f"{day:%Y}").mkdir(parents=True, exist_ok=True)
        pq.write_table(bars(days=1, start=day), folder / "bars" / f"{day:%Y}" / f"{day}.parquet")
    return folder / "bars"


def write_hive(folder: Path) -> Path:
    partitioning = ds.partitioning(pa.schema([("symbol", pa.string())]), flavor="hive")
    rows = DAYS * DAY_ROWS
    ds.write_dataset(
        bars(), folder / "bars", format="parquet", partitioning=partitioning, min_rows_per_group=rows, max_rows_per_group=rows
    )
    return folder / "bars"


def write_hive_with_the_column_too(folder: Path) -> Path:
    for symbol in SYMBOLS:
        (folder / "bars" / f"symbol={symbol}").mkdir(parents=True)
        pq.write_table(bars((symbol,)), folder / "bars" / f"symbol={symbol}" / "part-0.parquet", row_group_size=DAY_ROWS)
    return folder / "bars"


def write_as_the_store_does(folder: Path) -> Path:
    for symbol in SYMBOLS:
        for number in range(DAYS):
            day = FIRST + number * ONE_DAY
            place = folder / "replay" / f"symbol={symbol}" / f"date={day}"
            place.mkdir(parents=True)
            pq.write_table(MARKET.day(symbol, day), place / "part-0.parquet")
    return folder / "replay"


# With the number of row groups there are: each is read once.
LAYOUTS = [
    pytest.param(write_one_row_group, 1, id="one row group"),
    pytest.param(write_by_symbol, 9, id="by symbol"),
    pytest.param(write_by_time, 3, id="by time"),
    pytest.param(write_across_midnight, 13, id="across midnight"),
    pytest.param(write_unsorted, 3, id="unsorted"),
    pytest.param(write_without_statistics, 9, id="without statistics"),
    pytest.param(write_a_file_a_day, 3, id="a file a day"),
    pytest.param(write_hive, 3, id="hive"),
    pytest.param(write_hive_with_the_column_too, 9, id="hive with the column too"),
    pytest.param(write_as_the_store_does, 9, id="as the store does"),
]


@pytest.mark.parametrize(("write", "row_groups"), LAYOUTS)
def test_every_layout_gives_the_same_days_and_each_row_group_is_read_once(write, row_groups, tmp_path, reads):
    found = in_lockstep(ParquetSource(write(tmp_path)))

    assert {symbol: are_the_days(answers, symbol) for symbol, answers in found.items()} == dict.fromkeys(SYMBOLS, True)
    assert sorted(reads) == list(range(row_groups))


@pytest.mark.parametrize(("write", "row_groups"), LAYOUTS)
def test_every_layout_gives_the_days_of_one_symbol_alone(write, row_groups, tmp_path, reads):
    assert are_the_days(take(ParquetSource(write(tmp_path)), "ETHUSDT"), "ETHUSDT")
    assert len(reads) == len(set(reads)) <= row_groups


def test_symbols_taken_one_after_the_other_share_what_is_read_too(tmp_path, reads):
    source = ParquetSource(write_by_time(tmp_path))
    streams = {symbol: read_days(source, symbol, FIRST, FIRST + DAYS * ONE_DAY) for symbol in SYMBOLS}

    found = {symbol: [answer for _, answer in stream] for symbol, stream in streams.items()}

    assert all(are_the_days(answers, symbol) for symbol, answers in found.items())
    assert sorted(reads) == [0, 1, 2]


def test_streams_of_one_symbol_over_different_days_share_what_is_read(tmp_path, reads):
    source = ParquetSource(write_one_row_group(tmp_path))
    streams = [read_days(source, "BTCUSDT", FIRST + n * ONE_DAY, FIRST + (n + 1) * ONE_DAY) for n in (0, 2)]

    assert [is_day(answer, date=date) for stream in streams for date, answer in stream] == [True, True]
    assert reads == [0]


def test_a_source_asked_again_reads_again_and_answers_the_same(tmp_path, reads):
    source = ParquetSource(write_by_time(tmp_path))

    assert are_the_days(take(source), "BTCUSDT")
    assert are_the_days(take(source), "BTCUSDT")
    assert reads == [0, 1, 2, 0, 1, 2]


def test_a_stream_that_is_given_up_costs_the_others_nothing(tmp_path, reads):
    source = ParquetSource(write_by_time(tmp_path))
    given_up = read_days(source, "ETHUSDT", FIRST, FIRST + DAYS * ONE_DAY)
    next(given_up)
    del given_up

    assert are_the_days(take(source), "BTCUSDT")
    assert reads == [0, 0, 1, 2]


def test_nothing_is_read_before_the_first_day_is_taken_and_a_day_reads_no_later_row_group(tmp_path, reads):
    stream = read_days(ParquetSource(write_by_time(tmp_path)), "BTCUSDT", FIRST, FIRST + DAYS * ONE_DAY)

    assert reads == []
    assert is_day(next(stream)[1])
    assert reads == [0]


@pytest.mark.parametrize(
    ("write", "needed"),
    [(write_by_time, [1]), (write_by_symbol, [4]), (write_a_file_a_day, [1]), (write_hive_with_the_column_too, [4])],
)
def test_a_day_of_a_symbol_reads_the_row_groups_that_hold_it_and_no_other(write, needed, tmp_path, reads):
    source = ParquetSource(write(tmp_path))

    assert is_day(take(source, "ETHUSDT", FIRST + ONE_DAY, 1)[0], "ETHUSDT", FIRST + ONE_DAY)
    assert reads == needed


def test_row_groups_that_are_not_needed_may_be_damaged(tmp_path):
    file = write_by_time(tmp_path)
    damage(file, 0, "close")
    damage(file, 2, "close")

    assert is_day(take(ParquetSource(file), "BTCUSDT", FIRST + ONE_DAY, 1)[0], "BTCUSDT", FIRST + ONE_DAY)


def test_columns_that_are_not_needed_are_not_read(tmp_path):
    table = bars()
    file = tmp_path / "bars.parquet"
    pq.write_table(table.append_column("note", pa.array([f"note {n}" for n in range(len(table))])), file)
    damage(file, 0, "note")

    assert are_the_days(take(ParquetSource(file)), "BTCUSDT")


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_of_any_unit_are_taken(unit, tmp_path):
    table = by_time(bars())
    for name in TIME_COLUMNS:
        table = replaced(table, name, table[name].cast(pa.timestamp(unit, "UTC")))
    pq.write_table(table, tmp_path / "bars.parquet", row_group_size=1000)

    assert pq.read_schema(tmp_path / "bars.parquet").field("event_time").type == pa.timestamp(unit, "UTC")
    assert are_the_days(take(ParquetSource(tmp_path / "bars.parquet")), "BTCUSDT")


def test_files_of_several_units_lie_side_by_side(tmp_path):
    for number, unit in enumerate(["ms", "us", "ns"]):
        table = bars(days=1, start=FIRST + number * ONE_DAY)
        table = replaced(table, "event_time", table["event_time"].cast(pa.timestamp(unit, "UTC")))
        pq.write_table(table, tmp_path / f"{unit}.parquet")

    assert are_the_days(take(ParquetSource(tmp_path)), "BTCUSDT")


def test_numbers_of_any_type_are_taken(tmp_path):
    table = bars()
    for name in ("liquidation_available", "volume"):
        table = replaced(table, name, pa.array(np.floor(table[name].to_numpy()).astype(np.int32)))
    pq.write_table(table, tmp_path / "bars.parquet")

    answer = take(ParquetSource(tmp_path / "bars.parquet"))[0]

    expected = MARKET.day("BTCUSDT", FIRST)
    assert answer["volume"].to_pylist() == np.floor(expected["volume"].to_numpy()).tolist()
    assert answer["liquidation_available"].equals(expected["liquidation_available"])


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())], ids=["large string", "dictionary"])
def test_symbols_of_any_text_type_are_taken(kind, tmp_path):
    table = bars()
    pq.write_table(replaced(table, "symbol", table["symbol"].cast(kind)), tmp_path / "bars.parquet", row_group_size=5000)

    assert are_the_days(take(ParquetSource(tmp_path / "bars.parquet"), "ETHUSDT"), "ETHUSDT")


def test_a_table_that_pandas_wrote_is_read(tmp_path):
    bars().to_pandas().to_parquet(tmp_path / "bars.parquet")

    assert are_the_days(take(ParquetSource(tmp_path / "bars.parquet")), "BTCUSDT")


def test_a_column_of_no_type_is_a_column_of_nulls(tmp_path):
    table = replaced(bars(), "level1_ofi_1m", pa.nulls(len(bars())))
    pq.write_table(replaced(table, "next_funding_time", pa.nulls(len(table))), tmp_path / "bars.parquet")

    answer = take(ParquetSource(tmp_path / "bars.parquet"))[0]

    assert answer["level1_ofi_1m"].null_count == answer["next_funding_time"].null_count == DAY_ROWS


def test_duplicate_rows_are_kept_for_the_rules_to_find(tmp_path):
    table = bars()
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), tmp_path / "bars.parquet", row_group_size=4000)

    assert take(ParquetSource(tmp_path / "bars.parquet"))[0].num_rows == DAY_ROWS + 1


@pytest.mark.parametrize("name", ["close", "event_time", "liquidation_available"])
def test_a_missing_column_is_named_with_its_file(name, tmp_path):
    write_a_file_a_day(tmp_path)
    pq.write_table(bars(days=1).drop_columns(name), tmp_path / "bars/2026/2026-02-01.parquet")

    found = take(ParquetSource(tmp_path / "bars"))

    assert [str(error).startswith(f"2026/2026-02-01.parquet: missing column(s) {name}; expected all of ") for error in found] == [
        True
    ] * DAYS


def test_a_table_without_symbols_is_told_so(tmp_path):
    pq.write_table(bars().drop_columns("symbol"), tmp_path / "bars.parquet")

    assert take(ParquetSource(tmp_path / "bars.parquet"), days=1) == [
        "bars.parquet: missing column(s) symbol; expected a column or folders symbol=..."
    ]


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("close", pa.string(), "column close is string; expected a number"),
        ("event_time", pa.timestamp("ms"), "column event_time is timestamp[ms]; expected a timestamp with time zone UTC"),
        (
            "event_time",
            pa.timestamp("ms", "Asia/Tokyo"),
            "column event_time is timestamp[ms, tz=Asia/Tokyo]; expected a timestamp with time zone UTC",
        ),
        ("next_funding_time", pa.int64(), "column next_funding_time is int64; expected a timestamp with time zone UTC"),
    ],
)
def test_a_wrong_type_is_named_with_its_file(name, kind, message, tmp_path):
    table = bars()
    pq.write_table(replaced(table, name, table[name].cast(kind)), tmp_path / "bars.parquet")

    (found,) = take(ParquetSource(tmp_path / "bars.parquet"), days=1)

    assert str(found).startswith(f"bars.parquet: {message}. Convert it")


def test_symbols_that_are_numbers_are_named_with_their_file(tmp_path):
    pq.write_table(replaced(bars(), "symbol", pa.array([1] * len(bars()))), tmp_path / "bars.parquet")

    (found,) = take(ParquetSource(tmp_path / "bars.parquet"), days=1)

    assert str(found).startswith("bars.parquet: column symbol is int64; expected")


@pytest.mark.parametrize("keep", [0, 3, 1000, -5])
def test_a_truncated_file_is_named_and_its_folder_is_not(keep, tmp_path):
    file = write_by_time(tmp_path)
    file.write_bytes(file.read_bytes()[:keep])

    found = take(ParquetSource(file))

    assert [str(error).startswith("bars.parquet: not readable as Parquet: ") for error in found] == [True] * DAYS


def test_a_truncated_file_of_a_folder_is_named_within_it(tmp_path):
    folder = write_a_file_a_day(tmp_path)
    (folder / "2026/2026-02-02.parquet").write_bytes(b"PAR1 torn")

    assert str(take(ParquetSource(folder), days=1)[0]).startswith("2026/2026-02-02.parquet: not readable as Parquet: ")


def test_a_row_group_that_cannot_be_read_is_named_and_later_row_groups_are_read(tmp_path):
    file = write_by_time(tmp_path)
    damage(file, 1, "close")

    found = take(ParquetSource(file))

    assert is_day(found[0])
    assert str(found[1]).startswith("bars.parquet: row group cannot be read: ")
    assert is_day(found[2], date=FIRST + 2 * ONE_DAY)


def test_a_row_group_that_cannot_be_read_fails_every_symbol_that_it_holds(tmp_path):
    file = write_by_time(tmp_path)
    damage(file, 1, "close")

    found = in_lockstep(ParquetSource(file))

    for symbol in SYMBOLS:
        assert is_day(found[symbol][0], symbol)
        assert str(found[symbol][1]).startswith("bars.parquet: row group cannot be read: "), symbol
        assert is_day(found[symbol][2], symbol, FIRST + 2 * ONE_DAY)


def test_a_row_group_that_cannot_be_read_fails_every_day_that_it_holds(tmp_path):
    file = write_one_row_group(tmp_path)
    damage(file, 0, "close")

    assert [str(answer).startswith("bars.parquet: row group cannot be read: ") for answer in take(ParquetSource(file))] == [
        True
    ] * DAYS


def test_a_damaged_row_group_that_holds_a_part_of_a_day_fails_the_whole_day(tmp_path):
    file = write_across_midnight(tmp_path)
    damage(file, 1, "close")

    found = take(ParquetSource(file), days=2)

    assert str(found[0]).startswith("bars.parquet: row group cannot be read: ")
    assert is_day(found[1], date=FIRST + ONE_DAY)


def test_a_damaged_row_group_across_midnight_fails_the_days_on_both_sides(tmp_path):
    file = write_across_midnight(tmp_path)
    damage(file, 4, "close")

    found = take(ParquetSource(file))

    assert [str(answer).startswith("bars.parquet: row group cannot be read: ") for answer in found] == [True, True, False]
    assert is_day(found[2], date=FIRST + 2 * ONE_DAY)


def test_a_folder_without_parquet_says_so(tmp_path):
    (tmp_path / "bars").mkdir()
    (tmp_path / "bars/notes.csv").write_text("close\n1\n")

    assert take(ParquetSource(tmp_path / "bars"), days=1) == ["bars: the folder holds no .parquet file; expected a replay table."]


@pytest.mark.parametrize("write", [write_by_symbol, write_one_row_group, write_hive_with_the_column_too])
def test_an_unknown_symbol_is_named_with_the_table(write, tmp_path):
    path = write(tmp_path)

    assert (
        take(ParquetSource(path), "XRPUSDT", days=2)
        == [f"XRPUSDT: no row group of {path.name} holds this symbol; check SYMBOLS."] * 2
    )


def test_days_before_the_first_and_in_a_hole_are_absent_and_days_after_the_last_are_not_yet(tmp_path):
    table = pa.concat_tables([bars(days=1), bars(days=1, start=FIRST + 2 * ONE_DAY)])
    pq.write_table(table, tmp_path / "bars.parquet", row_group_size=DAY_ROWS)

    found = take(ParquetSource(tmp_path / "bars.parquet"), start=FIRST - ONE_DAY, days=6)

    assert [
        answer if answer in (ABSENT, NOT_YET) else is_day(answer, date=FIRST + (n - 1) * ONE_DAY)
        for n, answer in enumerate(found)
    ] == [
        ABSENT,
        True,
        ABSENT,
        True,
        NOT_YET,
        NOT_YET,
    ]


def test_a_day_that_the_table_has_begun_is_given_as_far_as_it_goes(tmp_path):
    pq.write_table(bars(("BTCUSDT",)).slice(0, 2 * DAY_ROWS + 7), tmp_path / "bars.parquet")

    found = take(ParquetSource(tmp_path / "bars.parquet"), days=4)

    assert found[2].equals(MARKET.day("BTCUSDT", FIRST + 2 * ONE_DAY).slice(0, 7))
    assert found[3] is NOT_YET


def test_days_after_the_last_are_not_yet_without_statistics_too(tmp_path):
    assert take(ParquetSource(write_without_statistics(tmp_path)), days=4)[3] is NOT_YET


@pytest.mark.parametrize("write", [write_by_time, write_by_symbol, write_a_file_a_day])
def test_the_fingerprint_changes_with_the_data_and_not_with_the_place(write, tmp_path):
    path = write(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    copy = tmp_path / "elsewhere" / path.name
    (shutil.copytree if path.is_dir() else shutil.copy)(path, copy)
    before = ParquetSource(path).fingerprint("BTCUSDT", FIRST)

    assert ParquetSource(path).fingerprint("BTCUSDT", FIRST) == before
    assert ParquetSource(copy).fingerprint("BTCUSDT", FIRST) == before

    for file in path.rglob("*.parquet") if path.is_dir() else [path]:
        table = pq.read_table(file)
        higher = replaced(table, "high", pa.array(table["high"].to_numpy() * 2))
        pq.write_table(higher, file, row_group_size=pq.read_metadata(file).row_group(0).num_rows)
    assert ParquetSource(path).fingerprint("BTCUSDT", FIRST) != before


def test_rows_that_are_added_later_leave_the_fingerprint_of_older_days(tmp_path):
    file = tmp_path / "bars.parquet"
    pq.write_table(by_time(bars(days=2)), file, row_group_size=len(SYMBOLS) * DAY_ROWS)
    before = [ParquetSource(file).fingerprint("BTCUSDT", FIRST + n * ONE_DAY) for n in range(3)]

    pq.write_table(by_time(bars(days=3)), file, row_group_size=len(SYMBOLS) * DAY_ROWS)
    after = [ParquetSource(file).fingerprint("BTCUSDT", FIRST + n * ONE_DAY) for n in range(3)]

    assert after[:2] == before[:2]
    assert after[2] != before[2]


def test_the_fingerprint_changes_when_two_values_trade_places(tmp_path):
    file = tmp_path / "bars.parquet"
    table = bars(("BTCUSDT",), days=1)
    pq.write_table(table, file)
    before = ParquetSource(file).fingerprint("BTCUSDT", FIRST)
    order = table["level1_ofi_1m"].to_pylist()
    order[700], order[701] = order[701], order[700]

    pq.write_table(replaced(table, "level1_ofi_1m", pa.array(order)), file)

    assert take(ParquetSource(file), days=1)[0]["level1_ofi_1m"].to_pylist() == order
    assert ParquetSource(file).fingerprint("BTCUSDT", FIRST) != before
