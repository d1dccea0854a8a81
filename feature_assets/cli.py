"""The `feature-assets` command: its arguments, its progress and its summary. What it does is building.py's."""

from __future__ import annotations

import argparse
import datetime as dt
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
    from feature_assets.settings import Settings

OK, FAILED, USAGE, LEFT_STALE = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; gives 0 where all is built, 1 where something failed or was refused, 2 for a wrong setting or
    argument, 3 where --only left later days stale.
    """
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except SettingError as error:
        return _complain(f"wrong setting: {error}", USAGE)
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
    build.add_argument("--from", dest="start", metavar="DATE", help="first date (default: START_DATE)")
    build.add_argument("--to", dest="end", metavar="DATE", help="the date after the last (default: END_DATE)")
    build.add_argument("--only", action="store_true", help="leave published later days that look back to what changed")
    build.set_defaults(run=_build)
    return parser


def _build(options: argparse.Namespace) -> int:
    # Late, so that --help and a wrong argument do not wait for Dagster.
    from feature_assets.settings import load_settings

    settings = load_settings()
    start = _date(options.start, "--from") if options.start else settings.start
    end = _date(options.end, "--to") if options.end else settings.end_date()
    if not settings.start <= start < end <= settings.end_date():
        return _complain(
            f"--from {start} --to {end} is no range within START_DATE {settings.start} and END_DATE {settings.end_date()}.", USAGE
        )
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


def set_dagster_home() -> None:
    """Where the user has not set DAGSTER_HOME: the working directory if it has a dagster.yaml, else .dagster in it."""
    if os.environ.get("DAGSTER_HOME"):
        return
    home = Path.cwd()
    if not (home / "dagster.yaml").is_file():
        home /= ".dagster"
        home.mkdir(exist_ok=True)
        (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\nnux:\n  enabled: false\n", encoding="utf-8")
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
    for partition in result.left_stale:
        print(f"left stale: {partition}")
    for error in result.errors:
        print(f"\nFAILED {error}", file=sys.stderr)


def _date(text: str, name: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise SettingError(f"{name}: {text!r} is no date of the form YYYY-MM-DD.") from None


def _complain(text: str, code: int) -> int:
    print(f"feature-assets: {text}", file=sys.stderr)
    return code
