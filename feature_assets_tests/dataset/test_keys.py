"""Partition keys: what is one, and that nothing else becomes a path."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_assets.dataset.keys import Key, dates
from feature_assets.dataset.store import FEATURE_FRAME, REPLAY, SYMBOL_FEATURES, Store
from feature_assets.errors import PartitionKeyError

DAY = dt.date(2026, 2, 1)
SYMBOLS = st.from_regex(r"[A-Z0-9][A-Z0-9_-]{0,39}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("2026-02-01", Key(DAY)),
        ("2026-02-01|BTCUSDT", Key(DAY, "BTCUSDT")),
        ("2026-02-01|1000PEPE_USD-260327", Key(DAY, "1000PEPE_USD-260327")),
        ("0001-01-01|A", Key(dt.date(1, 1, 1), "A")),
        ("2024-02-29", Key(dt.date(2024, 2, 29))),
    ],
)
def test_a_key_is_written_as_it_is_read(text, key):
    assert Key.parse(text) == key
    assert str(key) == text


@settings(max_examples=100, deadline=None)
@given(date=st.dates(), symbol=st.none() | SYMBOLS)
def test_every_key_comes_back_from_its_text(date, symbol):
    assert Key.parse(str(Key(date, symbol))) == Key(date, symbol)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "|",
        "2026-02-01|",
        "|BTCUSDT",
        "BTCUSDT",
        "BTCUSDT|2026-02-01",
        "2026-02-01|btcusdt",
        "2026-02-01|BTC/USDT",
        "2026-02-01|../../etc/passwd",
        "2026-02-01|..",
        "2026-02-01|.",
        "2026-02-01|BTC.P",
        "2026-02-01|BTC|ETH",
        "2026-02-01|BTC\\USDT",
        "2026-02-01|BTC\x00",
        "2026-02-01|BTC\n",
        "2026-02-01|\nBTC",
        "2026-02-01\n|BTC",
        "2026-02-01\n",
        " 2026-02-01",
        "2026-02-01 |BTC",
        "2026-02-01|-BTC",
        "2026-02-01|_BTC",
        "2026-02-01|BTC USDT",
        "2026-02-01|\N{GREEK CAPITAL LETTER BETA}TC",
        "2026-02-01|BTC٣",
        "2026-02-01|" + "A" * 41,
        "202\N{ARABIC-INDIC DIGIT SIX}-02-01",
        "2026-0\N{FULLWIDTH DIGIT TWO}-01|BTC",
        "2026-2-1",
        "20260201",
        "2026-W05-7",
        "2026-02-30",
        "2025-02-29",
        "2026-13-01",
        "0000-01-01",
        "10000-01-01",
        "2026-02-01T00:00",
        "../2026-02-01",
        "2026-02-01/..",
        "date=2026-02-01",
    ],
)
def test_what_is_no_key_is_refused_and_shown(text):
    with pytest.raises(PartitionKeyError) as caught:
        Key.parse(text)
    assert str(caught.value) == (
        f"partition key {text!r} is neither a date (2026-02-01) nor a date and a symbol (2026-02-01|BTCUSDT)."
    )


@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=20) | st.text("0123456789-|./\\\nA", max_size=20).map("2026-02-01|{}".format))
def test_any_text_is_a_key_that_is_written_just_so_or_is_refused(text):
    try:
        key = Key.parse(text)
    except PartitionKeyError:
        return
    assert str(key) == text
    assert Store.partition_file(FEATURE_FRAME if key.symbol is None else REPLAY, key).count("/") == (
        2 if key.symbol is None else 3
    )


def test_keys_sort_by_date_and_then_symbol():
    keys = [Key(dt.date(2026, 2, 2), "A"), Key(DAY, "B"), Key(DAY, "A")]
    assert list(map(str, sorted(keys))) == ["2026-02-01|A", "2026-02-01|B", "2026-02-02|A"]


def test_a_partitions_file_follows_from_its_key():
    assert Store.partition_file(REPLAY, Key(DAY, "BTCUSDT")) == "replay/symbol=BTCUSDT/date=2026-02-01/part-0.parquet"
    assert Store.partition_file(FEATURE_FRAME, Key(DAY)) == "feature_frame/date=2026-02-01/part-0.parquet"


@pytest.mark.parametrize(
    ("asset", "key"), [(REPLAY, Key(DAY)), (SYMBOL_FEATURES, Key(DAY)), (FEATURE_FRAME, Key(DAY, "BTCUSDT"))]
)
def test_a_key_of_another_kind_of_asset_has_no_file(asset, key):
    with pytest.raises(PartitionKeyError, match=f"{asset} has no partition {key}".replace("|", r"\|")):
        Store.partition_file(asset, key)


@pytest.mark.parametrize("symbol", ["../../../outside", "..", "a/b", "", "btc"])
def test_a_key_that_was_not_parsed_is_held_to_the_same_rule_before_it_becomes_a_path(symbol):
    with pytest.raises(PartitionKeyError):
        Store.partition_file(REPLAY, Key(DAY, symbol))


def test_dates_are_half_open():
    assert list(dates(dt.date(2026, 2, 27), dt.date(2026, 3, 2))) == [
        dt.date(2026, 2, 27),
        dt.date(2026, 2, 28),
        dt.date(2026, 3, 1),
    ]
    assert list(dates(DAY, DAY)) == []
    assert list(dates(DAY, DAY - dt.timedelta(days=1))) == []
