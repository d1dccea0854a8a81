"""The proofs of one feature on made-up replays: its look-back, its columns, no look-ahead, no history.

The feature's function is asked again and again for the same rows, with the input changed where the declaration says
that it does not matter, and where it says that it does. Values are compared bit for bit in float64; all NaN are one
value. In which process this runs, and what that may touch, is sealed.py's business; what the user is told, prove.py's.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from feature_assets.features.declaration import Feature
from feature_assets.market.bars import DAY_MS, MINUTE_MS, MINUTES_PER_DAY, REPLAY_COLUMNS, Bars, columns_of, day_start_ms
from feature_assets.market.sources.synthetic import SyntheticSource

Columns = Mapping[str, np.ndarray]
Compute = Callable[[Bars], np.ndarray]

RUNS, LOOK_BACK, COLUMNS = "runs", "look-back", "columns"
LOOK_AHEAD, DETERMINISTIC, HISTORY_FREE = "look-ahead", "deterministic", "history-free"

# What is done to a number that is there.
_TO_NUMBERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "huge": lambda values: (np.abs(values) + 1.0) * 1e12,
    "tiny": lambda values: np.where(values == 0, 1.0, values) * 1e-12,
    "negated": lambda values: np.where(values == 0, -1.0, -values),
    "vast": lambda values: np.full(len(values), 1e300),
    "zero": lambda values: np.zeros(len(values)),
}
# And, the strongest first: it becomes null, or what another replay has there.
_CHANGES = ("null", "huge", "other", "tiny", "negated", "vast", "zero")
# No sound replay has a null, zero or negative price, so a function may raise where it meets one.
_UNSOUND = frozenset({"null", "negated", "zero"})

# How much is tried. A value may hide a change at its window's far end (a rank that stays, a maximum elsewhere). So at
# least _FAR_ROWS rows are watched for a change of the row just outside their window, and the search for the farthest row
# that matters goes on, up to _TIMES_LONGER times as long, until the declared one has been seen to.
_CUTS, _WINDOWS, _STARTS, _BLOCKS = 12, 100, 6, 6
_LEAST_ROUNDS, _FAR_ROWS, _TIMES_LONGER, _MOST_BLAMED = 12, 120, 5, 8
_NOT_AHEAD = "read rows up to the row itself alone"
_MOVES_IN_WEEKS = (1, -523, 417)
_SEED = 20


@dataclass(frozen=True)
class Replay:
    """A made-up replay's columns, as columns_of gives them; rows are more than `slack` minutes apart."""

    name: str
    columns: Columns
    slack: int

    def __len__(self) -> int:
        return len(self.columns["event_time"])

    def rows(self, start: int, stop: int) -> Replay:
        return Replay(self.name, {name: values[start:stop] for name, values in self.columns.items()}, self.slack)


@dataclass
class Findings:
    """What the proofs of a feature found.

    observed: the largest distance, in rows, at which a change of the input moved a value; None where none did.
    at_least: the replay ended there. wrong: a sentence for each proof that does not hold. unproven: there was no sense
    in going on, as the feature raises or gives other values each time.
    """

    observed: int | None = None
    at_least: bool = False
    wrong: dict[str, str] = field(default_factory=dict)
    unproven: bool = False


class _Sighting(NamedTuple):
    """A row that moved a value too far on: how far, whether the replay ended there, and in words."""

    distance: int
    at_least: bool
    example: str


def rows_for(longest: int) -> int:
    """Rows of the replays for a longest look-back: the days that it fills and six more, as many as a day's window has."""
    return (-(-longest // MINUTES_PER_DAY) + 6) * MINUTES_PER_DAY


def make_replays(rows: int, start: dt.date) -> list[Replay]:
    """Replays of `rows` rows from 00:00 UTC of `start` on, the same in every process.

    Two markets of the same minutes; noise without memory, so that any row of a window may be its highest; few values
    with many ties and some nulls; and two in which nothing happens, or all rises from day to day, so that a run of equal
    or rising rows fills any window.
    """
    steady = np.arange(rows)
    return [
        Replay("market A", _market("PROOFA", rows, start, 11), slack=0),
        Replay("market B", _market("PROOFB", rows, start, 12), slack=0),
        Replay("noise", _noise(np.random.default_rng(13), rows, start), slack=2),
        Replay("ties", _ties(np.random.default_rng(14), rows, start), slack=2),
        Replay("silence", _steady(5 * steady, start, 0.0), slack=4),
        Replay("rise", _steady((MINUTES_PER_DAY + 7) * steady, start, 1e-4), slack=MINUTES_PER_DAY),
    ]


def _market(symbol: str, rows: int, start: dt.date, seed: int) -> Columns:
    source = SyntheticSource(seed)
    days = [columns_of(source.day(symbol, start + dt.timedelta(days=n))) for n in range(-(-rows // MINUTES_PER_DAY))]
    return {name: np.concatenate([day[name] for day in days])[:rows] for name in REPLAY_COLUMNS}


def _noise(rng: np.random.Generator, rows: int, start: dt.date) -> Columns:
    times = day_start_ms(start) + (5 * np.arange(rows) + rng.integers(0, 3, rows)) * MINUTE_MS
    price = 100.0 * np.exp(0.02 * rng.standard_normal((3, rows)))
    volume, part = rng.exponential(50.0, rows), rng.random(rows)
    columns = {
        "event_time": times,
        "open_time_ms": times,
        "open": price[0],
        "high": np.maximum(price[0], price[1]) * (1.0 + 0.01 * rng.random(rows)),
        "low": np.minimum(price[0], price[1]) * (1.0 - 0.01 * rng.random(rows)),
        "close": price[1],
        "volume": volume,
        "taker_buy_volume": volume * part,
        "taker_sell_volume": volume * (1.0 - part),
        "funding_bps": rng.standard_normal(rows),
        "mark_price": price[2] * (1.0 + 0.001 * rng.standard_normal(rows)),
        "index_price": price[2],
        "next_funding_time": times + rng.integers(1, 481, rows) * MINUTE_MS,
        "open_interest": 1e5 * np.exp(0.1 * rng.standard_normal(rows)),
        "spread_bps": 0.1 + rng.exponential(1.0, rows),
        "level1_ofi_1m": rng.standard_normal(rows),
        "liquidation_buy_notional_1m": np.exp(9.0 + rng.standard_normal(rows)),
        "liquidation_sell_notional_1m": np.exp(9.0 + rng.standard_normal(rows)),
        # Where it is 0 the notionals are there all the same, and must not count.
        "liquidation_available": rng.random(rows) < 0.9,
    }
    return _as_replay(columns)


def _ties(rng: np.random.Generator, rows: int, start: dt.date) -> Columns:
    columns = dict(_noise(rng, rows, start))
    for name in REPLAY_COLUMNS[2:]:
        values = columns[name]
        if name in {"open", "high", "low", "close", "mark_price", "index_price"}:
            values = np.round(values / 4.0) * 4.0
        elif name not in {"next_funding_time", "liquidation_available"}:
            scale = float(np.abs(values).mean())
            values = np.round(values / scale) * scale * (rng.random(rows) < 0.67)
        if name not in {"open", "high", "low", "close"}:
            values = np.where(rng.random(rows) < 1 / 3000, np.nan, values)
        columns[name] = values
    return columns


def _steady(minutes: np.ndarray, start: dt.date, growth: float) -> Columns:
    """Every number `growth` above the one of the row before; amounts are 0 where there is no growth."""
    times = day_start_ms(start) + minutes * MINUTE_MS
    level = 100.0 * np.exp(growth * np.arange(len(minutes)))
    columns = dict.fromkeys(REPLAY_COLUMNS, growth * level)
    columns |= dict.fromkeys(("open", "high", "low", "close", "mark_price", "index_price", "open_interest", "spread_bps"), level)
    columns |= {"event_time": times, "open_time_ms": times, "next_funding_time": times + 240 * MINUTE_MS}
    return _as_replay(columns | {"liquidation_available": np.ones(len(minutes))})


def _as_replay(columns: Columns) -> Columns:
    return {name: columns[name].astype(np.float64) for name in REPLAY_COLUMNS}


def frozen_bars(columns: Columns) -> Bars:
    """Bars that nobody can write to, nor to what is remembered with them: other features read the same arrays."""
    bars = Bars.from_columns(columns)
    for name in REPLAY_COLUMNS:
        bars[name].setflags(write=False)
    bars.memo = _FrozenMemo()
    return bars


class _FrozenMemo(dict[object, np.ndarray]):
    def __setitem__(self, key: object, value: np.ndarray) -> None:
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
        super().__setitem__(key, value)


def feature_values(compute: Compute, bars: Bars) -> np.ndarray:
    """A feature's float64 values with one kind of NaN; raises ValueError where they are not a number a row."""
    values = np.asarray(compute(bars))
    if values.shape != (len(bars),):
        raise ValueError(f"an array of shape {values.shape} came back for {len(bars)} rows")
    values = values.astype(np.float64)
    values[np.isnan(values)] = np.nan
    return values


def examine(feature: Feature, replays: Sequence[Replay], compute: Compute) -> Findings:
    """Every proof of one feature; `compute` calls its function. The replays' rows are rows_for(lookback_rows) or more."""
    return _Examination(feature, replays, compute).run()


class _Examination:
    """A feature, with its values of every replay as it is."""

    def __init__(self, feature: Feature, replays: Sequence[Replay], compute: Compute) -> None:
        self._feature, self._replays, self._compute = feature, replays, compute
        self._others = {replay.name: other for replay, other in zip(replays, [*replays[1:], replays[0]], strict=True)}
        self._rng = np.random.default_rng(_SEED)
        self._findings = Findings()
        self._base: list[np.ndarray] = []
        self._asked = 0

    def run(self) -> Findings:
        wrong = self._findings.wrong
        proofs = {
            RUNS: self._runs,
            DETERMINISTIC: self._deterministic,
            LOOK_AHEAD: self._look_ahead,
            HISTORY_FREE: self._history_free,
            COLUMNS: self._columns,
            LOOK_BACK: self._look_back,
        }
        for name, proof in proofs.items():
            try:
                sentence = proof()
            except Exception as error:  # noqa: BLE001 - a feature may raise anything: it is named, and the next one examined
                said = f"it raised {type(error).__name__} when it was asked for {self._asked} rows: {error}"
                sentence = f"{said}; give a value a row, NaN where there is none, and leave the bars as they are"
            if sentence:
                wrong.setdefault(name, sentence)
            if wrong and name in {RUNS, DETERMINISTIC}:
                self._findings.unproven = True
                break
        return self._findings

    def _values(self, columns: Columns) -> np.ndarray:
        self._asked = len(columns["event_time"])
        return feature_values(self._compute, frozen_bars(columns))

    def _values_after(self, change: str, replay: Replay, names: Iterable[str], rows: slice | np.ndarray) -> np.ndarray | None:
        """The values once `change` is done to these columns and rows; None where the function cannot stand what no sound
        replay holds.
        """
        try:
            return self._values(self._changed(replay, names, rows, change))
        except Exception:
            if change in _UNSOUND:
                return None
            raise

    def _runs(self) -> None:
        self._base = [self._values(replay.columns) for replay in self._replays]

    def _deterministic(self) -> str | None:
        for replay, base in zip(self._replays, self._base, strict=True):
            again = self._values(replay.columns)
            for row in _different(base, again)[:1]:
                return (
                    f"row {row} of {replay.name} is {base[row]}, and {again[row]} from the same bars in the same process; "
                    "take away what changes between two calls"
                )
            for weeks in _MOVES_IN_WEEKS:
                again = self._values(_moved(replay, weeks))
                for row in _different(base, again)[:1]:
                    return (
                        f"row {row} of {replay.name} is {base[row]}, and {again[row]} where the same bars lie {7 * weeks} days "
                        "later; keep nothing by date or from an earlier call, and know the minute of the week at most"
                    )
        return None

    def _look_ahead(self) -> str | None:
        lookback = self._feature.lookback_rows
        for replay, base in zip(self._replays, self._base, strict=True):
            last = len(replay) - 1
            cuts = [0, 1, 2, lookback, lookback + 1, last - 1, *self._rng.integers(0, last, _CUTS)]
            for number, cut in enumerate(cuts):
                kept = int(cut) + 1
                found: dict[str, np.ndarray | None] = {"no": self._values(replay.rows(0, kept).columns)}
                for change in _in_turn(_CHANGES, 2, number):
                    found[change] = self._values_after(change, replay, REPLAY_COLUMNS, slice(kept, None))
                for change, again in found.items():
                    if again is None:
                        continue
                    for row in _different(base[:kept], again[:kept])[:1]:
                        return (
                            f"row {row} of {replay.name} is {base[row]}, and {again[row]} with {change} values after row {cut}; "
                            f"{_NOT_AHEAD}"
                        )
        return None

    def _history_free(self) -> str | None:
        lookback = self._feature.lookback_rows
        for replay, base in zip(self._replays, self._base, strict=True):
            count = len(replay)
            # What looks ahead misses the rows after its window, too, and that has been said.
            for row in self._rng.integers(lookback, count, 0 if LOOK_AHEAD in self._findings.wrong else _WINDOWS):
                alone = self._values(replay.rows(row - lookback, row + 1).columns)
                if len(_different(base[row : row + 1], alone[-1:])):
                    return (
                        f"row {row} of {replay.name} is {base[row]} from the whole history, and {alone[-1]} from itself and "
                        f"the {lookback} rows before it; use the windows of features/windows.py, or declare more"
                    )
            for start in self._rng.integers(1, count - lookback, _STARTS):
                later = self._values(replay.rows(start, count).columns)
                for row in start + lookback + _different(base[start + lookback :], later[lookback:])[:1]:
                    return (
                        f"row {row} of {replay.name} is {base[row]} from the whole history, and {later[row - start]} from row "
                        f"{start} on; use the windows of features/windows.py"
                    )
        return None

    def _columns(self) -> str | None:
        declared = self._feature.columns
        others = [name for name in REPLAY_COLUMNS if name not in declared]
        if self._moves(others):
            read = [name for name in others if self._moves([name])] or ["several columns together"]
            return f"it reads {', '.join(read)}, undeclared; put that into columns=, or do not read it"
        if idle := [name for name in declared if not self._moves([name])]:
            return f"it declares {', '.join(idle)}, but nothing done to that moved a value; take that out of columns="
        return None

    def _moves(self, names: Sequence[str]) -> bool:
        """Whether some value moves when these columns are changed in every row."""
        for change in _CHANGES:
            for replay, base in zip(self._replays, self._base, strict=True):
                found = self._values_after(change, replay, names, slice(None))
                if found is not None and len(_different(base, found)):
                    return True
        return False

    def _look_back(self) -> str | None:
        declared, findings = self._feature.lookback_rows, self._findings
        sightings = [*self._after_blocks(), *self._after_single_rows()]
        too_far = max(sightings, key=lambda sighting: (sighting.distance, not sighting.at_least), default=None)
        if too_far:
            findings.observed, findings.at_least, example = too_far
            if findings.at_least:
                return f"{example}: rows outside the window are carried along; use the windows of features/windows.py"
            return f"{example}; declare lookback={findings.observed}, or read no further back"
        if findings.observed is None:
            return "nothing done to a row moved its own value or a later one"
        if findings.observed < declared:
            return (
                f"nothing done to a row moved a value more than {findings.observed} rows later; "
                f"declare lookback={findings.observed}"
            )
        return None

    def _after_blocks(self) -> Iterator[_Sighting]:
        """Change all rows before one at once: whatever moves further on than the look-back reaches, read too far back."""
        declared = self._feature.lookback_rows
        for replay, base in zip(self._replays, self._base, strict=True):
            last = len(replay) - 1
            for number, kept in enumerate(self._rng.integers(1, last - declared, _BLOCKS)):
                for change in _in_turn(_CHANGES, 3, number):
                    found = self._values_after(change, replay, REPLAY_COLUMNS, slice(0, kept))
                    row = -1 if found is None else int(_different(base, found)[-1:].sum())
                    distance = int(row - kept + 1)
                    if distance > declared:
                        example = f"row {row} of {replay.name} moved with {change} values {distance} and more rows before it"
                        yield _Sighting(distance, _at_end(row, replay), example)

    def _after_single_rows(self) -> Iterator[_Sighting]:
        """Change single rows, so far apart that no window holds two of them, and see how far on each is felt.

        The farthest within the look-back becomes `observed`; what lies beyond it is yielded.
        """
        declared, findings = self._feature.lookback_rows, self._findings
        gap = 2 * (declared + 1)
        rows = len(self._replays[0])
        least = max(_LEAST_ROUNDS, _FAR_ROWS * gap // rows)
        blamed = 0
        for number in range(least * _TIMES_LONGER):
            if number >= least and findings.observed == declared:
                return
            turn = number % len(self._replays)
            replay, base = self._replays[turn], self._base[turn]
            teeth = np.arange(self._rng.integers(0, min(gap, rows - declared)), rows, gap)
            for names, change in self._single_changes(replay):
                found = self._values_after(change, replay, names, teeth)
                if found is None:
                    continue
                moved = _different(base, found)
                place = np.searchsorted(teeth, moved, side="right") - 1
                distance = moved - teeth[place]
                felt = (place >= 0) & (distance <= declared)
                if felt.any():
                    findings.observed = max(int(distance[felt].max()), findings.observed or 0)
                if not felt.all() and blamed < _MOST_BLAMED:
                    blamed += 1
                    yield from self._blame(replay, base, names, change, int(moved[~felt][0]), teeth)

    def _blame(
        self, replay: Replay, base: np.ndarray, names: Sequence[str], change: str, row: int, teeth: np.ndarray
    ) -> Iterator[_Sighting]:
        """Which of the changed rows moved `row`, found by changing each alone: one too far back, or a later one."""
        for tooth in sorted(teeth.tolist(), key=lambda tooth: abs(tooth - row)):
            found = self._values_after(change, replay, names, np.array([tooth]))
            if found is None or row not in _different(base, found):
                continue
            example = f"row {row} of {replay.name} moved with {change} {' and '.join(names)} in row {tooth}"
            if tooth > row:
                self._findings.wrong.setdefault(LOOK_AHEAD, f"{example}; {_NOT_AHEAD}")
            else:
                yield _Sighting(row - tooth, _at_end(row, replay), f"{example}, {row - tooth} rows before it")
            return

    def _single_changes(self, replay: Replay) -> Iterator[tuple[list[str], str]]:
        """Each declared column, and all of them together, with everything that can be done to it in a single row."""
        names = [name for name in self._feature.columns if replay.slack or name != "event_time"]
        for some in [*([name] for name in names), *([names] if len(names) > 1 else [])]:
            for change in _CHANGES:
                yield some, change

    def _changed(self, replay: Replay, names: Iterable[str], rows: slice | np.ndarray, change: str) -> Columns:
        """The replay's columns with these changed in these rows: all, all up to or from one, or single ones."""
        columns = dict(replay.columns)
        for name in names:
            columns[name] = columns[name].copy()
            columns[name][rows] = self._changed_column(replay, name, rows, change)
        return columns

    def _changed_column(self, replay: Replay, name: str, rows: slice | np.ndarray, change: str) -> np.ndarray:
        values = replay.columns[name][rows]
        if name == "event_time":
            return values + self._delay(replay, rows) * MINUTE_MS
        if change == "null":
            return np.full(len(values), np.nan)
        if name == "open_time_ms":
            return values + self._rng.integers(1, 10**6) * MINUTE_MS
        if name == "next_funding_time":
            return replay.columns["event_time"][rows] + self._rng.integers(1, 481, len(values)) * MINUTE_MS
        if change == "other":
            return self._others[replay.name].columns[name][: len(replay)][rows]
        return _TO_NUMBERS[change](np.where(np.isnan(values), 1.0, values))

    def _delay(self, replay: Replay, rows: slice | np.ndarray) -> np.ndarray | int:
        """Minutes that the times of these rows may go on without leaving their order: within the slack for single rows,
        all alike back for the first ones, ever further on for the last ones or all.
        """
        if isinstance(rows, np.ndarray):
            return self._rng.integers(1, replay.slack + 1, len(rows))
        if rows.start == 0:
            return -int(self._rng.integers(1, 10**4))
        return np.cumsum(self._rng.integers(1, 4, len(replay.columns["event_time"][rows])))


def _moved(replay: Replay, weeks: int) -> Columns:
    times = ("event_time", "open_time_ms", "next_funding_time")
    return {**replay.columns, **{name: replay.columns[name] + weeks * 7 * DAY_MS for name in times}}


def _different(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The rows whose bits differ."""
    return np.flatnonzero(before.view(np.int64) != after.view(np.int64))


def _at_end(row: int, replay: Replay) -> bool:
    """Whether a change was felt up to the replay's end, give or take: what is carried along moves a value now and then."""
    return row >= len(replay) * 0.99 - 1


def _in_turn(changes: Sequence[str], count: int, number: int) -> list[str]:
    return [changes[(number * count + n) % len(changes)] for n in range(count)]
