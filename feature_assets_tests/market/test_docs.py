"""The examples of docs/sources.md run as they stand there."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_assets.errors import SourceError
from feature_assets.market.bars import REPLAY_COLUMNS, REPLAY_SCHEMA, violations
from feature_assets.market.sources import ABSENT, NOT_YET, load_source, read_days
from feature_assets.market.sources.load import LoadedSource
from feature_assets.market.sources.parquet import ParquetSource
from feature_assets.market.sources.synthetic import SyntheticSource

DOCUMENT = Path(__file__).parents[2] / "docs" / "sources.md"
FIRST = dt.date(2026, 2, 1)
ONE_DAY = dt.timedelta(days=1)
SYMBOL = "BTCUSDT"


def example(words: str) -> str:
    """The one fenced Python example that holds these words."""
    blocks = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if words in block]
    return found


@pytest.fixture
def csv_folder(tmp_path, monkeypatch) -> Path:
    """Days 1, 2 and 4 of a symbol as CSV files; the second is torn and the third is not there."""
    folder = tmp_path / "my-bars"
    (folder / SYMBOL).mkdir(parents=True)
    for number in (0, 3):
        day = FIRST + number * ONE_DAY
        bars = SyntheticSource().day(SYMBOL, day).to_pandas()
        kept = ["open_time_ms", "open", "high", "low", "close", "volume", "taker_buy_volume", "taker_sell_volume"]
        bars[kept].to_csv(folder / SYMBOL / f"{day}.csv", index=False)
    (folder / SYMBOL / "2026-02-02.csv").write_text("open_time_ms,close\n1769990400000,1\n1,2,3,4\n")
    monkeypatch.setenv("MY_BARS", str(folder))
    return folder


@pytest.fixture
def own_source(tmp_path, monkeypatch) -> Iterator[LoadedSource]:
    (tmp_path / "documented_source.py").write_text(example("class CsvFolder"))
    monkeypatch.syspath_prepend(tmp_path)
    yield load_source("python:documented_source:CsvFolder")
    sys.modules.pop("documented_source", None)


def test_a_source_of_ones_own_takes_at_most_thirty_lines():
    assert len(example("class CsvFolder").splitlines()) <= 30


def test_the_documented_source_is_loaded_by_its_setting(own_source):
    assert (own_source.kind, own_source.identity) == ("python", "documented_source:CsvFolder")


def test_the_documented_source_answers_all_that_a_source_can(own_source, csv_folder):
    start = FIRST - ONE_DAY

    answers = dict(read_days(own_source.source, SYMBOL, start, start + 7 * ONE_DAY))

    assert list(answers) == [start + number * ONE_DAY for number in range(7)]
    before, first, torn, missing, fourth, *after = answers.values()
    assert before is missing is ABSENT
    assert after == [NOT_YET, NOT_YET]
    assert isinstance(torn, SourceError)
    assert str(torn).startswith("2026-02-02.csv: not readable as bars: ParserError(")
    assert (first.num_rows, fourth.num_rows) == (1440, 1440)


def test_the_documented_source_gives_sound_bars_with_the_values_of_the_file_and_nulls_beside_them(own_source, csv_folder):
    ((_, table),) = read_days(own_source.source, SYMBOL, FIRST, FIRST + ONE_DAY)

    there = [
        "event_time",
        "open_time_ms",
        "open",
        "high",
        "low",
        "close",
        "volume",
        "taker_buy_volume",
        "taker_sell_volume",
    ]
    assert table.schema == REPLAY_SCHEMA
    assert violations(table, FIRST) == []
    assert table.select(there).equals(SyntheticSource().day(SYMBOL, FIRST).select(there))
    assert {table[name].null_count for name in REPLAY_COLUMNS if name not in there} == {1440}


@pytest.mark.parametrize("text", ["", "open_time,close\n1,2\n", "open_time_ms,close\nyesterday,2\n"])
def test_the_documented_source_names_a_file_that_holds_no_bars(own_source, csv_folder, text):
    (csv_folder / SYMBOL / "2026-02-01.csv").write_text(text)

    ((_, error),) = read_days(own_source.source, SYMBOL, FIRST, FIRST + ONE_DAY)

    assert isinstance(error, SourceError)
    assert str(error).startswith("2026-02-01.csv: not readable as bars: ")


def test_the_documented_source_has_the_files_sum_as_its_fingerprint(own_source, csv_folder):
    file = csv_folder / SYMBOL / "2026-02-01.csv"

    assert own_source.source.fingerprint(SYMBOL, FIRST) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert own_source.source.fingerprint(SYMBOL, FIRST - ONE_DAY) == "none"
    file.write_text(file.read_text().replace("1769904000000", "1769904000001"))
    assert own_source.source.fingerprint(SYMBOL, FIRST) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_documented_rewrite_makes_a_table_that_reads_well(tmp_path, monkeypatch):
    symbols, days = ("BTCUSDT", "ETHUSDT"), 40
    for symbol in symbols:
        (tmp_path / "bars" / f"symbol={symbol}").mkdir(parents=True)
        table = pa.concat_tables([SyntheticSource().day(symbol, FIRST + n * ONE_DAY) for n in reversed(range(days))])
        pq.write_table(table, tmp_path / "bars" / f"symbol={symbol}" / "part-0.parquet")
    monkeypatch.chdir(tmp_path)

    exec(compile(example("row_group_size"), str(DOCUMENT), "exec"), {})

    groups = ParquetSource(tmp_path / "replay.parquet").row_groups
    assert pq.read_metadata("replay.parquet").num_row_groups == len(groups) == 2
    assert groups[0].times[1] <= groups[1].times[0]
    for symbol in symbols:
        answers = list(read_days(ParquetSource(tmp_path / "replay.parquet"), symbol, FIRST, FIRST + days * ONE_DAY))
        assert all(answer.equals(SyntheticSource().day(symbol, day)) for day, answer in answers)
        assert len(answers) == days


def test_every_replay_column_and_every_kind_of_source_is_documented():
    text = DOCUMENT.read_text(encoding="utf-8")

    assert [name for name in REPLAY_COLUMNS if not re.search(rf"\b{name}\b", text)] == []
    assert [kind for kind in ("synthetic", "parquet", "binance", "python") if f"| `{kind}" not in text] == []
