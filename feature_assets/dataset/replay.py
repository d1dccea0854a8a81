"""Replay partitions: days taken from a source, held against the rules of a sound replay, and published."""

from __future__ import annotations

import datetime as dt
import heapq
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from feature_assets import elementary
from feature_assets.dataset.keys import ONE_DAY, Key
from feature_assets.dataset.lock import hidden_from
from feature_assets.dataset.outcomes import Check, Left, Outcome, Published, Refused
from feature_assets.dataset.store import REPLAY, Refusal, Store
from feature_assets.dataset.tables import Footer, content_hash
from feature_assets.dataset.threads import in_order
from feature_assets.dataset.version import code_version
from feature_assets.errors import SourceError
from feature_assets.leakage.known import day_as_of, not_known_in_time
from feature_assets.leakage.lookahead import cuts
from feature_assets.market import bars as market
from feature_assets.market.sources import ABSENT, NOT_YET, Source, read_days
from feature_assets.market.sources.base import Availability
from feature_assets.settings import Settings

SOUND_REPLAY = "sound_replay"
_NO_MEMBER = "no member"

_Answer: TypeAlias = pa.Table | Availability | SourceError


class _AsOf(NamedTuple):
    """A day as the source had it when the minute of a row had passed."""

    row: int
    answer: _Answer


def replay_code_version(source: Source) -> str:
    """Of the bars' contract and the module that the source is written in."""
    return code_version(market, elementary, sys.modules[type(source).__module__])


def replay_fingerprint(source: Source, settings: Settings, key: Key) -> str:
    """What the replay of a key is made of; a date on which the symbol is no member is none of the source's.

    What cannot be read has a fingerprint, too: as long as it stays so, the day is not worth another try.
    """
    if key.symbol is None or key.symbol not in settings.members(key.date):
        return _NO_MEMBER
    try:
        return source.fingerprint(key.symbol, key.date)
    except Exception as error:  # noqa: BLE001 - a user's code: one day's fingerprint must not cost the others
        return f"unreadable: {type(error).__name__}"


def build_replay(store: Store, source: Source, settings: Settings, keys: Sequence[Key]) -> Iterator[Outcome]:
    """Publish the replay of `keys`, by date and then symbol, so that symbols share what the source reads at once.

    What is refused or counted shows no value of a row in VALIDATION_LOCKED or later.
    """
    hidden = hidden_from(store, settings.splits)
    by_symbol = [list(group) for _, group in groupby(sorted(keys, key=lambda k: (k.symbol, k.date)), lambda k: k.symbol)]
    # A list: every symbol's iterator is made before the first is advanced, as the parquet source needs.
    streams = [_answers(source, settings, symbol_keys) for symbol_keys in by_symbol]
    answers = heapq.merge(*streams, key=lambda pair: pair[0])
    calls = (
        _examine_day(store, source, settings, key, answer, _as_of_cut(source, key, answer), hidden) for key, answer in answers
    )
    yield from in_order(calls, beside_work=True)


def _as_of_cut(source: Source, key: Key, answer: _Answer) -> _AsOf | None:
    """A day once more, as the source had it at a moment that its key decides; None where there is nothing to prove."""
    if not isinstance(answer, pa.Table) or not answer.num_rows or answer["event_time"].null_count or key.symbol is None:
        return None
    (cut,) = cuts(key.symbol, key.date, answer.num_rows)
    again = day_as_of(source, key.symbol, key.date, answer["event_time"][cut.row].value)
    return None if again is None else _AsOf(cut.row, again)


def _answers(source: Source, settings: Settings, keys: Sequence[Key]) -> Iterator[tuple[Key, _Answer]]:
    """The answers for one symbol's keys in date order; a date on which the symbol is no member is absent, unasked."""
    symbol = next(symbol for symbol in settings.symbols if symbol.name == keys[0].symbol)
    dates = [key.date for key in keys if symbol.is_member(key.date)]
    runs: list[list[dt.date]] = []
    for date in dates:
        if runs and date == runs[-1][-1] + ONE_DAY:
            runs[-1].append(date)
        else:
            runs.append([date])
    asked = [read_days(source, symbol.name, run[0], run[-1] + ONE_DAY) for run in runs]
    unasked = [(key, ABSENT) for key in keys if not symbol.is_member(key.date)]
    return heapq.merge(
        unasked, *(((Key(date, symbol.name), answer) for date, answer in run) for run in asked), key=lambda pair: pair[0]
    )


def _examine_day(
    store: Store, source: Source, settings: Settings, key: Key, answer: _Answer, as_of: _AsOf | None, hidden: int | None
) -> Callable[[], Outcome]:
    """Hold a day against the rules; gives the call that publishes or refuses it."""
    started = time.perf_counter()
    all_shown = hidden is None or market.day_start_ms(key.date + ONE_DAY) <= hidden
    if answer is NOT_YET:
        return partial(Left, key, f"replay {key} is not published yet; it is asked for again.")
    fingerprint = replay_fingerprint(source, settings, key)
    made_of = (replay_code_version(source), {"source": fingerprint})
    if isinstance(answer, SourceError):
        why = str(answer) if all_shown else answer.unseen
        unread = Check(SOUND_REPLAY, passed=False, message=f"{key}: cannot be read: {why}")
        return partial(_refuse, store, key, made_of, unread, None)
    table = market.empty_table() if isinstance(answer, Availability) else answer
    if broken := market.violations(table, key.date, hidden):
        message = f"{key}: not a sound replay. " + ". ".join(map(str, broken))
        offending = {violation.rule: [violation.rows, *violation.examples] for violation in broken}
        return partial(_refuse, store, key, made_of, Check(SOUND_REPLAY, passed=False, message=message, details=offending), table)
    if as_of is not None and (late := not_known_in_time(table, as_of.row, as_of.answer, show_values=all_shown)):
        message = f"{key}: {late} A value may stand in a minute only if it was known when that minute had passed."
        return partial(_refuse, store, key, made_of, Check(SOUND_REPLAY, False, message, details={"offending": [late]}), table)
    minutes = market.distinct_minutes(table)
    unknown = {"open_interest_not_positive": int(pc.sum(pc.less_equal(table["open_interest"], 0.0)).as_py() or 0)}
    footer = Footer(content_hash(table), *made_of, {"rows": table.num_rows, "minutes": minutes})
    known = "" if as_of is None else f" Rows 0 to {as_of.row} are the same without what became known later."
    check = _completeness(settings, key, minutes, known)
    details = {"rows": table.num_rows, **(unknown if all_shown else {}), "source_fingerprint": fingerprint}
    return partial(_publish, store, key, table, footer, check, details, time.perf_counter() - started)


def _publish(
    store: Store, key: Key, table: pa.Table, footer: Footer, check: Check, details: dict[str, Any], spent: float
) -> Published:
    started = time.perf_counter()
    size = store.publish(REPLAY, key, table, footer)
    seconds = spent + time.perf_counter() - started
    path = store.path(store.partition_file(REPLAY, key))
    return Published(key, footer, (check,), details | {"path": path, "bytes": size, "seconds": seconds})


def _completeness(settings: Settings, key: Key, minutes: int, known: str) -> Check:
    """Sound, with a warning for an absent or short day inside START..END on which the symbol is a member."""
    inside = settings.start <= key.date < settings.end_date() and key.symbol in settings.members(key.date)
    if minutes == market.MINUTES_PER_DAY:
        return Check(SOUND_REPLAY, passed=True, message=f"{key}: all {minutes} minutes, every rule holds.{known}")
    what = f"short: {minutes} of {market.MINUTES_PER_DAY} minutes" if minutes else "absent: the source has no bars"
    return Check(SOUND_REPLAY, passed=not inside, message=f"{key} is {what}; every rule holds.{known}", warning=inside)


def _refuse(store: Store, key: Key, made_of: tuple[str, dict[str, str]], check: Check, rejected: pa.Table | None) -> Refused:
    store.refuse(REPLAY, key, Refusal(check.name, check.message, *made_of), rejected)
    return Refused(key, (check,), check.message)
