"""The rows of the bench, a function each: what is run, side by side and in turn, and how it reads."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from feature_assets_bench.run import Found, Place, Ran, middle, part

_OUTPUTS = ("symbol_features", "feature_frame", "dataset", "report", "split", "quarantine")


@dataclass(frozen=True)
class Sizes:
    """Days, symbols and repetitions of each row."""

    repeat: int
    naive_rows: int
    year: int
    calls: int
    layers: tuple[int, int]
    build: tuple[int, int]
    builds: int
    stored: tuple[int, ...]
    turns: int
    reading: tuple[int, int]
    events: int


FULL = Sizes(3, 2000, 365, 50, (10, 30), (10, 60), 1, (10, 100, 300, 1000), 5, (3, 365), 600)
SMALL = Sizes(1, 1500, 6, 3, (2, 2), (2, 3), 1, (2, 3), 1, (2, 20), 10)


def year(folder: Path, size: Sizes) -> Found:
    """A symbol's year from its replay to the report, in one process."""
    replay = folder / "replay.parquet"
    place = _with_replay(folder, replay, 1, size.year)
    place.run("make_store", layers=0)
    bare: list[Ran] = []
    full: list[Ran] = []
    other: list[Ran] = []
    for _ in range(size.repeat):
        for runs, task in ((bare, "bare"), (full, "store_year")):
            place.forget(*_OUTPUTS)
            runs.append(place.run(task, profiled=False))
        other.append(place.other(replay, size.naive_rows))
    found, theirs, peak = Found(), part(other), middle(other).mib
    for name, runs, targets in (
        ("without proofs and layers", bare, (">= 4x", "<= 0.5x")),
        ("stored replay to report, all checks and proofs", full, ("", "")),
    ):
        what = f"a symbol's {size.year} days, {name}"
        ours, mib = part(runs), middle(runs).mib
        found.lines.append((what, f"{ours:.2f} s", f"{theirs:.2f} s", f"{theirs / ours:.1f}x faster", targets[0]))
        if peak:
            found.lines.append((f"{what}: peak", f"{mib:.0f} MiB", f"{peak:.0f} MiB", f"{mib / peak:.2f}x", targets[1]))
    place.forget(*_OUTPUTS)
    bare_spent = place.run("bare", profiled=True).answer
    place.forget(*_OUTPUTS)
    proven = place.run("store_year", profiled=True).answer
    dearest = dict(sorted(bare_spent["features"].items(), key=lambda item: -item[1])[:12])
    found.text += [
        f"Where the time of a symbol's {size.year} days goes, in one thread (ms). Without proofs and layers, by stage:",
        _milliseconds(bare_spent["stages"]),
        "Its `compute` by feature, the twelve dearest; the first that needs a shared window pays for it:",
        _milliseconds(dearest),
        "With every check and proof, by layer, and then by what all layers are made of:",
        _milliseconds(proven["stages"]),
        _milliseconds(proven["within"]),
    ]
    return found


def day(folder: Path, size: Sizes) -> Found:
    """A symbol's day, and the row of one new minute."""
    place = Place(folder, 1, 3)
    place.run("make_store", layers=1)
    runs = [place.run("day_and_row", times=size.calls).answer for _ in range(size.repeat)]
    ran = runs[0] | {name: statistics.median(run[name] for run in runs) for name in ("day_ms", "row_ms")}
    ran["equal"] = min(run["equal"] for run in runs)
    equal = f"{ran['equal']} of {ran['tested']} rows bit-equal to the stored ones"
    return Found(
        [
            (f"a symbol's day: feature table of {ran['rows']:,} rows", f"{ran['day_ms']:.1f} ms", "", "", "<= 10 ms"),
            (f"a new minute: one row of 1,454 bars ({equal})", f"{ran['row_ms']:.1f} ms", "", "", "<= 5 ms"),
        ]
    )


def layers(folder: Path, size: Sizes) -> Found:
    """Each layer's range run against the same graph with empty bodies, as whole processes."""
    found = Found()
    symbols, days = size.layers
    real, empty = Place(folder, symbols, days), Place(folder.with_name("empty"), symbols, days)
    real.run("make_store", layers=0)
    for asset in ("replay", "symbol_features", "feature_frame"):
        runs: dict[bool, list[Ran]] = {True: [], False: []}
        for _ in range(size.repeat):
            for is_empty, place in ((False, real), (True, empty)):
                runs[is_empty].append(place.run("layer", asset=asset, empty=is_empty))
        ours, theirs = middle(runs[False]), middle(runs[True])
        if ours.answer["events"] != theirs.answer["events"]:
            raise RuntimeError(f"{asset}: other events than the empty bodies': {ours.answer} and {theirs.answer}")
        what = f"run of {asset}, {symbols} symbols x {days} days, other: empty bodies"
        for suffix, own, their, target in (
            ("", ours.seconds, theirs.seconds, "<= 1.5x"),
            (", without the start", part(runs[False]), part(runs[True]), ""),
        ):
            found.lines.append((what + suffix, f"{own:.2f} s", f"{their:.2f} s", f"{own / their:.2f}x", target))
    return found


def build(folder: Path, size: Sizes) -> Found:
    """The whole command on a Parquet replay against the reference on the same file."""
    symbols, days = size.build
    replay = folder / "replay.parquet"
    place = _with_replay(folder, replay, symbols, days)
    ours, other = [], []
    for _ in range(size.builds):
        place.forget(*_OUTPUTS, "replay")
        ours.append(place.build(0, days - 1))
        other.append(place.other(replay, size.naive_rows))
    mine, theirs = middle(ours), middle(other)
    what = f"`feature-assets build`, {symbols} symbols x {days} days"
    time, peak = mine.seconds / theirs.seconds, f"{mine.mib / theirs.mib:.2f}x" if theirs.mib else ""
    return Found(
        [
            (what, f"{mine.seconds:.1f} s", f"{theirs.seconds:.1f} s", f"{time:.2f}x", "<= 3x, goal 1x"),
            (f"{what}: peak", f"{mine.mib:.0f} MiB", f"{theirs.mib:.0f} MiB" if peak else "", peak, ""),
        ]
    )


def growth(folder: Path, size: Sizes) -> Found:
    """What a day costs to add to a store that has so many, in turn with one that has few."""
    first, last = size.stored[0], size.stored[-1]
    few, many = (Place(name, 2, last + size.turns) for name in (folder.with_name("few"), folder))
    found, built = Found(curves={"process": [], "after import": [], "peak": []}), 0
    few.build(0, first - 2)
    for turn, stored in enumerate(size.stored):
        if stored - 1 > built:
            many.build(built, stored - 2)
        built = stored - 1 + size.turns
        runs: dict[str, list[Ran]] = {"few": [], "many": []}
        for number in range(size.turns):
            small, large = first - 1 + turn * size.turns + number, stored - 1 + number
            runs["few"].append(few.build(small, small))
            runs["many"].append(many.build(large, large))
        before, after = _costs(runs["few"]), _costs(runs["many"])
        for name, value in after.items():
            found.curves[name].append((stored, value))
    for name, then in before.items():
        now = after[name]
        what = f"add day {last:,} to 2 symbols, other: day {first} or soon after, in turn; {name}"
        mine, other = (f"{value:.0f} MiB" if name == "peak" else f"{value:.2f} s" for value in (now, then))
        found.lines.append((what, mine, other, f"{now / then:.2f}x", "flat"))
    return found


def _costs(runs: Sequence[Ran]) -> dict[str, float]:
    return {
        "process": statistics.median(ran.seconds for ran in runs),
        "after import": part(runs),
        "peak": statistics.median(ran.mib for ran in runs),
    }


def reading(folder: Path, size: Sizes) -> Found:
    """FIT's rows of five features from the store, against a scan of one file as the reference writes it."""
    symbols, days = size.reading
    place = Place(folder, symbols, days)
    place.run("make_store", layers=2)
    path = str(folder / "single.parquet")
    bytes_ = place.run("single_file", path=path).answer
    ran = place.run("reading", path=path, times=min(size.calls, 7)).answer
    ms, single = ran["ms"], ran["ms"]["single"]
    what = f"5 features of FIT, {days} days x {symbols} symbols, other: one file;"
    ways = {
        "folder": f"the folder's {ran['files']} files, filter on split_id",
        "dates": "the folder, and a filter on FIT's dates",
        "list": "the list of FIT's files, with the schema",
        "monthly": f"compacted to {ran['months']} monthly file(s)",
    }
    found = Found()
    for name, way in ways.items():
        found.lines.append((f"{what} {way}", f"{ms[name]:.0f} ms", f"{single:.0f} ms", f"{ms[name] / single:.2f}x", ""))
    found.text.append(
        f"Reading gives {ran['rows']:,} rows. Listing the folder's {ran['files']} files takes {ms['discover']:.0f} ms of its "
        f"{ms['folder']:.0f}. Opening them all for their footers takes {ms['footers']:.0f} ms in one thread, "
        f"{1000 * ms['footers'] / ran['files']:.0f} us a file, and decoding the columns, too, {ms['opened']:.0f} ms. The store's "
        f"files are {bytes_['store_bytes'] / 1e6:.0f} MB, the one file {bytes_['bytes'] / 1e6:.0f} MB, and compacting took "
        f"{ran['compact']:.1f} s."
    )
    return found


def event_log(folder: Path, size: Sizes) -> Found:
    """A partition's events in Dagster's own SQLite log and in the project's."""
    ran = Place(folder, 1, 3).run("event_log", events=size.events).answer
    if not ran:
        return Found(
            text=["The event log is Dagster's own here: dagster.yaml names no feature_assets.event_log to compare it with."]
        )
    what = f"a materialization and its check, of {size.events}, other: Dagster's own log"
    return Found([(what, f"{ran['ours']:.1f} ms", f"{ran['stock']:.1f} ms", f"{ran['ours'] / ran['stock']:.2f}x", "")])


def _with_replay(folder: Path, replay: Path, symbols: int, days: int) -> Place:
    """A place whose source is a replay file that begins with START, made now."""
    place = Place(folder, symbols, days)
    place.run("make_replay", path=str(replay), symbols=place.symbols, start=str(place.start), days=days)
    place.environment["FEATURE_ASSETS_SOURCE"] = f"parquet:{replay}"
    return place


ROWS: dict[str, Callable[[Path, Sizes], Found]] = {
    row.__name__: row for row in (year, day, layers, build, growth, reading, event_log)
}


def _milliseconds(seconds: dict[str, float]) -> str:
    return "\n".join(["| | ms |", "|---|---:|", *(f"| {name} | {1000 * value:,.0f} |" for name, value in seconds.items())])
