"""The validation lock: what it holds, what it refuses, how a change is accepted, and how locked rows are looked at."""

from __future__ import annotations

import datetime as dt
import json
import shutil

import pandas as pd
import pytest

from feature_assets.dataset import lock
from feature_assets.dataset import relock as relocking
from feature_assets.dataset.due import due_requests
from feature_assets.dataset.feature_frame import FRAME_SCHEMA, build_feature_frame, present_frame
from feature_assets.dataset.feature_manifest import MANIFEST_FILE, build_feature_manifest
from feature_assets.dataset.keys import Key
from feature_assets.dataset.lock import publish_splits, read_locked
from feature_assets.dataset.outcomes import Published, Refused
from feature_assets.dataset.quality_report import build_quality_report
from feature_assets.dataset.relock import relock
from feature_assets.dataset.store import FEATURE_FRAME, Store
from feature_assets.dataset.tables import content_hash
from feature_assets.errors import LockError, MissingInputError, RefusedInputError, SettingError, StoreError
from feature_assets.market.sources import load_source
from feature_assets_tests.support.crash import fail_at, start
from feature_assets_tests.support.locked import DAYS, SPLITS, LockedStore, changed
from feature_assets_tests.support.replays import days

LOCKED = DAYS[2:4]


@pytest.fixture
def bars() -> pd.DataFrame:
    return days("BTCUSDT", 4)


@pytest.fixture
def built(tmp_path, bars) -> LockedStore:
    """Four days, the last two of them locked, with a manifest."""
    house = LockedStore(tmp_path / "built", bars)
    assert house.build() == []
    assert build_feature_manifest(house.store, house.settings)[1].passed
    return house


def due(house: LockedStore) -> list[tuple[str, ...]]:
    """What the sensor would ask for."""
    settings = house.settings
    source = load_source(settings.source).source
    now = dt.datetime(2025, 4, 1, tzinfo=dt.UTC)
    return [request.assets for request in due_requests(house.store, source, settings, now)]


# What it holds


def test_the_lock_holds_the_boundaries_and_the_hash_of_each_published_locked_date(built):
    held = json.loads(built.lock_bytes())
    assert held["boundaries"] == {"start": f"{LOCKED[0]}T00:00:00+00:00", "end": f"{DAYS[4]}T00:00:00+00:00"}
    for day in LOCKED:
        table = built.store.read_table(FEATURE_FRAME, Key.parse(day))
        assert set(table["split_id"].to_pylist()) == {"VALIDATION_LOCKED"}
        assert held["dates"][day] == content_hash(table)
    assert sorted(held["dates"]) == LOCKED
    assert (held["amendments"], held["looks"]) == ([], [])


def test_of_a_date_that_is_locked_in_part_only_the_locked_rows_are_held(tmp_path, bars):
    house = LockedStore(tmp_path / "house", bars)
    house.variables["SPLITS"] = f"FIT:{DAYS[0]}..{DAYS[1]},VALIDATION_LOCKED:{LOCKED[0]}T12:00..{LOCKED[0]}T18:00"
    house.build()
    before = house.lock
    table = house.store.read_table(FEATURE_FRAME, Key.parse(LOCKED[0]))
    assert before.dates == {LOCKED[0]: content_hash(table.slice(720, 360))}
    assert house.store.footer(FEATURE_FRAME, Key.parse(LOCKED[0])).locked_hash == before.dates[LOCKED[0]]
    # Rows before and after the locked ones may change.
    assert (house.bars["event_time"].dt.hour == 23).any()
    house.bars = changed(bars, LOCKED[0])
    assert house.build() == []
    assert house.lock == before


def test_the_lock_has_the_same_bytes_in_whatever_order_the_dates_were_built(built, bars):
    other = LockedStore(built.folder.parent / "other", bars)
    other.below()
    publish_splits(other.store, other.settings.splits)
    for day in reversed(DAYS[:4]):
        other.frames(day)
    assert other.lock_bytes() == built.lock_bytes()
    assert str(built.folder).encode() not in built.lock_bytes()


def test_a_build_of_the_same_again_leaves_the_lock_as_it_is(built):
    before = built.lock_bytes()
    assert built.build() == []
    assert built.lock_bytes() == before


def test_a_new_locked_date_may_be_added(tmp_path, built):
    before = built.lock.dates
    splits = SPLITS.replace(f"..{DAYS[4]}", f"..{DAYS[5]}")
    more = LockedStore(tmp_path / "more", days("BTCUSDT", 3), SPLITS=splits)
    assert more.build() == []
    assert list(more.lock.dates) == [LOCKED[0]]
    more.bars, more.variables["END_DATE"] = days("BTCUSDT", 5), DAYS[5]
    assert more.build() == []
    assert list(more.lock.dates) == [*LOCKED, DAYS[4]]
    assert {day: more.lock.dates[day] for day in LOCKED} == before


def test_a_store_that_locks_nothing_has_no_lock(tmp_path, bars):
    house = LockedStore(tmp_path / "house", bars, SPLITS=f"FIT:{DAYS[0]}..{DAYS[4]}")
    assert house.build() == []
    assert [path.name for path in (house.folder / "store/split").iterdir()] == ["split_manifest.json"]
    house.variables["SPLITS"] = f"FIT:{DAYS[0]}..{DAYS[2]},TUNE:{DAYS[2]}..{DAYS[4]}"
    assert house.build() == []


def test_a_lock_that_cannot_be_read_stops_every_build_and_is_never_made_anew(built):
    path = built.folder / "store/split/validation_lock.json"
    path.write_text("{}}")
    with pytest.raises(LockError, match=r"validation_lock\.json: not readable.*Restore it"):
        built.frames()
    assert path.read_text() == "{}}"


# What it refuses


def test_a_build_that_would_change_a_locked_row_is_refused_and_the_last_good_file_stays(built, bars):
    before, lock_before = built.frame_bytes(LOCKED[0]), built.lock_bytes()
    built.bars = changed(bars, LOCKED[0])
    built.below()
    (refused, later) = built.frames(*LOCKED)
    assert isinstance(refused, Refused)
    assert isinstance(later, Refused), "its look-back holds the changed minute"
    check = refused.checks[0]
    assert (check.name, check.passed) == ("no_split_leak", False)
    old = built.lock.dates[LOCKED[0]]
    rejected = pd.read_parquet(built.folder / f"store/quarantine/feature_frame/{LOCKED[0]}/rejected.parquet")
    assert len(rejected) == 1440
    assert check.message.startswith(f"{LOCKED[0]}: locked rows would change: ")
    assert f"locked is {old}. `feature-assets relock --reason TEXT` accepts the present state." in check.message
    assert built.frame_bytes(LOCKED[0]) == before
    assert built.lock_bytes() == lock_before
    with pytest.raises(RefusedInputError, match="no_split_leak"):
        built.store.input_hash(f"{FEATURE_FRAME}/{LOCKED[0]}")


def test_a_change_that_leaves_the_locked_rows_alone_is_no_change(built, bars):
    before = built.lock_bytes()
    frame = built.frame_bytes(DAYS[1])
    built.bars = changed(bars, DAYS[0])
    # A day-long window reaches into the second day and no further; the first locked day's does not reach back to it.
    assert built.build() == []
    assert built.frame_bytes(DAYS[1]) != frame
    assert built.lock_bytes() == before


def test_fit_and_tune_may_move_and_one_build_mends_the_range(built):
    before = built.lock_bytes()
    frames = {day: built.frame_bytes(day) for day in DAYS[:4]}
    built.variables["SPLITS"] = SPLITS.replace(f"{DAYS[1]}..", f"{DAYS[1]}T06:00..").replace(f"..{DAYS[1]}", f"..{DAYS[1]}T06:00")
    assert built.build() == []
    assert built.lock_bytes() == before
    assert built.frame_bytes(DAYS[1]) != frames[DAYS[1]]
    manifest, check = build_feature_manifest(built.store, built.settings)
    assert check.passed, check.message
    assert manifest["amendment_count"] == 0


def test_locked_rows_that_vanish_are_a_change(tmp_path, bars):
    both = pd.concat([bars, days("ETHUSDT", 4)])
    house = LockedStore(tmp_path / "house", both)
    house.build()
    house.variables["SYMBOLS"] = f"BTCUSDT,ETHUSDT:..{LOCKED[1]}"
    (refused,) = house.build()
    assert refused.key == Key.parse(LOCKED[1])
    assert "locked rows would change" in refused.reason
    # All of them: the source has lost the day.
    house.variables["SYMBOLS"] = "BTCUSDT,ETHUSDT"
    kept = both[both["event_time"].dt.date != dt.date.fromisoformat(LOCKED[1])]
    later = [days(symbol, 1, start=dt.date.fromisoformat(DAYS[4])) for symbol in ("BTCUSDT", "ETHUSDT")]
    house.bars = pd.concat([kept, *later])
    (refused,) = house.build()
    assert refused.key == Key.parse(LOCKED[1])
    assert "would be that of no rows" in refused.reason


def test_locked_rows_that_a_new_symbol_would_add_to_a_locked_date_are_a_change(tmp_path, bars):
    house = LockedStore(tmp_path / "house", pd.concat([bars, days("ETHUSDT", 4)]), SYMBOLS="BTCUSDT")
    house.build()
    house.variables["SYMBOLS"] = f"BTCUSDT,ETHUSDT:{LOCKED[1]}.."
    (refused,) = house.build()
    assert refused.key == Key.parse(LOCKED[1])


@pytest.mark.parametrize(
    ("splits", "shown"),
    [
        (f"FIT:{DAYS[0]}..{DAYS[2]},VALIDATION_LOCKED:{DAYS[3]}..{DAYS[4]}", f"VALIDATION_LOCKED {DAYS[3]}T00:00:00+00:00.."),
        (f"FIT:{DAYS[0]}..{DAYS[1]},VALIDATION_LOCKED:{DAYS[1]}..{DAYS[4]}", f"VALIDATION_LOCKED {DAYS[1]}T00:00:00+00:00.."),
        (SPLITS.replace(f"..{DAYS[4]}", f"..{DAYS[5]}"), f"{DAYS[5]}T00:00:00+00:00"),
        (f"FIT:{DAYS[0]}..{DAYS[4]}", "SPLITS has no VALIDATION_LOCKED"),
    ],
    ids=["later", "earlier", "longer", "gone"],
)
def test_a_locked_split_that_moves_is_refused_naming_both_ranges(built, splits, shown):
    before = (built.folder / "store/split/split_manifest.json").read_bytes()
    built.variables["SPLITS"] = splits
    with pytest.raises(LockError) as caught:
        publish_splits(built.store, built.settings.splits)
    message = str(caught.value)
    assert shown in message
    assert f"2 date(s) from {LOCKED[0]} to {LOCKED[1]} are locked with VALIDATION_LOCKED {DAYS[2]}T00:00:00+00:00" in message
    assert "feature-assets relock --reason TEXT" in message
    assert (built.folder / "store/split/split_manifest.json").read_bytes() == before
    # Nothing is built on it until it is put back.
    with pytest.raises(RefusedInputError, match="split_manifest was refused"):
        built.frames()
    assert due(built) == []
    built.variables["SPLITS"] = SPLITS
    assert due(built) == [("split_manifest",)]
    publish_splits(built.store, built.settings.splits)
    assert all(isinstance(outcome, Published) for outcome in built.frames())


def test_as_long_as_no_locked_date_is_published_the_boundaries_may_move(tmp_path, bars):
    house = LockedStore(tmp_path / "house", bars[:1440])
    house.variables["SPLITS"] = f"VALIDATION_LOCKED:{DAYS[2]}..{DAYS[4]}"
    assert house.build() == []
    house.variables["SPLITS"] = f"VALIDATION_LOCKED:{DAYS[0]}..{DAYS[4]}"
    assert house.build() == []
    assert list(house.lock.dates) == [DAYS[0]]
    assert house.lock.boundaries["start"].startswith(DAYS[0])


# A build that is stopped between publishing a date and noting it


class StoppedError(Exception):
    pass


@pytest.fixture
def stopped(tmp_path, bars, monkeypatch) -> LockedStore:
    """A store whose locked dates are published and not in the lock."""
    house = LockedStore(tmp_path / "stopped", bars)
    house.below()
    publish_splits(house.store, house.settings.splits)

    def stop(*_: object) -> None:
        raise StoppedError

    with monkeypatch.context() as patched:
        patched.setattr(lock, "note", stop)
        for day in LOCKED:
            with pytest.raises(StoppedError):
                house.frames(day)
    house.frames(*DAYS[:2])
    assert house.lock.dates == {}
    return house


def test_a_date_that_a_stopped_build_did_not_note_is_locked_all_the_same(stopped, bars):
    before = stopped.frame_bytes(LOCKED[1])
    stopped.bars = changed(bars, LOCKED[1])
    stopped.below()
    (refused,) = stopped.frames(LOCKED[1])
    assert "locked rows would change" in refused.reason
    assert stopped.frame_bytes(LOCKED[1]) == before


def test_its_boundaries_are_locked_all_the_same(stopped):
    stopped.variables["SPLITS"] = f"FIT:{DAYS[0]}..{DAYS[4]}"
    with pytest.raises(LockError, match="2 date"):
        publish_splits(stopped.store, stopped.settings.splits)


@pytest.mark.parametrize("by", ["frame", "manifest"])
def test_the_next_build_notes_it(stopped, built, by):
    if by == "frame":
        stopped.frames(*LOCKED)
    else:
        assert build_feature_manifest(stopped.store, stopped.settings)[1].passed
    assert stopped.lock_bytes() == built.lock_bytes()


# Amendments


def test_relock_accepts_the_present_state_and_the_next_build_publishes_it(built, bars):
    old = built.lock.dates
    built.bars = changed(bars, LOCKED[1])
    assert len(built.build()) == 1
    assert due(built) == []
    before = built.frame_bytes(LOCKED[1])
    amendment = relock(built.store, built.settings, "  late prints\n of the exchange ")
    assert built.frame_bytes(LOCKED[1]) == before, "nothing is built"
    new = built.lock.dates
    assert new[LOCKED[0]] == old[LOCKED[0]]
    assert amendment == built.lock.amendments[0]
    assert amendment == {
        "number": 1,
        "reason": "late prints of the exchange",
        "boundaries": built.lock.boundaries,
        "changed_dates": {LOCKED[1]: {"old": old[LOCKED[1]], "new": new[LOCKED[1]]}},
    }
    assert due(built) == [("feature_frame",)]
    assert all(isinstance(outcome, Published) for outcome in built.frames())
    assert built.frame_bytes(LOCKED[1]) != before
    assert build_feature_manifest(built.store, built.settings)[1].passed
    assert content_hash(built.store.read_table(FEATURE_FRAME, Key.parse(LOCKED[1]))) == new[LOCKED[1]]


def test_relock_of_an_unchanged_store_says_so_and_writes_nothing(built, tmp_path):
    before = built.lock_bytes()
    assert relock(built.store, built.settings, "just to be sure") is None
    assert built.lock_bytes() == before
    empty = LockedStore(tmp_path / "empty", built.bars)
    assert relock(empty.store, empty.settings, "there is nothing") is None
    assert not (tmp_path / "empty/store").exists()


def test_relock_accepts_what_only_a_build_of_other_options_gives(built):
    """Another option changes flags of locked rows: features first, then relock, then the frames."""
    built.bars.loc[built.bars["event_time"].dt.date == dt.date.fromisoformat(LOCKED[1]), "liquidation_available"] = 0.0
    assert len(built.build()) == 1
    relock(built.store, built.settings, "an outage was recorded late")
    assert built.build() == []
    built.variables["OPTIONAL_GROUPS"] = "none"
    with pytest.raises(LockError) as caught:
        relock(built.store, built.settings, "liquidations are required")
    for day in LOCKED:
        assert f"{day}: symbol_features/{day}|BTCUSDT: made by other feature code or options" in str(caught.value)
    assert len(built.build()) == 1
    amendment = relock(built.store, built.settings, "liquidations are required")
    assert amendment["number"] == 2
    assert list(amendment["changed_dates"]) == [LOCKED[1]]
    assert built.build() == []


def test_relock_refuses_inputs_that_are_not_sound_and_names_them_all(built, bars):
    before = built.lock_bytes()
    built.bars = changed(bars, LOCKED[0], by=-1e9)
    built.below()
    (built.folder / f"store/symbol_features/symbol=BTCUSDT/date={LOCKED[1]}/part-0.parquet").unlink()
    with pytest.raises(LockError) as caught:
        relock(built.store, built.settings, "whatever it is")
    assert f"{LOCKED[0]}: replay/{LOCKED[0]}|BTCUSDT was refused" in str(caught.value)
    assert f"{LOCKED[1]}: symbol_features {LOCKED[1]}|BTCUSDT is missing; build it first" in str(caught.value)
    assert built.lock_bytes() == before


@pytest.mark.parametrize("reason", ["", "  \n "])
def test_an_amendment_and_a_look_need_a_reason(built, reason):
    before = built.lock_bytes()
    with pytest.raises(SettingError, match="it is empty; say in a few words why"):
        relock(built.store, built.settings, reason)
    with pytest.raises(SettingError, match="it is empty; say in a few words why"):
        read_locked(built.store.root, reason)
    assert built.lock_bytes() == before


def test_relock_accepts_other_boundaries_which_the_next_build_publishes(built):
    built.variables["SPLITS"] = f"FIT:{DAYS[0]}..{DAYS[2]},VALIDATION_LOCKED:{DAYS[3]}..{DAYS[4]}"
    old = built.lock.dates
    amendment = relock(built.store, built.settings, "a shorter validation")
    assert amendment["boundaries"]["start"].startswith(DAYS[3])
    assert amendment["changed_dates"] == {LOCKED[0]: {"old": old[LOCKED[0]], "new": ""}}
    assert due(built) == [("split_manifest",)]
    # Not before the split manifest is of these boundaries, either.
    (refused,) = built.frames(LOCKED[1])
    assert "materialize split_manifest first" in refused.reason
    assert not build_feature_manifest(built.store, built.settings)[1].passed
    assert built.build() == []
    assert list(built.lock.dates) == [LOCKED[1]]
    assert set(built.store.read_table(FEATURE_FRAME, Key.parse(LOCKED[0]))["split_id"].to_pylist()) == {"UNASSIGNED"}
    assert build_feature_manifest(built.store, built.settings)[1].passed
    assert relock(built.store, built.settings, "again") is None


def test_relock_can_give_the_locked_split_up(built):
    built.variables["SPLITS"] = f"FIT:{DAYS[0]}..{DAYS[4]}"
    relock(built.store, built.settings, "it is spent")
    assert built.build() == []
    assert built.lock.dates == {}
    assert built.lock.boundaries is None
    assert [entry["reason"] for entry in built.lock.amendments] == ["it is spent"]


def test_without_its_file_the_lock_still_holds_by_the_frames_and_relock_makes_it_anew(built, bars):
    """Deleting the file takes the ledgers away, never the lock."""
    hashes = built.lock.dates
    for path in (built.folder / "store/split").iterdir():
        path.unlink()
    assert due(built) == [("split_manifest",)]
    with pytest.raises(LockError, match="are locked with no VALIDATION_LOCKED"):
        publish_splits(built.store, built.settings.splits)
    assert due(built) == [], "not asked for again and again"
    assert relock(built.store, built.settings, "the folder was lost")["changed_dates"] == {}
    assert built.build() == []
    assert built.lock.dates == hashes


def test_the_manifest_is_refused_where_a_frame_is_not_the_locks(built):
    path = built.folder / "store/split/validation_lock.json"
    held = json.loads(path.read_text())
    held["dates"][LOCKED[0]] = "0" * 64
    path.write_text(json.dumps(held))
    check = build_feature_manifest(built.store, built.settings)[1]
    assert not check.passed
    assert f"feature_frame {LOCKED[0]}: its locked rows have the hash" in check.message


# Looks


def test_a_look_gives_all_locked_rows_and_no_other(tmp_path, bars):
    house = LockedStore(tmp_path / "house", bars)
    house.variables["SPLITS"] = f"FIT:{DAYS[0]}..{DAYS[1]},VALIDATION_LOCKED:{LOCKED[0]}T12:00..{LOCKED[1]}T18:00"
    house.build()
    table = read_locked(house.store.root, "the final score")
    assert table.schema.equals(FRAME_SCHEMA)
    times = table["event_time"].to_pandas()
    assert (str(times.min()), str(times.max())) == (f"{LOCKED[0]} 12:00:00+00:00", f"{LOCKED[1]} 17:59:00+00:00")
    assert len(table) == 720 + 1080


def test_two_looks_at_the_same_rows_are_two_entries_apart_from_the_amendments(built):
    first, second = (read_locked(built.store.root, reason) for reason in ("the final score", "the final score"))
    assert first.equals(second)
    looks = built.lock.looks
    assert [(look["number"], look["reason"]) for look in looks] == [(1, "the final score"), (2, "the final score")]
    assert looks[0]["hash"] == looks[1]["hash"]
    assert looks[0]["dates"] == {"first": LOCKED[0], "last": LOCKED[1], "number": 2}
    assert built.lock.amendments == []
    assert due(built) == [("feature_manifest", "quality_report")]


def test_a_look_that_cannot_be_recorded_gives_nothing(built, monkeypatch):
    def full(*_: object) -> None:
        raise StoreError("no space left")

    seen = []
    monkeypatch.setattr(Store, "write_bytes", full)
    monkeypatch.setattr(Store, "read_table", lambda *arguments: seen.append(arguments))
    with pytest.raises(StoreError, match="no space left"):
        read_locked(built.store.root, "the final score")
    assert seen == []


def test_a_look_where_nothing_is_locked_names_the_root_and_writes_nothing(tmp_path, bars):
    with pytest.raises(MissingInputError, match=r"nowhere: no rows of VALIDATION_LOCKED are published there"):
        read_locked(str(tmp_path / "nowhere"), "the final score")
    assert not (tmp_path / "nowhere").exists()


def test_a_frame_that_is_not_as_its_footer_says_is_no_look(built, bars):
    other = LockedStore(built.folder.parent / "other", changed(bars, LOCKED[0]))
    other.build()
    footer = built.store.footer(FEATURE_FRAME, Key.parse(LOCKED[0]))
    built.store.publish(FEATURE_FRAME, Key.parse(LOCKED[0]), other.store.read_table(FEATURE_FRAME, Key.parse(LOCKED[0])), footer)
    with pytest.raises(StoreError, match="not as its footer says"):
        read_locked(built.store.root, "the final score")


def test_manifest_and_report_show_both_ledgers(built, bars):
    built.bars = changed(bars, LOCKED[1])
    built.build()
    relock(built.store, built.settings, "late prints")
    built.build()
    read_locked(built.store.root, "the first score")
    read_locked(built.store.root, "the final score")
    assert build_feature_manifest(built.store, built.settings)[1].passed
    manifest = json.loads(built.store.read_bytes(MANIFEST_FILE))
    assert manifest["amendments"] == built.lock.amendments
    assert manifest["looks"] == built.lock.looks
    assert (manifest["amendment_count"], manifest["look_count"]) == (1, 2)
    text, _ = build_quality_report(built.store, built.settings)
    leakage = text.split("## Leakage Check")[1].split("##")[0]
    assert "- amendments (accepted changes of locked rows): 1, the last: late prints." in leakage
    assert "- looks (reads of locked rows): 2, the last: the final score." in leakage


# Runs at the same time


def build_frames(house: LockedStore, *days: str) -> None:
    house.frames(*days)


def look(root: str, reason: str) -> None:
    read_locked(root, reason)


def accept(house: LockedStore, reason: str) -> None:
    relock(house.store, house.settings, reason)


def finish(*processes) -> None:
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_runs_that_add_different_dates_and_look_at_the_same_time_lose_no_entry(tmp_path):
    splits = f"VALIDATION_LOCKED:{DAYS[0]}..{DAYS[7]}"
    house = LockedStore(tmp_path / "house", days("BTCUSDT", 7), SPLITS=splits)
    house.below()
    publish_splits(house.store, house.settings.splits)
    house.frames(DAYS[0])
    old = house.lock.dates[DAYS[0]]
    house.bars = changed(house.bars, DAYS[0])
    house.below()
    root = house.store.root
    processes = [start(accept, house, "late prints")] + [start(look, root, f"look {n}") for n in range(6)]
    finish(*processes, *(start(build_frames, house, day) for day in DAYS[1:7]))
    (amendment,) = house.lock.amendments
    assert amendment["changed_dates"][DAYS[0]]["old"] == old
    assert all(isinstance(outcome, Published) for outcome in house.frames(DAYS[0]))
    assert list(house.lock.dates) == DAYS[:7]
    for day, known in house.lock.dates.items():
        assert house.store.footer(FEATURE_FRAME, Key.parse(day)).locked_hash == known
    looks = house.lock.looks
    assert [entry["number"] for entry in looks] == [1, 2, 3, 4, 5, 6]
    assert {entry["reason"] for entry in looks} == {f"look {n}" for n in range(6)}


def test_of_two_builds_that_add_one_date_with_other_rows_the_second_is_refused(tmp_path, bars, monkeypatch):
    """Whoever comes second compares with what the first has just published, though the lock had no such date before."""
    house = LockedStore(tmp_path / "house", bars)
    house.below()
    publish_splits(house.store, house.settings.splits)
    other = LockedStore(tmp_path / "house", bars)
    real, raced = lock.held, []

    def held(*arguments):
        # The other build runs to its end just before this one takes its turn.
        if not raced:
            raced.append(True)
            other.bars = changed(bars, LOCKED[1])
            other.below()
            assert isinstance(other.frames(LOCKED[1])[0], Published)
        return real(*arguments)

    monkeypatch.setattr(lock, "held", held)
    (refused,) = house.frames(LOCKED[1])
    assert "locked rows would change" in refused.reason
    footer = house.store.footer(FEATURE_FRAME, Key.parse(LOCKED[1]))
    assert house.lock.dates == {LOCKED[1]: footer.locked_hash}


def test_a_look_waits_for_the_relock_that_is_going_on(built, bars, monkeypatch):
    built.bars = changed(bars, LOCKED[1])
    built.below()
    real, looking = present_frame, []

    def present(*arguments):
        if not looking:
            looking.append(start(look, built.store.root, "in between"))
            looking[0].join(2.0)
        return real(*arguments)

    monkeypatch.setattr(relocking, "present_frame", present)
    relock(built.store, built.settings, "late prints")
    finish(*looking)
    assert [entry["reason"] for entry in built.lock.amendments + built.lock.looks] == ["late prints", "in between"]


def test_splits_that_move_while_the_first_locked_date_is_published_are_refused(tmp_path, bars, monkeypatch):
    house = LockedStore(tmp_path / "house", bars)
    house.below()
    publish_splits(house.store, house.settings.splits)
    moved = LockedStore(tmp_path / "house", bars, SPLITS=f"VALIDATION_LOCKED:{DAYS[0]}..{DAYS[4]}").settings.splits
    real, raced = lock.held, []

    def held(*arguments):
        if not raced:
            raced.append(True)
            assert isinstance(house.frames(LOCKED[1])[0], Published)
        return real(*arguments)

    monkeypatch.setattr(lock, "held", held)
    with pytest.raises(LockError, match="1 date"):
        publish_splits(house.store, moved)


def build_frame_and_fail(house: LockedStore, day: str, call: int, how: str) -> None:
    fail_at(call, how)
    house.frames(day)


@pytest.mark.parametrize("how", ["kill", "ENOSPC"])
def test_a_failure_at_any_step_of_publishing_a_locked_date_leaves_it_locked_or_unpublished(tmp_path, bars, how):
    house = LockedStore(tmp_path / "house", bars)
    house.below()
    publish_splits(house.store, house.settings.splits)
    other = LockedStore(tmp_path / "other", changed(bars, LOCKED[0]))
    other.below()
    publish_splits(other.store, other.settings.splits)
    frame, lock_file = house.folder / f"store/feature_frame/date={LOCKED[0]}", house.folder / "store/split/validation_lock.json"
    states = []
    for call in range(1, 30):
        shutil.rmtree(frame, ignore_errors=True)
        lock_file.unlink(missing_ok=True)
        process = start(build_frame_and_fail, house, LOCKED[0], call, how)
        process.join()
        published, noted = (frame / "part-0.parquet").exists(), LOCKED[0] in house.lock.dates
        states.append((published, noted))
        assert published or not noted
        # The other data come into the same store, by their features.
        shutil.copytree(house.folder / "store", tmp_path / "both", dirs_exist_ok=False)
        for asset in ("replay", "symbol_features"):
            shutil.copytree(other.folder / "store" / asset, tmp_path / "both" / asset, dirs_exist_ok=True)
        (outcome,) = build_feature_frame(Store(str(tmp_path / "both")), house.settings, [Key.parse(LOCKED[0])])
        assert isinstance(outcome, Refused if published else Published), call
        shutil.rmtree(tmp_path / "both")
        if process.exitcode == 0:
            break
    assert states[0] == (False, False)
    assert (True, False) in states
    assert states[-1] == (True, True)


@pytest.mark.slow
def test_25_races_of_builds_relocks_and_looks_leave_a_lock_that_agrees_with_the_frames(tmp_path, bars):
    house = LockedStore(tmp_path / "house", bars)
    house.build()
    root = house.store.root
    for number in range(25):
        house.bars = changed(bars, LOCKED[1], by=number + 1.0)
        house.below()
        looks = len(house.lock.looks)
        processes = [start(build_frames, house, *LOCKED), start(accept, house, f"change {number}"), start(look, root, "race")]
        processes += [start(build_frames, house, *LOCKED), start(look, root, "race")]
        finish(*processes)
        held = house.lock
        assert len(held.amendments) == number + 1
        assert len(held.looks) == looks + 2
        # A frame is as the lock says, or the old one, refused, which the next build replaces.
        footer = house.store.footer(FEATURE_FRAME, Key.parse(LOCKED[1]))
        change = held.amendments[-1]["changed_dates"][LOCKED[1]]
        assert footer.locked_hash in change.values()
        assert held.dates[LOCKED[1]] == change["new"]
        assert house.build() == []
        assert house.store.footer(FEATURE_FRAME, Key.parse(LOCKED[1])).locked_hash == change["new"]
