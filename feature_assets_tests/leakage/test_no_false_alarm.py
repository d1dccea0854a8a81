"""No false alarm: what the build checks on features and frames lets every sound replay through, however odd its market."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from feature_assets.dataset.feature_frame import FRAME_SCHEMA, _frame
from feature_assets.dataset.keys import Key
from feature_assets.features.build import FeatureOptions, _kept_days, iter_day_features, window_of_day
from feature_assets.leakage.labels import future_returns
from feature_assets.leakage.lookahead import KINDS, cuts, look_ahead
from feature_assets.leakage.splits import split_leaks
from feature_assets.market.bars import INPUT_GROUPS, MINUTE_MS, REPLAY_COLUMNS, REPLAY_SCHEMA, Bars, violations
from feature_assets.market.sources.synthetic import SyntheticSource
from feature_assets.quality.finite import not_finite
from feature_assets.splits.manifest import Split, SplitManifest

REPLAYS = 1000
FIRST = dt.date(2026, 1, 1)
DAYS = 3
PRICES = ("open", "high", "low", "close")
MARKS = ("mark_price", "index_price")
VOLUMES = ("volume", "taker_buy_volume", "taker_sell_volume")
LIQUIDATIONS = ("liquidation_buy_notional_1m", "liquidation_sell_notional_1m")

Columns = dict[str, np.ndarray]
Rng = np.random.Generator


def stretch(rng: Rng, columns: Columns, longest: int = 2 * 1440) -> slice:
    rows = len(columns["close"])
    begin = int(rng.integers(rows - 1))
    return slice(begin, begin + int(rng.integers(1, longest)))


def extreme_bars(rng: Rng, columns: Columns) -> None:
    for row in rng.integers(len(columns["close"]), size=int(rng.integers(1, 6))):
        for name in VOLUMES:
            columns[name][row] *= 1e7
        columns["high"][row] *= 1.0 + rng.random() * 10.0 ** rng.integers(0, 4)
        columns["low"][row] *= rng.random() * 0.999 + 0.001


def flat_stretch(rng: Rng, columns: Columns) -> None:
    rows = stretch(rng, columns)
    for name in PRICES:
        columns[name][rows] = columns["close"][rows.start]
    for name in VOLUMES:
        columns[name][rows] = 0.0
    columns["spread_bps"][rows] = 1.0


def monotone_trend(rng: Rng, columns: Columns) -> None:
    path = float(rng.choice([-1.0, 1.0])) * 10.0 ** rng.uniform(-7, -3)
    close = columns["close"][0] * np.exp(path * np.arange(len(columns["close"])))
    columns["close"][:] = close
    columns["open"][:] = np.append(close[0], close[:-1])
    columns["high"][:], columns["low"][:] = np.maximum(columns["open"], close), np.minimum(columns["open"], close)


def constant_price(rng: Rng, columns: Columns) -> None:
    for name in (*PRICES, *MARKS):
        columns[name][:] = columns["close"][0]


def one_tick_market(rng: Rng, columns: Columns) -> None:
    """The close jumps between a tick and the next one, a good part of the price."""
    tick = columns["close"][0] * 10.0 ** rng.uniform(-6, 0)
    close = columns["close"][0] + tick * rng.integers(2, size=len(columns["close"]))
    columns["close"][:] = close
    columns["open"][:] = np.append(close[0], close[:-1])
    columns["high"][:], columns["low"][:] = np.maximum(columns["open"], close), np.minimum(columns["open"], close)


def crash(rng: Rng, columns: Columns) -> None:
    """The price falls or leaps to another order of magnitude within a minute, and stays there."""
    begin, factor = stretch(rng, columns).start, 10.0 ** rng.uniform(-6, 6)
    for name in (*PRICES, *MARKS):
        columns[name][begin:] *= factor


def tiny_or_huge_prices(rng: Rng, columns: Columns) -> None:
    factor = 10.0 ** float(rng.choice([-300.0, -150.0, -40.0, -9.0, 9.0, 40.0, 150.0, 290.0]))
    for name in (*PRICES, *MARKS):
        columns[name] *= factor


def tiny_or_huge_amounts(rng: Rng, columns: Columns) -> None:
    factor = 10.0 ** float(rng.choice([-300.0, -150.0, -40.0, -9.0, 9.0, 40.0, 150.0, 290.0]))
    for name in (*VOLUMES, *LIQUIDATIONS, "open_interest"):
        columns[name] *= factor


def days_without_volume(rng: Rng, columns: Columns) -> None:
    day = 1440 * int(rng.integers(DAYS))
    for name in VOLUMES:
        columns[name][day : day + 1440 * int(rng.integers(1, DAYS + 1))] = 0.0


def one_sided_flow(rng: Rng, columns: Columns) -> None:
    rows, side = stretch(rng, columns), int(rng.integers(2))
    columns[VOLUMES[1 + side]][rows], columns[VOLUMES[2 - side]][rows] = columns["volume"][rows], 0.0


def constant_funding(rng: Rng, columns: Columns) -> None:
    columns["funding_bps"][:] = float(rng.choice([0.0, 1.0, -75.0]))


def other_funding_hours(rng: Rng, columns: Columns) -> None:
    hours = int(rng.choice([1, 2, 4, 8, 24]))
    period = hours * 60 * MINUTE_MS
    columns["next_funding_time"][:] = (columns["event_time"] // period + 1) * period


def odd_spreads(rng: Rng, columns: Columns) -> None:
    rows = stretch(rng, columns)
    columns["spread_bps"][rows] = float(rng.choice([0.0, 0.1, -0.5, 1e4]))


def missing_group(rng: Rng, columns: Columns) -> None:
    """Nulls in all columns of a group that may be null, in a stretch."""
    group = str(rng.choice([name for name in INPUT_GROUPS if name != "bars"]))
    rows = stretch(rng, columns)
    for name in INPUT_GROUPS[group]:
        columns[name][rows] = np.nan


def missing_values(rng: Rng, columns: Columns) -> None:
    """Single nulls in any column but the times and the prices, the volume's too."""
    for name in rng.choice(REPLAY_COLUMNS[6:], size=3):
        columns[str(name)][rng.integers(len(columns["close"]), size=20)] = np.nan


def no_open_interest(rng: Rng, columns: Columns) -> None:
    columns["open_interest"][stretch(rng, columns)] = float(rng.choice([0.0, -1.0]))


def no_liquidations(rng: Rng, columns: Columns) -> None:
    rows = stretch(rng, columns)
    columns["liquidation_available"][rows] = float(rng.choice([0.0, np.nan]))


def liquidation_burst(rng: Rng, columns: Columns) -> None:
    """Nothing but one huge liquidation, or the same one each minute."""
    rows = stretch(rng, columns, 3)
    for name in LIQUIDATIONS:
        columns[name][:] = float(rng.choice([0.0, 100.0]))
        columns[name][rows] = 10.0 ** rng.uniform(0, 12)


ODDITIES: tuple[Callable[[Rng, Columns], None], ...] = (
    extreme_bars,
    flat_stretch,
    monotone_trend,
    constant_price,
    one_tick_market,
    crash,
    tiny_or_huge_prices,
    tiny_or_huge_amounts,
    days_without_volume,
    one_sided_flow,
    constant_funding,
    other_funding_hours,
    odd_spreads,
    missing_group,
    missing_values,
    no_open_interest,
    no_liquidations,
    liquidation_burst,
)


def gaps(rng: Rng, rows: int) -> np.ndarray:
    """Which rows are there: in a third of the replays a day or some minutes are missing, in some only a few are there."""
    keep = np.ones(rows, dtype=bool)
    kind = rng.integers(9)
    if kind == 0:
        keep[1440 * (day := int(rng.integers(DAYS))) : 1440 * (day + 1)] = False
    elif kind == 1:
        keep[(begin := int(rng.integers(rows))) : begin + int(rng.integers(1, 2000))] = False
    elif kind == 2:
        keep = rng.random(rows) < rng.random() ** 2
    return keep


def sound_replay(seed: int) -> tuple[str, pa.Table, FeatureOptions, list[str]]:
    """A symbol, three random days with one to four oddities, options for them, and the oddities' names."""
    rng = np.random.default_rng([seed, 3])
    symbol = f"S{int(rng.integers(50))}USDT"
    source, start = SyntheticSource(seed), FIRST + dt.timedelta(days=int(rng.integers(400)))
    table = pa.concat_tables([source.day(symbol, start + dt.timedelta(days=day)) for day in range(DAYS)])
    times = [name for name in REPLAY_COLUMNS if pa.types.is_timestamp(REPLAY_SCHEMA.field(name).type)]
    columns = {
        name: (table[name].cast(pa.int64()) if name in times else table[name]).to_numpy().astype(np.float64)
        for name in REPLAY_COLUMNS
    }
    # The replays take turns, so that each oddity comes up; others come with it in no order.
    odd = [ODDITIES[seed % len(ODDITIES)], *rng.choice(np.array(ODDITIES), size=int(rng.integers(4)), replace=False)]
    with np.errstate(over="ignore", under="ignore"):
        for oddity in odd:
            oddity(rng, columns)
    # Several oddities together may leave the numbers that there are.
    for name in (*PRICES, *MARKS):
        columns[name] = np.clip(columns[name], 1e-300, 1e300)
    for name in (*VOLUMES, *LIQUIDATIONS):
        columns[name] = np.minimum(columns[name], 1e300)
    columns["open_interest"] = np.minimum(columns["open_interest"], 1e300)
    keep = gaps(rng, table.num_rows)
    arrays = []
    for name in REPLAY_COLUMNS:
        column_type = REPLAY_SCHEMA.field(name).type
        array = pa.array(columns[name][keep], from_pandas=True)
        arrays.append(array if column_type == pa.float64() else array.cast(pa.int64()).cast(column_type))
    groups = [name for name in INPUT_GROUPS if rng.random() < 0.4]
    options = FeatureOptions(
        optional_groups=tuple(groups) if rng.random() < 0.5 else ("liquidations",),
        allow_incomplete_days=bool(rng.random() < 0.6) or not keep.reshape(DAYS, 1440).all(axis=1).any(),
        gaps="restart" if rng.random() < 0.5 else "bridge",
    )
    return symbol, pa.table(arrays, schema=REPLAY_SCHEMA), options, [oddity.__name__ for oddity in odd]


def random_splits(rng: Rng, days: list[dt.date]) -> SplitManifest:
    """Up to three splits that begin and end at any minute of the days, with embargo and folds."""
    midnight = dt.datetime.combine(days[0], dt.time(), tzinfo=dt.UTC)
    minutes = len(days) * 1440
    bounds = sorted(int(minute) for minute in rng.choice(minutes // 90, size=4, replace=False) * 90)
    at = [midnight + dt.timedelta(minutes=minute) for minute in bounds]
    splits = [Split(*split) for split in zip(("FIT", "TUNE", "VALIDATION_LOCKED"), at[:3], at[1:], strict=True)]
    first = int(rng.integers(4))
    return SplitManifest(splits[first:], embargo_minutes=int(rng.integers(0, 30)), walk_forward_folds=int(rng.integers(1, 3)))


def alarms(seed: int) -> tuple[list[str], dict[str, int]]:
    """What any check says of a sound replay, with its options, and how much was checked."""
    rng = np.random.default_rng([seed, 4])
    symbol, replay, options, odd = sound_replay(seed)
    assert violations(replay) == [], (seed, odd)
    bars, days = _kept_days(Bars.from_table(replay), options)
    found: list[str] = []
    counts = dict.fromkeys(("rows", "OK", "cuts", *KINDS), 0)
    for day in iter_day_features(bars, days, options):
        table = day.table
        found += not_finite(table, options.optional_groups)
        window, first = window_of_day(bars, day.day)
        own = list(cuts(symbol, day.day, table.num_rows, int(rng.integers(2, 4))))
        found += [said for cut in own if (said := look_ahead(window, first, table, cut, options))]
        manifest = random_splits(rng, days)
        frame = _frame([Key(day.day, symbol)], [table], manifest)
        found += split_leaks(frame, FRAME_SCHEMA, manifest)
        found += future_returns(frame)
        counts["rows"] += table.num_rows
        counts["OK"] += table["data_quality_flag"].to_pylist().count("OK")
        counts["cuts"] += len(own)
        for cut in own:
            counts[cut.kind] += 1
    return [f"seed {seed} ({', '.join(odd)}; {options}): {said}" for said in found], counts


@pytest.mark.parametrize("seed", range(len(ODDITIES)), ids=[oddity.__name__ for oddity in ODDITIES])
def test_no_check_says_anything_of_a_sound_replay_with_an_oddity(seed):
    found, counts = alarms(seed)
    assert found == []
    assert counts["rows"]


@pytest.mark.slow
def test_no_check_says_anything_of_1000_sound_replays():
    found: list[str] = []
    total = dict.fromkeys(("rows", "OK", "cuts", *KINDS), 0)
    for seed in range(REPLAYS):
        said, counts = alarms(seed)
        found += said
        total = {name: total[name] + counts[name] for name in total}
    assert found == []
    # That was no empty show: many rows that a model would be given, and every kind of poison.
    assert total["OK"] > total["rows"] // 10
    assert min(total[kind] for kind in KINDS) > REPLAYS
