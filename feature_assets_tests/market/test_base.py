"""How the graph takes days from a source, and how the SOURCE setting becomes one."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable, Iterator

import pytest

from feature_assets.errors import SettingError, SourceError
from feature_assets.market.bars import empty_table
from feature_assets.market.sources import ABSENT, NOT_YET, each_day, load_source, read_days
from feature_assets.market.sources.synthetic import SyntheticSource

FIRST = dt.date(2026, 2, 1)
DAYS = [FIRST + dt.timedelta(days=number) for number in range(4)]
END = FIRST + dt.timedelta(days=4)
BARS = SyntheticSource().day("BTCUSDT", FIRST)


class Scripted:
    """A source whose iter_days is the function that a test gives."""

    def __init__(self, days: Callable[[dt.date, dt.date], Iterator]) -> None:
        self._days = days
        self.asked: list[tuple[dt.date, dt.date]] = []

    def iter_days(self, symbol: str, start: dt.date, end: dt.date) -> Iterator:
        self.asked.append((start, end))
        return self._days(start, end)

    def fingerprint(self, symbol: str, date: dt.date) -> str:
        return "scripted"


def answering(*pairs: tuple[dt.date, object]) -> Scripted:
    return Scripted(lambda start, end: iter(pairs))


def broken_on(*bad: dt.date) -> Callable[[dt.date], object]:
    def read(day: dt.date) -> object:
        if day in bad:
            raise SourceError(f"{day} is torn")
        return BARS

    return read


def in_words(source: Scripted) -> list[str]:
    """The answers for DAYS: the number of rows, the availability, or the error's text."""
    words = []
    for expected, (day, answer) in zip(DAYS, read_days(source, "BTCUSDT", FIRST, END), strict=True):
        assert day == expected
        words.append(str(answer) if isinstance(answer, SourceError) else getattr(answer, "value", None) or f"{len(answer)} rows")
    return words


def test_bars_absent_and_not_yet_come_through_in_date_order():
    source = answering((DAYS[0], BARS), (DAYS[1], ABSENT), (DAYS[2], BARS.to_pandas()), (DAYS[3], NOT_YET))

    answers = list(read_days(source, "BTCUSDT", FIRST, END))

    assert [day for day, _ in answers] == DAYS
    assert answers[0][1].equals(BARS)
    assert answers[1][1] is ABSENT
    assert answers[2][1].equals(BARS)
    assert answers[3][1] is NOT_YET


def test_bars_of_no_rows_are_bars_and_not_an_absence():
    ((_, answer),) = read_days(answering((FIRST, empty_table())), "BTCUSDT", FIRST, DAYS[1])

    assert answer.equals(empty_table())


def test_a_range_without_days_gives_none():
    assert list(read_days(answering(), "BTCUSDT", FIRST, FIRST)) == []


def test_an_iterator_that_goes_on_after_an_error_is_not_asked_anew():
    source = Scripted(lambda start, end: each_day(start, end, broken_on(DAYS[1], DAYS[3])))

    assert in_words(source) == ["1440 rows", "2026-02-02 is torn", "1440 rows", "2026-02-04 is torn"]
    assert source.asked == [(FIRST, END)]


def test_a_generator_that_ends_by_raising_is_asked_anew_from_the_next_day():
    def generator(start: dt.date, end: dt.date) -> Iterator:
        read = broken_on(DAYS[0], DAYS[1], DAYS[3])
        for day in DAYS[DAYS.index(start) :]:
            yield day, read(day)

    source = Scripted(generator)

    assert in_words(source) == ["2026-02-01 is torn", "2026-02-02 is torn", "1440 rows", "2026-02-04 is torn"]
    assert source.asked[:3] == [(DAYS[0], END), (DAYS[1], END), (DAYS[2], END)]


def test_each_day_reads_a_day_when_it_is_taken_and_no_sooner():
    read: list[dt.date] = []
    days = each_day(FIRST, END, lambda day: read.append(day) or ABSENT)

    assert read == []
    assert next(days) == (DAYS[0], ABSENT)
    assert read == DAYS[:1]
    assert list(days) == [(day, ABSENT) for day in DAYS[1:]]
    assert list(days) == []


def test_each_day_goes_on_after_a_day_that_raised():
    days = each_day(FIRST, END, broken_on(DAYS[0]))

    with pytest.raises(SourceError, match="2026-02-01 is torn"):
        next(days)
    assert next(days)[0] == DAYS[1]


def test_the_source_is_asked_when_its_days_are_and_not_when_the_first_is_taken():
    source = answering()

    read_days(source, "BTCUSDT", FIRST, END)

    assert source.asked == [(FIRST, END)]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([(DAYS[1], BARS)], "BTCUSDT: the source gave 2026-02-02 where 2026-02-01 was due; expected every date in order."),
        ([(DAYS[0], BARS), (DAYS[0], BARS)], "BTCUSDT: the source gave 2026-02-01 where 2026-02-02 was due"),
        ([(DAYS[0], BARS), (DAYS[2], BARS)], "BTCUSDT: the source gave 2026-02-03 where 2026-02-02 was due"),
        ([(dt.datetime(2026, 2, 1, tzinfo=dt.UTC), BARS)], "BTCUSDT: the source gave 2026-02-01 00:00:00"),
        ([], "BTCUSDT: the source ended before 2026-02-01; expected every date of 2026-02-01..2026-02-05."),
        ([(DAYS[0], BARS), (DAYS[1], NOT_YET)], "BTCUSDT: the source ended before 2026-02-03"),
    ],
)
def test_a_source_that_breaks_its_interface_is_told_so(pairs, message):
    with pytest.raises(SourceError) as error:
        list(read_days(answering(*pairs), "BTCUSDT", FIRST, END))

    assert str(error.value).startswith(message)


def test_an_iterator_that_is_over_after_its_error_ended_early():
    source = Scripted(lambda start, end: map(broken_on(FIRST), iter([FIRST])))

    answers = read_days(source, "BTCUSDT", FIRST, END)

    assert str(next(answers)[1]) == "2026-02-01 is torn"
    with pytest.raises(SourceError, match="the source ended before 2026-02-02"):
        next(answers)


def test_bars_that_lack_a_column_are_an_error_of_their_day_alone():
    source = answering((DAYS[0], BARS), (DAYS[1], BARS.drop_columns("close")), (DAYS[2], BARS), (DAYS[3], ABSENT))

    words = in_words(source)

    assert words[1].startswith("BTCUSDT 2026-02-02: missing column(s) close; expected all of event_time, open_time_ms, open")
    assert words[0::2] == ["1440 rows", "1440 rows"]
    assert words[3] == "absent"


@pytest.mark.parametrize("answer", [None, {"close": [1.0]}, "bars"])
def test_an_answer_that_is_no_table_is_an_error_that_names_symbol_and_day(answer):
    ((_, error),) = read_days(answering((FIRST, answer)), "BTCUSDT", FIRST, DAYS[1])

    assert isinstance(error, SourceError)
    assert str(error).startswith("BTCUSDT 2026-02-01: ")


def test_an_error_that_is_no_source_error_costs_its_day_alone_and_is_named():
    source = Scripted(lambda start, end: each_day(start, end, lambda day: 1 // (day != FIRST) and NOT_YET))

    answers = [answer for _, answer in read_days(source, "BTCUSDT", FIRST, END)]
    assert str(answers[0]) == (
        f"BTCUSDT {FIRST}: the source raised ZeroDivisionError: integer division or modulo by zero; "
        "expected a SourceError. Mend it."
    )
    assert set(answers[1:]) == {NOT_YET}


def test_synthetic_is_loaded_with_its_seed_as_identity():
    loaded = load_source("synthetic")

    assert (loaded.kind, loaded.identity) == ("synthetic", "seed 7")
    assert isinstance(loaded.source, SyntheticSource)


@pytest.mark.parametrize("kind", ["parquet", "binance"])
def test_a_folder_is_loaded_with_its_name_and_not_its_path_as_identity(kind, tmp_path):
    (tmp_path / "archive").mkdir()

    loaded = load_source(f"{kind}:{tmp_path / 'archive'}")

    assert (loaded.kind, loaded.identity) == (kind, "archive")
    assert loaded.source.iter_days("BTCUSDT", FIRST, END)


def test_a_relative_path_is_under_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "bars.parquet").touch()
    monkeypatch.chdir(tmp_path)

    assert load_source("parquet:bars.parquet").identity == "bars.parquet"


OWN = '''
"""A source of one's own."""
import datetime as dt
from feature_assets.errors import SettingError
from feature_assets.market.sources import ABSENT, each_day

class Nothing:
    def iter_days(self, symbol, start, end):
        return each_day(start, end, lambda day: ABSENT)

    def fingerprint(self, symbol, date):
        return "nothing"

class Half:
    def iter_days(self, symbol, start, end):
        return each_day(start, end, lambda day: ABSENT)

def neither():
    return 5

def refuses():
    raise SettingError("MY_BARS: is not set.")

def needs(folder):
    return Nothing()

number = 5
'''


@pytest.fixture
def own_module(tmp_path, monkeypatch) -> Iterator[str]:
    (tmp_path / "own_source.py").write_text(OWN)
    (tmp_path / "own_source_torn.py").write_text("def broken(:\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_source"
    sys.modules.pop("own_source", None)


def test_a_source_of_ones_own_is_loaded_by_module_and_factory(own_module):
    loaded = load_source(f"python:{own_module}:Nothing")

    assert (loaded.kind, loaded.identity) == ("python", f"{own_module}:Nothing")
    assert list(read_days(loaded.source, "BTCUSDT", FIRST, END)) == [(day, ABSENT) for day in DAYS]
    assert loaded.source.fingerprint("BTCUSDT", FIRST) == "nothing"


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("Missing", "cannot be imported: module 'MODULE' has no attribute 'Missing'."),
        ("", "cannot be imported"),
        ("Half", "has no fingerprint; see docs/sources.md."),
        ("neither", "has no iter_days and no fingerprint; see docs/sources.md."),
        ("refuses", "refused to start: MY_BARS: is not set."),
    ],
)
def test_a_factory_that_makes_no_source_is_named(own_module, factory, message):
    with pytest.raises(SettingError) as error:
        load_source(f"python:{own_module}:{factory}")

    assert str(error.value).startswith("SOURCE: ")
    assert f"python:{own_module}:{factory}" in str(error.value)
    assert message.replace("MODULE", own_module) in str(error.value)


@pytest.mark.parametrize("rest", ["MODULE:number", "MODULE:needs", "MODULE_torn:broken", ".MODULE:Nothing"])
def test_a_factory_that_cannot_be_called_or_imported_is_named(own_module, rest):
    rest = rest.replace("MODULE", own_module)

    with pytest.raises(SettingError, match=f"^SOURCE: .*python:{rest}"):
        load_source(f"python:{rest}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "synthetics",
        "Synthetic",
        "synthetic:5",
        "parquet",
        "parquet:",
        "binance",
        "binance:",
        "python",
        "python:",
        "python:module",
        "python:module:Factory:more",
        "csv:somewhere",
    ],
)
def test_a_text_that_names_no_source_is_shown_with_what_is_expected(text):
    with pytest.raises(SettingError) as error:
        load_source(text)

    expected = "synthetic, parquet:PATH, binance:PATH or python:package.module:Factory"
    assert str(error.value) == f"SOURCE: {text!r} is no source; expected {expected}."


@pytest.mark.parametrize("text", ["parquet:NOWHERE", "binance:NOWHERE"])
def test_a_path_that_is_not_there_is_named(text, tmp_path):
    text = text.replace("NOWHERE", str(tmp_path / "nowhere"))

    with pytest.raises(SettingError) as error:
        load_source(text)

    assert str(error.value).startswith(f"SOURCE: {text} names no file or folder; expected synthetic, ")


@pytest.mark.parametrize("text", ["python:no_such_module_anywhere:Factory", "python::Factory"])
def test_a_module_that_is_not_there_is_named(text):
    with pytest.raises(SettingError) as error:
        load_source(text)

    assert str(error.value).startswith(f"SOURCE: {text} cannot be imported: ")


def test_the_home_of_a_user_that_is_not_there_is_a_wrong_setting():
    with pytest.raises(SettingError, match=r"^SOURCE: parquet:~no-such-user/bars"):
        load_source("parquet:~no-such-user/bars")


def test_a_binance_archive_is_a_folder(tmp_path):
    (tmp_path / "BTCUSDT-1m-2026-02.zip").touch()

    with pytest.raises(SettingError, match=r"^SOURCE: .*BTCUSDT-1m-2026-02.zip"):
        load_source(f"binance:{tmp_path / 'BTCUSDT-1m-2026-02.zip'}")
