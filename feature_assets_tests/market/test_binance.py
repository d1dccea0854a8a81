"""The Binance public-data archive as a source: small zips of every kind it has, and the real ones where they are."""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from feature_assets.errors import SourceError
from feature_assets.market.bars import INPUT_GROUPS, REPLAY_COLUMNS, REPLAY_SCHEMA, day_start_ms, distinct_minutes, violations
from feature_assets.market.sources import ABSENT, NOT_YET, read_days
from feature_assets.market.sources import binance as binance_module
from feature_assets.market.sources.binance import BinanceSource

HEADER = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
FIRST = dt.date(2026, 2, 1)
ONE_DAY = dt.timedelta(days=1)
TREE = "data/futures/um"
REAL = os.environ.get("FEATURE_ASSETS_REAL_DATA", "")
real_data = pytest.mark.skipif(not REAL, reason="FEATURE_ASSETS_REAL_DATA names no folder")


def klines(*days: dt.date, header: bool = True, close: float = 101.5, unit: int = 1, minutes: int = 3) -> str:
    """A kline file's text: the first minutes of each day; `unit` is 1 for milliseconds and 1000 for microseconds."""
    lines = [HEADER] if header else []
    for day in days:
        for minute in range(minutes):
            time = (day_start_ms(day) + minute * 60_000) * unit
            lines.append(f"{time},100.5,102.25,99.75,{close},12.5,{time + 59_999 * unit},1260.1,42,7.25,730.0,0")
    return "\n".join(lines) + "\n"


def put(folder: Path, name: str, text: str) -> Path:
    """Write `text` as the one CSV file of folder/name.zip."""
    path = folder / f"{name}.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{path.stem}.csv", text)
    return path


def put_checksum(path: Path, digest: str | None = None) -> None:
    digest = digest or hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.CHECKSUM").write_text(f"{digest}  {path.name}\n")


def answers(folder: Path, symbol: str = "BTCUSDT", start: dt.date = FIRST, days: int = 1) -> list[object]:
    """What the source answers for `days` days: the closes, ABSENT, NOT_YET, or the error's text."""
    found: list[object] = []
    for _, answer in read_days(BinanceSource(folder), symbol, start, start + days * ONE_DAY):
        if isinstance(answer, SourceError):
            found.append(str(answer))
        else:
            found.append(answer["close"].to_pylist() if isinstance(answer, pa.Table) else answer)
    return found


def one_day(folder: Path, day: dt.date = FIRST) -> pa.Table:
    ((_, table),) = read_days(BinanceSource(folder), "BTCUSDT", day, day + ONE_DAY)
    assert isinstance(table, pa.Table), table
    return table


def test_klines_become_bars_with_the_values_of_the_file(tmp_path):
    put(tmp_path, "BTCUSDT-1m-2026-02-01", klines(FIRST))

    table = one_day(tmp_path)

    assert table.schema == REPLAY_SCHEMA
    assert violations(table, FIRST) == []
    assert table.slice(1, 1).to_pylist() == [
        dict.fromkeys(REPLAY_COLUMNS)
        | {
            "event_time": dt.datetime(2026, 2, 1, 0, 1, tzinfo=dt.UTC),
            "open_time_ms": day_start_ms(FIRST) + 60_000,
            "open": 100.5,
            "high": 102.25,
            "low": 99.75,
            "close": 101.5,
            "volume": 12.5,
            "taker_buy_volume": 7.25,
            "taker_sell_volume": 5.25,
        }
    ]


def test_what_klines_do_not_tell_is_null(tmp_path):
    put(tmp_path, "BTCUSDT-1m-2026-02-01", klines(FIRST))

    table = one_day(tmp_path)

    told = {"event_time", "open_time_ms", *INPUT_GROUPS["bars"], *INPUT_GROUPS["taker_flow"]}
    assert {name: table[name].null_count for name in REPLAY_COLUMNS} == {
        name: 0 if name in told else table.num_rows for name in REPLAY_COLUMNS
    }


@pytest.mark.parametrize("header", [True, False], ids=["header", "headerless"])
@pytest.mark.parametrize("name", ["BTCUSDT-1m-2026-02-01", "BTCUSDT-1m-2026-02"], ids=["daily", "monthly"])
def test_no_row_is_lost_to_the_header_and_none_is_made_of_it(tmp_path, header, name):
    put(tmp_path, name, klines(FIRST, header=header))

    assert one_day(tmp_path)["open_time_ms"].to_pylist() == [day_start_ms(FIRST) + minute * 60_000 for minute in range(3)]


def test_files_with_and_without_a_header_lie_side_by_side(tmp_path):
    put(tmp_path, "BTCUSDT-1m-2026-02-01", klines(FIRST, header=False))
    put(tmp_path, "BTCUSDT-1m-2026-02-02", klines(FIRST + ONE_DAY))

    assert answers(tmp_path, days=2) == [[101.5] * 3] * 2


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        (f"{TREE}/daily/klines/BTCUSDT/1m", "BTCUSDT-1m-2026-02-01"),
        (f"{TREE}/monthly/klines/BTCUSDT/1m", "BTCUSDT-1m-2026-02"),
        (".", "BTCUSDT-1m-2026-02"),
        ("one/of/my/own", "BTCUSDT-1m-2026-02-01"),
    ],
)
def test_the_archives_tree_and_a_flat_folder_are_read_alike(tmp_path, folder, name):
    put(tmp_path / folder, name, klines(FIRST))

    assert answers(tmp_path) == [[101.5] * 3]


def test_a_days_own_file_comes_before_its_months(tmp_path):
    put(tmp_path / TREE / "monthly/klines/BTCUSDT/1m", "BTCUSDT-1m-2026-02", klines(FIRST, FIRST + ONE_DAY, close=100.0))
    put(tmp_path / TREE / "daily/klines/BTCUSDT/1m", "BTCUSDT-1m-2026-02-02", klines(FIRST + ONE_DAY, close=102.0))

    assert answers(tmp_path, days=2) == [[100.0] * 3, [102.0] * 3]


def test_a_day_that_its_month_lacks_is_absent_and_a_daily_file_fills_it(tmp_path):
    put(tmp_path, "BTCUSDT-1m-2026-02", klines(FIRST, FIRST + 3 * ONE_DAY))
    put(tmp_path, "BTCUSDT-1m-2026-02-03", klines(FIRST + 2 * ONE_DAY))

    assert answers(tmp_path, days=4) == [[101.5] * 3, ABSENT, [101.5] * 3, [101.5] * 3]


def test_a_month_covers_its_days_and_no_other(tmp_path):
    put(tmp_path, "BTCUSDT-1m-2026-02", klines(FIRST, FIRST + 27 * ONE_DAY))

    found = answers(tmp_path, start=FIRST - ONE_DAY, days=31)

    assert found[0] is ABSENT
    assert found[1] == found[28] == [101.5] * 3
    assert found[2:28] == [ABSENT] * 26
    assert found[29:] == [NOT_YET, NOT_YET]


def test_days_before_and_between_files_are_absent_and_days_after_the_last_are_not_yet(tmp_path):
    for number in (1, 3):
        day = FIRST + number * ONE_DAY
        put(tmp_path, f"BTCUSDT-1m-{day}", klines(day))

    assert answers(tmp_path, days=6) == [ABSENT, [101.5] * 3, ABSENT, [101.5] * 3, NOT_YET, NOT_YET]


def test_each_symbol_has_its_own_last_day(tmp_path):
    put(tmp_path, "BTCUSDT-1m-2026-02-01", klines(FIRST))
    put(tmp_path, "ETHUSDT-1m-2026-02-02", klines(FIRST + ONE_DAY, close=100.0))

    assert answers(tmp_path, days=2) == [[101.5] * 3, NOT_YET]
    assert answers(tmp_path, "ETHUSDT", days=2) == [ABSENT, [100.0] * 3]


@pytest.mark.parametrize(
    "other",
    [
        f"{TREE}/daily/markPriceKlines/BTCUSDT/1m",
        f"{TREE}/daily/indexPriceKlines/BTCUSDT/1m",
        f"{TREE}/daily/premiumIndexKlines/BTCUSDT/1m",
        "data/spot/daily/klines/BTCUSDT/1m",
        "data/futures/cm/daily/klines/BTCUSDT/1m",
    ],
)
def test_other_data_of_the_same_file_names_are_left_alone(tmp_path, other):
    put(tmp_path / other, "BTCUSDT-1m-2026-02-01", klines(FIRST, close=999.0))
    assert str(answers(tmp_path)[0]).startswith("BTCUSDT: no 1m klines in ")

    put(tmp_path / TREE / "daily/klines/BTCUSDT/1m", "BTCUSDT-1m-2026-02-01", klines(FIRST))

    assert answers(tmp_path) == [[101.5] * 3]


def test_a_folder_whose_own_path_holds_such_a_name_is_read(tmp_path):
    put(tmp_path / "spot", "BTCUSDT-1m-2026-02-01", klines(FIRST))

    assert answers(tmp_path / "spot") == [[101.5] * 3]


@pytest.mark.parametrize("name", ["BTCUSDT-5m-2026-02-01", "BTCUSDT-aggTrades-2026-02-01", "BTCUSDT-1m-2026-02-01 (1)", "notes"])
def test_other_files_are_left_alone(tmp_path, name):
    put(tmp_path, name, klines(FIRST, close=999.0))
    put(tmp_path, "BTCUSDT-1m-2026-02-01", klines(FIRST))

    assert answers(tmp_path) == [[101.5] * 3]


def test_microseconds_become_milliseconds(tmp_path):
    put(tmp_path, "BTCUSDT-1m-2026-02-01", klines(FIRST, unit=1000))

    table = one_day(tmp_path)

    assert table["open_time_ms"].to_pylist() == [day_start_ms(FIRST) + minute * 60_000 for minute in range(3)]
    assert table["event_time"][0].as_py() == dt.datetime(2026, 2, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize("units", [(1, 1000), (1000, 1)])
def test_mixed_units_are_refused(tmp_path, units):
    text = "".join(klines(FIRST + n * ONE_DAY, header=False, unit=unit) for n, unit in enumerate(units))
    put(tmp_path, "BTCUSDT-1m-2026-02", text)

    assert answers(tmp_path) == ["BTCUSDT-1m-2026-02.zip: open_time mixes milliseconds and microseconds. Get the file again."]


def test_a_time_in_microseconds_that_is_no_whole_millisecond_is_refused(tmp_path):
    text = klines(FIRST, unit=1000).replace(f"\n{day_start_ms(FIRST)}000,", f"\n{day_start_ms(FIRST)}001,")
    put(tmp_path, "BTCUSDT-1m-2026-02-01", text)

    (found,) = answers(tmp_path)

    assert isinstance(found, str)
    assert found.startswith("BTCUSDT")


def test_rows_in_any_order_are_sorted(tmp_path):
    lines = klines(FIRST, header=False).splitlines()
    put(tmp_path, "BTCUSDT-1m-2026-02-01", "\n".join(reversed(lines)))

    assert one_day(tmp_path)["open_time_ms"].to_pylist() == [day_start_ms(FIRST) + minute * 60_000 for minute in range(3)]


def test_lines_may_end_as_on_windows(tmp_path):
    put(tmp_path, "BTCUSDT-1m-2026-02-01", klines(FIRST).replace("\n", "\r\n"))

    assert answers(tmp_path) == [[101.5] * 3]


def test_rows_of_another_day_in_a_days_file_are_left_out(tmp_path):
    put(tmp_path, "BTCUSDT-1m-2026-02-01", klines(FIRST, FIRST + ONE_DAY))

    assert one_day(tmp_path).num_rows == 3
    assert answers(tmp_path, days=2) == [[101.5] * 3, NOT_YET]


def test_duplicate_rows_are_kept_for_the_rules_to_find(tmp_path):
    put(tmp_path, "BTCUSDT-1m-2026-02-01", klines(FIRST) + klines(FIRST, header=False))

    assert [violation.rule for violation in violations(one_day(tmp_path), FIRST)] == ["one row a minute"]


def test_a_checksum_that_holds_is_no_obstacle(tmp_path):
    put_checksum(put(tmp_path, "BTCUSDT-1m-2026-02-01", klines(FIRST)))

    assert answers(tmp_path) == [[101.5] * 3]


def test_a_checksum_that_does_not_hold_names_the_file_and_both_sums(tmp_path):
    path = put(tmp_path, "BTCUSDT-1m-2026-02-01", klines(FIRST))
    put_checksum(path, "0" * 64)

    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert answers(tmp_path) == [f"{path.name}: SHA-256 is {found}, {path.name}.CHECKSUM says {'0' * 64}. Get the file again."]


def test_an_empty_checksum_file_does_not_pass(tmp_path):
    path = put(tmp_path, "BTCUSDT-1m-2026-02-01", klines(FIRST))
    path.with_name(f"{path.name}.CHECKSUM").touch()

    assert str(answers(tmp_path)[0]).startswith(f"{path.name}: SHA-256 is ")


def test_a_truncated_zip_is_named(tmp_path):
    path = put(tmp_path, "BTCUSDT-1m-2026-02-01", klines(FIRST))
    path.write_bytes(path.read_bytes()[:-30])

    assert answers(tmp_path) == [f"{path.name}: not readable as a zip: File is not a zip file. Get it again."]


def test_a_zip_of_no_bytes_is_named(tmp_path):
    (tmp_path / "BTCUSDT-1m-2026-02-01.zip").touch()

    assert str(answers(tmp_path)[0]).startswith("BTCUSDT-1m-2026-02-01.zip: not readable as a zip: ")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damage_inside_a_zip_is_named(tmp_path, compression):
    path = tmp_path / "BTCUSDT-1m-2026-02-01.zip"
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("BTCUSDT-1m-2026-02-01.csv", klines(FIRST, minutes=200))
    damaged = bytearray(path.read_bytes())
    damaged[80:120] = b"\xff" * 40
    path.write_bytes(damaged)

    assert str(answers(tmp_path)[0]).startswith(f"{path.name}: not readable as a zip: ")


def test_a_zip_with_a_password_is_named(tmp_path):
    path = put(tmp_path, "BTCUSDT-1m-2026-02-01", klines(FIRST))
    locked = bytearray(path.read_bytes())
    locked[6] |= 1  # the flag of the local header, then of the central directory: encrypted
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(locked)

    assert str(answers(tmp_path)[0]).startswith(f"{path.name}: not readable as a zip: ")


@pytest.mark.parametrize("bit", [0x01, 0x08, 0x80])
def test_whichever_byte_of_a_zip_is_damaged_the_day_is_bars_or_an_error_of_its_own(tmp_path, bit):
    path = put(tmp_path, "BTCUSDT-1m-2026-02-01", klines(FIRST))
    whole = path.read_bytes()
    refused = 0

    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :])
        (found,) = answers(tmp_path)
        assert found == [101.5] * 3 or str(found).startswith(path.name)
        refused += found != [101.5] * 3

    assert refused > len(whole) / 2


@pytest.mark.parametrize("files", [{}, {"a.csv": klines(FIRST), "b.csv": klines(FIRST)}], ids=["none", "two"])
def test_a_zip_of_not_one_file_is_named_with_what_it_holds(tmp_path, files):
    with zipfile.ZipFile(tmp_path / "BTCUSDT-1m-2026-02-01.zip", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)

    (found,) = answers(tmp_path)

    assert str(found).startswith("BTCUSDT-1m-2026-02-01.zip")
    assert f"holds {len(files)} files ({', '.join(files)})" in str(found)


@pytest.mark.parametrize(
    "text",
    [
        "1769904000000,100.5,102.25,99.75,101.5,12.5\n",
        klines(FIRST, header=False).replace(",0\n", ",0,0\n"),
        "open_time,open,high,low,close\n1769904000000,1,2,0.5,1\n",
        klines(FIRST).replace("101.5", "n/a?"),
        klines(FIRST) + "1769904300000,100.5\n",
        "",
    ],
    ids=["few", "many", "other header", "no number", "torn last row", "empty"],
)
def test_a_file_that_holds_no_klines_is_named_with_the_columns_expected(tmp_path, text):
    put(tmp_path, "BTCUSDT-1m-2026-02-01", text)

    (found,) = answers(tmp_path)

    assert str(found).startswith("BTCUSDT-1m-2026-02-01.zip: not a kline file of 12 columns (open_time, open, high, low, close, ")


def test_a_bad_file_does_not_end_the_days_after_it(tmp_path):
    for number in range(3):
        put(tmp_path, f"BTCUSDT-1m-{FIRST + number * ONE_DAY}", klines(FIRST + number * ONE_DAY))
    (tmp_path / "BTCUSDT-1m-2026-02-02.zip").write_bytes(b"PK torn")

    found = answers(tmp_path, days=4)

    assert found[0] == found[2] == [101.5] * 3
    assert str(found[1]).startswith("BTCUSDT-1m-2026-02-02.zip: ")
    assert found[3] is NOT_YET


def test_a_bad_month_fails_on_each_of_its_days(tmp_path):
    (tmp_path / "BTCUSDT-1m-2026-02.zip").write_bytes(b"PK torn")

    found = answers(tmp_path, days=3)

    assert [str(error).split(":")[0] for error in found] == ["BTCUSDT-1m-2026-02.zip"] * 3


def test_an_unknown_symbol_is_named_with_those_that_are_there(tmp_path):
    put(tmp_path / "klines", "ETHUSDT-1m-2026-02-01", klines(FIRST))
    put(tmp_path / "klines", "BTCUSDT-1m-2026-02-01", klines(FIRST))
    expected = "SOLUSDT: no 1m klines in klines; found BTCUSDT, ETHUSDT. Check SYMBOLS or get the files."

    assert answers(tmp_path / "klines", "SOLUSDT", days=2) == [expected] * 2
    with pytest.raises(SourceError, match=r"^SOLUSDT: no 1m klines in klines; found BTCUSDT, ETHUSDT."):
        BinanceSource(tmp_path / "klines").fingerprint("SOLUSDT", FIRST)


def test_a_folder_without_klines_says_so(tmp_path):
    assert "found no symbol at all" in str(answers(tmp_path)[0])


def test_a_months_file_is_parsed_once_for_its_days(tmp_path, monkeypatch):
    parsed: list[str] = []
    parse = binance_module._read_klines
    monkeypatch.setattr(binance_module, "_read_klines", lambda path: parsed.append(path.name) or parse(path))
    put(tmp_path, "BTCUSDT-1m-2026-02", klines(*(FIRST + n * ONE_DAY for n in range(28))))
    put(tmp_path, "BTCUSDT-1m-2026-02-10", klines(FIRST + 9 * ONE_DAY))
    put(tmp_path, "BTCUSDT-1m-2026-03", klines(dt.date(2026, 3, 1)))

    assert answers(tmp_path, days=29) == [[101.5] * 3] * 29
    assert parsed == ["BTCUSDT-1m-2026-02.zip", "BTCUSDT-1m-2026-02-10.zip", "BTCUSDT-1m-2026-03.zip"]


def test_the_fingerprint_is_the_sum_of_the_file_that_the_day_is_read_from(tmp_path):
    month = put(tmp_path, "BTCUSDT-1m-2026-02", klines(FIRST, FIRST + ONE_DAY))
    day = put(tmp_path, "BTCUSDT-1m-2026-02-02", klines(FIRST + ONE_DAY))
    source = BinanceSource(tmp_path)

    assert source.fingerprint("BTCUSDT", FIRST) == hashlib.sha256(month.read_bytes()).hexdigest()
    assert source.fingerprint("BTCUSDT", FIRST + ONE_DAY) == hashlib.sha256(day.read_bytes()).hexdigest()
    assert source.fingerprint("BTCUSDT", dt.date(2026, 3, 1)) == "none"


def test_the_fingerprint_changes_with_the_file_and_not_with_its_place(tmp_path):
    def fingerprint(folder: str) -> str:
        return BinanceSource(tmp_path / folder).fingerprint("BTCUSDT", FIRST)

    path = put(tmp_path / "a", "BTCUSDT-1m-2026-02-01", klines(FIRST))
    (tmp_path / "b/deeper").mkdir(parents=True)
    (tmp_path / "b/deeper" / path.name).write_bytes(path.read_bytes())
    put(tmp_path / "c", "BTCUSDT-1m-2026-02-01", klines(FIRST, close=101.25))

    assert fingerprint("a") == fingerprint("b")
    assert fingerprint("a") != fingerprint("c")


@real_data
@pytest.mark.parametrize("symbol", ["AVAXUSDT", "LINKUSDT", "LTCUSDT", "NEARUSDT"])
def test_a_real_month_of_futures_is_sound_and_complete(symbol):
    source = BinanceSource(Path(REAL) / "binance_um_klines")

    answer = dict(read_days(source, symbol, dt.date(2026, 1, 31), dt.date(2026, 3, 2)))

    assert answer.pop(dt.date(2026, 1, 31)) is ABSENT
    assert answer.pop(dt.date(2026, 3, 1)) is NOT_YET
    assert len(answer) == 28
    for day, table in answer.items():
        assert violations(table, day) == []
        assert distinct_minutes(table) == table.num_rows == 1440


@real_data
def test_the_first_real_bar_of_link_has_the_values_of_its_line():
    source = BinanceSource(Path(REAL) / "binance_um_klines")

    ((_, table),) = read_days(source, "LINKUSDT", FIRST, FIRST + ONE_DAY)

    first = table.slice(0, 1).to_pylist()[0]
    assert first.pop("taker_sell_volume") == pytest.approx(24464.35 - 9388.60)
    assert {name: value for name, value in first.items() if value is not None} == {
        "event_time": dt.datetime(2026, 2, 1, tzinfo=dt.UTC),
        "open_time_ms": 1769904000000,
        "open": 9.982,
        "high": 9.990,
        "low": 9.974,
        "close": 9.987,
        "volume": 24464.35,
        "taker_buy_volume": 9388.60,
    }


@real_data
def test_real_headerless_days_with_their_checksums_are_read():
    source = BinanceSource(Path(REAL) / "binance_spot_checksum")

    answer = dict(read_days(source, "BTCUSDT", dt.date(2020, 1, 1), dt.date(2020, 1, 5)))

    assert answer.pop(dt.date(2020, 1, 4)) is NOT_YET
    assert [(day.day, table.num_rows, violations(table, day)) for day, table in answer.items()] == [
        (1, 1440, []),
        (2, 1440, []),
        (3, 1440, []),
    ]
    first = answer[dt.date(2020, 1, 1)].slice(0, 1).to_pylist()[0]
    assert (first["open"], first["close"], first["volume"]) == (7195.24, 7186.68, 51.642812)
    assert (
        source.fingerprint("BTCUSDT", dt.date(2020, 1, 1)) == "dd579c62368ded93d3f01a1904575b932279e32936e181c062763e605793c1c2"
    )


@real_data
def test_one_bit_of_a_real_file_that_flips_is_found_by_its_checksum(tmp_path):
    folder = Path(REAL) / "binance_spot_checksum"
    name = "BTCUSDT-1m-2020-01-01.zip"
    flipped = bytearray((folder / name).read_bytes())
    flipped[-1] ^= 1
    (tmp_path / name).write_bytes(flipped)
    (tmp_path / f"{name}.CHECKSUM").write_bytes((folder / f"{name}.CHECKSUM").read_bytes())

    (found,) = answers(tmp_path, start=dt.date(2020, 1, 1))

    assert str(found).startswith(f"{name}: SHA-256 is ")
