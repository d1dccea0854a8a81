"""The `feature-assets` command: its arguments, its progress and its summary. What it does is building.py's."""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import importlib
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from feature_assets.errors import FeatureAssetsError, SettingError

if TYPE_CHECKING:
    from feature_assets.building import BuildResult
    from feature_assets.dataset.status import PartitionState
    from feature_assets.leakage.prove import Proof
    from feature_assets.settings import Settings

OK, FAILED, USAGE, LEFT_STALE = 0, 1, 2, 3
_WARNINGS = 20
_OBJECTS_BETWEEN_ROUNDS = 10_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives 0 where all is built, 1 where something failed or was refused, 2 for a wrong setting or
    argument, 3 where --only left later days stale.
    """
    options = _parser().parse_args(arguments)
    # As with python -m and Dagster's own commands, so that SOURCE=python:... finds a module beside the settings.
    sys.path.insert(0, str(Path.cwd()))
    try:
        code: int = options.run(options)
    except SettingError as error:
        return _complain(str(error), USAGE)
    except FeatureAssetsError as error:
        return _complain(str(error), FAILED)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="feature-assets", description="Build and look after a feature store.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    build = commands.add_parser(
        "build",
        help="build all layers of a range, in order, through Dagster",
        description="Build all layers of the dates from --from up to the day before --to. Exit codes: 0 built, 1 something was "
        "refused or failed, 2 a wrong setting or argument, 3 --only left later days stale.",
    )
    _add_range(build)
    build.add_argument("--only", action="store_true", help="leave published later days that look back to what changed")
    build.set_defaults(run=_build)
    status = commands.add_parser(
        "status",
        help="what of a range is built, stale, refused, absent, not yet there or missing, and why",
        description="The state of every partition of the dates from --from up to the day before --to, from the store's files and "
        "the source alone. Exit codes: 0 everything is built, 1 something is not, 2 a wrong setting or argument.",
    )
    _add_range(status)
    status.add_argument("--json", action="store_true", help="every partition as JSON")
    status.set_defaults(run=_status)
    audit = commands.add_parser(
        "audit",
        help="prove stored features against the future, at any depth",
        description="For every stored partition of symbol_features from --from up to the day before --to: its file is whole, "
        "stands on the replay that there is, and is in the frame; and with the rows after each cut removed or poisoned, every "
        "row up to it comes out of the replay bit for bit. Exit codes: 0 proven, 1 not, 2 a wrong setting or argument.",
    )
    _add_range(audit)
    audit.add_argument("--cuts", type=_cuts, default=1, metavar="N", help="cuts a partition: 1, up to every minute (1440)")
    audit.set_defaults(run=_audit)
    relock = commands.add_parser(
        "relock",
        help="accept changed rows of VALIDATION_LOCKED, with a reason that is kept",
        description="Accept the rows of VALIDATION_LOCKED that the stored features and the present settings give, and its "
        "boundaries, as one amendment of the validation lock. Nothing is built: `feature-assets build` then publishes them. "
        "Exit codes: 0 accepted, or nothing has changed, 1 inputs are missing, refused or stale, 2 a wrong setting or argument.",
    )
    relock.add_argument("--reason", required=True, metavar="TEXT", help="why, for whoever reads the ledger")
    relock.set_defaults(run=_relock)
    diff = commands.add_parser(
        "diff",
        help="what differs between two stores, or between a store and a folder that the reference wrote",
        description="Compare two stores (folders or URLs) by content, or a store with a folder of the reference "
        "(feature_frame.parquet) within the contract's tolerances. Files with equal content hashes in their footers are not "
        "read further. Exit codes: 0 the same, 1 different, or a file is not readable, 2 a wrong argument.",
    )
    for side in ("A", "B"):
        diff.add_argument(f"root_{side.lower()}", metavar=f"ROOT_{side}", help="a store, or a folder that the reference wrote")
    _add_range(diff, "the first there is", "up to the last there is")
    diff.add_argument("--json", action="store_true", help="every partition that differs, as JSON")
    diff.set_defaults(run=_diff)
    prove = commands.add_parser(
        "prove",
        help="prove every feature's look-back and columns, and that it neither looks ahead nor remembers",
        description="Hold each feature's declaration against its function, on made-up replays in processes that can open no "
        "file. Exit codes: 0 everything holds, 1 something does not, 2 a wrong setting or argument.",
    )
    prove.add_argument("--feature", metavar="NAME", help="this feature alone (default: the catalogue)")
    prove.set_defaults(run=_prove)
    return parser


def _cuts(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1440:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 1 to 1440")
    return int(text)


def _add_range(command: argparse.ArgumentParser, first: str = "START_DATE", last: str = "END_DATE") -> None:
    command.add_argument("--from", dest="start", metavar="DATE", help=f"first date (default: {first})")
    command.add_argument("--to", dest="end", metavar="DATE", help=f"the date after the last (default: {last})")


def _build(options: argparse.Namespace) -> int:
    # Late, so that --help and a wrong argument do not wait for Dagster.
    from feature_assets.settings import load_settings

    settings = load_settings()
    start, end = _range(options, settings)
    set_dagster_home()
    started = time.monotonic()
    import_building()
    import dagster as dg

    from feature_assets.building import build_range

    progress = _Progress()
    with dg.DagsterInstance.get() as instance:
        result = build_range(settings, instance, start, end, only=options.only)
    progress.end()
    _summarize(settings, result, start, end, time.monotonic() - started)
    if result.errors:
        return FAILED
    return LEFT_STALE if result.left_stale else OK


def import_building() -> None:
    """Import Dagster and what stands on it, and leave the million objects that stay for good to no garbage collection.

    One of all of them takes a tenth of a second and finds nothing. Rounds are rarer afterwards, too: with Python's own
    700 objects between them (2,000 from 3.13 on) they take a twentieth of a build, and find as little.
    """
    if "feature_assets.building" in sys.modules:
        return
    gc.disable()
    try:
        importlib.import_module("feature_assets.building")
    finally:
        gc.freeze()
        gc.set_threshold(_OBJECTS_BETWEEN_ROUNDS)
        gc.enable()


def _status(options: argparse.Namespace) -> int:
    from feature_assets.dataset import status
    from feature_assets.dataset.store import Store
    from feature_assets.market.sources import load_source
    from feature_assets.settings import load_settings

    settings = load_settings()
    start, end = _range(options, settings)
    states = status.range_status(Store(settings.root), load_source(settings.source).source, settings, start, end)
    done = all(state.state in status.DONE for state in states)
    if options.json:
        entries = [{"asset": s.asset, "partition": str(s.key), "state": s.state, "reason": s.reason} for s in states]
        print(json.dumps({"from": str(start), "to": str(end), "built": done, "partitions": entries}, indent=2))
    else:
        print(_status_table(states, settings))
    return OK if done else FAILED


def _relock(options: argparse.Namespace) -> int:
    from feature_assets.dataset.relock import relock
    from feature_assets.dataset.store import Store
    from feature_assets.settings import load_settings

    settings = load_settings()
    amendment = relock(Store(settings.root), settings, options.reason)
    if amendment is None:
        print("nothing has changed: no amendment is needed")
        return OK
    bounds = amendment["boundaries"]
    print(f"amendment {amendment['number']}: {amendment['reason']}")
    print(f"VALIDATION_LOCKED  {bounds['start']}..{bounds['end']}" if bounds else "VALIDATION_LOCKED  none")
    for date, hashes in amendment["changed_dates"].items():
        print(f"{date}  {hashes['old'] or 'no rows'} -> {hashes['new'] or 'no rows'}")
    print("`feature-assets build` publishes it")
    return OK


def _diff(options: argparse.Namespace) -> int:
    from feature_assets.dataset.diff import compare_roots
    from feature_assets.dataset.diff_text import as_json, as_text
    from feature_assets.settings import parse_date, parse_root

    roots = (parse_root("ROOT_A", options.root_a, Path.cwd()), parse_root("ROOT_B", options.root_b, Path.cwd()))
    start = parse_date("--from", options.start) if options.start else None
    end = parse_date("--to", options.end) if options.end else None
    if start and end and start >= end:
        raise SettingError(f"--from {start} --to {end} is no range; --to is the date after the last.")
    progress = _Progress()
    found = compare_roots(roots, start, end)
    progress.end()
    print(json.dumps(as_json(found), indent=2) if options.json else as_text(found))
    return OK if found.same else FAILED


def _status_table(states: Sequence[PartitionState], settings: Settings) -> str:
    """Dates by symbols, a cell of two signs (replay, features), then the frame; below it what is wrong, and the legend."""
    from feature_assets.dataset import status

    signs = dict(zip(status.STATES, "#~!-.?", strict=True))
    cells: dict[dt.date, dict[str | None, str]] = {}
    for state in states:
        row = cells.setdefault(state.key.date, {})
        row[state.key.symbol] = row.get(state.key.symbol, "") + signs[state.state]
    widths = {name: max(len(name), 2) + 2 for name in settings.symbol_names}
    lines = ["date        " + "".join(f"{name:<{width}}" for name, width in widths.items()) + "frame"]
    for date, row in cells.items():
        symbols = "".join(f"{row.get(name, ''):<{width}}" for name, width in widths.items())
        lines.append(f"{date}  {symbols}{row.get(None, '')}".rstrip())
    counts = status.totals(states)
    lines += ["", "replay and features a symbol, then the frame:"]
    lines.append("   ".join(f"{sign} {name} {counts[name]}" for name, sign in signs.items()))
    lines += [f"{state.state} {state.asset} {state.key}: {state.reason}" for state in states if state.reason]
    return "\n".join(lines)


def _audit(options: argparse.Namespace) -> int:
    from feature_assets.dataset.audit import audit
    from feature_assets.dataset.lock import hidden_from
    from feature_assets.dataset.store import SYMBOL_FEATURES, Store
    from feature_assets.settings import load_settings

    settings = load_settings()
    start, end = _range(options, settings)
    store = Store(settings.root)
    keys = [key for key in store.keys(SYMBOL_FEATURES) if start <= key.date < end]
    hidden = hidden_from(store, settings.splits)
    progress, logger = _Progress(), logging.getLogger("feature_assets.progress")
    cuts, rows, broken = 0, 0, []
    for done, audited in enumerate(audit(store, settings.options, keys, options.cuts, hidden), start=1):
        logger.info("%s %d/%d", "audit", done, len(keys))
        cuts, rows = cuts + audited.cuts, rows + audited.rows_compared
        broken += audited.broken
    progress.end()
    print(f"{len(keys)} partitions, {cuts:,} cuts, {rows:,} rows recomputed without what came after the cut: ", end="")
    print(f"{len(broken)} finding(s)" if broken else "all bit-equal, and as the frame has them" if keys else "nothing is stored")
    for finding in broken:
        print(f"\n{finding}", file=sys.stderr)
    return FAILED if broken or not keys else OK


def _prove(options: argparse.Namespace) -> int:
    from feature_assets.features.catalogue import FEATURE_ORDER, FEATURES
    from feature_assets.leakage.prove import prove
    from feature_assets.settings import load_settings

    settings = load_settings()
    if options.feature not in {None, *FEATURE_ORDER}:
        raise SettingError(
            f"--feature {options.feature}: there is none of that name; expected one of {', '.join(FEATURE_ORDER)}."
        )
    features = [feature for feature in FEATURES if options.feature in {None, feature.name}]
    progress = _Progress("features")
    started = time.monotonic()
    proofs = prove(features, settings.splits, settings.start)
    progress.end()
    print(_proof_table(proofs, settings))
    failed = [proof for proof in proofs if not proof.holds]
    print(f"\n{len(proofs) - len(failed)} of {len(proofs)} features hold; {time.monotonic() - started:.1f} s")
    for proof in failed:
        for name, sentence in proof.wrong.items():
            print(f"FAILED {proof.feature.name}, {name}: {sentence}.", file=sys.stderr)
    return FAILED if failed else OK


def _proof_table(proofs: Sequence[Proof], settings: Settings) -> str:
    from feature_assets.leakage.fitted import end_of_fit
    from feature_assets.leakage.prove import PROOFS

    lines = [f"{'feature':<38}{'declared':>8}{'observed':>10}  columns  look-ahead  deterministic  history-free  fitted_on"]
    for proof in proofs:
        cells = {name: proof.cell(name) for name in PROOFS}
        lines.append(
            f"{proof.feature.name:<38}{proof.feature.lookback_rows:>8,}{cells['look-back']:>10}  {cells['columns']:<7}  "
            f"{cells['look-ahead']:<10}  {cells['deterministic']:<13}  {cells['history-free']:<12}  {cells['fitted_on']}"
        )
    declared = max(proof.feature.lookback_rows for proof in proofs)
    observed = max(proof.observed or 0 for proof in proofs)
    lines.append(f"\nlongest look-back: {declared:,} rows declared, {observed:,} observed")
    end = end_of_fit(settings.splits)
    fit = (
        f"FIT, without its embargo, ends at {end:%Y-%m-%dT%H:%M} UTC" if end else "SPLITS has no FIT, so no fitted_on is refused"
    )
    return "\n".join([*lines, f"fitted_on: {fit}"])


def _range(options: argparse.Namespace, settings: Settings) -> tuple[dt.date, dt.date]:
    """--from and --to, or START and END; raises SettingError where they are no range within those."""
    from feature_assets.settings import parse_date

    start = parse_date("--from", options.start) if options.start else settings.start
    end = parse_date("--to", options.end) if options.end else settings.end_date()
    if not settings.start <= start < end <= settings.end_date():
        raise SettingError(
            f"--from {start} --to {end} is no range within START_DATE {settings.start} and {settings.end_date()}, the "
            "date after the last that there can be: END_DATE, or today."
        )
    return start, end


def set_dagster_home() -> None:
    """Where the user has not set DAGSTER_HOME: the working directory if it has a dagster.yaml, else .dagster in it."""
    if os.environ.get("DAGSTER_HOME"):
        return
    home = Path.cwd()
    if not (home / "dagster.yaml").is_file():
        home /= ".dagster"
        home.mkdir(exist_ok=True)
        config = {
            "telemetry": {"enabled": False},
            "nux": {"enabled": False},
            # Where Dagster has it by itself; written anew each time, so that the folder may be moved.
            "event_log_storage": {
                "module": "feature_assets.event_log",
                "class": "PooledSqliteEventLogStorage",
                "config": {"base_dir": str(home / "history" / "runs")},
            },
        }
        (home / "dagster.yaml").write_text(json.dumps(config, indent=2), encoding="utf-8")  # JSON is YAML
    os.environ["DAGSTER_HOME"] = str(home)


class _Progress(logging.Handler):
    """Shows the progress records of the assets: one line that moves on a terminal, else a line every few seconds."""

    def __init__(self, counted: str = "partitions") -> None:
        super().__init__()
        self._counted = counted
        self._moving, self._shown, self._open = sys.stderr.isatty(), 0.0, False
        logger = logging.getLogger("feature_assets.progress")
        logger.handlers, logger.propagate = [self], False
        logger.setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        asset, done, total = record.args  # type: ignore[misc]
        last = done == total
        if not last and time.monotonic() - self._shown < (0.1 if self._moving else 5.0):
            return
        self._shown = time.monotonic()
        text = f"{asset:<16} {done}/{total} {self._counted}"
        sys.stderr.write(f"\r{text:<50}" + ("\n" if last else "") if self._moving else f"{text}\n")
        sys.stderr.flush()
        self._open = self._moving and not last

    def end(self) -> None:
        if self._open:
            sys.stderr.write("\n")


def _summarize(settings: Settings, result: BuildResult, start: dt.date, end: dt.date, seconds: float) -> None:
    from feature_assets.dataset.examination import MANIFEST_FILE
    from feature_assets.dataset.feature_manifest import row_counts
    from feature_assets.dataset.frame_sample import add_stats
    from feature_assets.dataset.keys import Key, dates
    from feature_assets.dataset.quality_report import REPORT_FILE
    from feature_assets.dataset.store import FEATURE_FRAME, Store
    from feature_assets.features.catalogue import FLAGS

    store = Store(settings.root)
    footers = [footer for date in dates(start, end) if (footer := store.footer(FEATURE_FRAME, Key(date)))]
    sums: dict[str, int] = {}
    for footer in footers:
        add_stats(sums, footer.stats)
    counts = row_counts(sums)
    rows: Counter[tuple[str, str]] = Counter()
    for (symbol, split, _), number in counts.items():
        rows[symbol, split] += number
    print(f"\n{'symbol':<16}{'split':<20}{'rows':>10}" + "".join(f"{flag:>18}" for flag in FLAGS))
    for (symbol, split), number in sorted(rows.items()):
        print(f"{symbol:<16}{split:<20}{number:>10,}" + "".join(f"{counts[symbol, split, flag]:>18,}" for flag in FLAGS))
    print(f"{'all':<36}{sum(rows.values()):>10,}  on {len(footers)} of {(end - start).days} dates\n")
    checks = result.checks
    print(f"checks    {checks['passed']} passed, {checks['warned']} warned, {checks['failed']} failed")
    print(f"frame     {store.path(FEATURE_FRAME)}")
    for name, file in (("manifest", MANIFEST_FILE), ("report", REPORT_FILE)):
        print(f"{name:<10}{store.path(file) if store.exists(file) else 'not built'}")
    print(f"time      {seconds:.1f} s")
    for warning in result.warnings[:_WARNINGS]:
        print(f"warning: {warning}", file=sys.stderr)
    if len(result.warnings) > _WARNINGS:
        print(f"warning: and {len(result.warnings) - _WARNINGS} more; `feature-assets status` shows all", file=sys.stderr)
    for partition in result.left_stale:
        print(f"left stale: {partition}")
    for error in result.errors:
        print(f"\nFAILED {error}", file=sys.stderr)


def _complain(text: str, code: int) -> int:
    print(f"feature-assets: {text}", file=sys.stderr)
    return code
