"""The `feature-assets` command: its arguments, its progress and its summary. What it does is building.py's."""

from __future__ import annotations

import argparse
import datetime as dt
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
    from feature_assets.settings import Settings

OK, FAILED, USAGE, LEFT_STALE = 0, 1, 2, 3
_WARNINGS = 20


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
    return parser


def _add_range(command: argparse.ArgumentParser) -> None:
    command.add_argument("--from", dest="start", metavar="DATE", help="first date (default: START_DATE)")
    command.add_argument("--to", dest="end", metavar="DATE", help="the date after the last (default: END_DATE)")


def _build(options: argparse.Namespace) -> int:
    # Late, so that --help and a wrong argument do not wait for Dagster.
    from feature_assets.settings import load_settings

    settings = load_settings()
    start, end = _range(options, settings)
    set_dagster_home()
    started = time.monotonic()
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

    def __init__(self) -> None:
        super().__init__()
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
        text = f"{asset:<16} {done}/{total} partitions"
        sys.stderr.write(f"\r{text:<50}" + ("\n" if last else "") if self._moving else f"{text}\n")
        sys.stderr.flush()
        self._open = self._moving and not last

    def end(self) -> None:
        if self._open:
            sys.stderr.write("\n")


def _summarize(settings: Settings, result: BuildResult, start: dt.date, end: dt.date, seconds: float) -> None:
    from feature_assets.dataset.feature_manifest import MANIFEST_FILE, row_counts
    from feature_assets.dataset.keys import Key, dates
    from feature_assets.dataset.quality_report import REPORT_FILE
    from feature_assets.dataset.store import FEATURE_FRAME, Store
    from feature_assets.features.catalogue import FLAGS

    store = Store(settings.root)
    footers = [footer for date in dates(start, end) if (footer := store.footer(FEATURE_FRAME, Key(date)))]
    counts = row_counts(footers)
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
