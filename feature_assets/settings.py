"""The settings: environment variables over feature_assets.toml over defaults, validated once.

Everything that reads the environment lives here; the rest of the package gets a Settings. A wrong value raises
SettingError, one sentence that names the setting.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from feature_assets.dataset.keys import SYMBOL
from feature_assets.errors import SettingError
from feature_assets.features.build import FeatureOptions
from feature_assets.market.bars import INPUT_GROUPS
from feature_assets.splits.manifest import Split, SplitManifest, parse_splits, splits_from_json

PREFIX = "FEATURE_ASSETS_"
TOML_FILE = "feature_assets.toml"

_DEMO_START = dt.date(2026, 2, 1)
_DEMO_DAYS = 5
_DEMO_SPLITS = "FIT:2026-02-01..2026-02-04,TUNE:2026-02-04..2026-02-05,VALIDATION_LOCKED:2026-02-05..2026-02-06"
_DEFAULTS = {
    "ROOT": "data",
    "SOURCE": "synthetic",
    "SYMBOLS": "BTCUSDT,ETHUSDT,SOLUSDT",
    "START_DATE": "",
    "END_DATE": "",
    "SPLITS": "",
    "EMBARGO_MINUTES": "",
    "WALK_FORWARD_FOLDS": "",
    "OPTIONAL_GROUPS": "liquidations",
    "ALLOW_INCOMPLETE_DAYS": "false",
    "GAPS": "bridge",
    "SHOW_LOCKED_MEDIANS": "true",
}
_ROOT_SCHEMES = ("file", "s3", "gs", "gcs", "abfs", "abfss")


@dataclass(frozen=True)
class Symbol:
    """A symbol and the half-open range of dates on which it is a member; None is open."""

    name: str
    begin: dt.date | None = None
    end: dt.date | None = None

    def is_member(self, day: dt.date) -> bool:
        return (self.begin is None or self.begin <= day) and (self.end is None or day < self.end)


@dataclass(frozen=True)
class Settings:
    """The validated settings. `end` is the date after the last; None means up to and with yesterday."""

    root: str
    source: str
    symbols: tuple[Symbol, ...]
    start: dt.date
    end: dt.date | None
    splits: SplitManifest
    options: FeatureOptions
    show_locked_medians: bool = True

    @property
    def symbol_names(self) -> tuple[str, ...]:
        return tuple(symbol.name for symbol in self.symbols)

    def members(self, day: dt.date) -> tuple[str, ...]:
        """The symbols that are members on `day`, in sorted order."""
        return tuple(sorted(symbol.name for symbol in self.symbols if symbol.is_member(day)))

    def end_date(self) -> dt.date:
        """The date after the last one that there can be a partition of: never later than today, UTC."""
        today = dt.datetime.now(dt.UTC).date()
        return today if self.end is None else min(self.end, today)


def load_settings(environment: Mapping[str, str] | None = None, folder: Path | None = None) -> Settings:
    """Settings of `environment` (os.environ by default) and of feature_assets.toml in `folder` (the working directory)."""
    folder = Path.cwd() if folder is None else folder
    environment = os.environ if environment is None else environment
    values = {**_DEFAULTS, **_from_toml(folder / TOML_FILE)}
    values |= {name: environment[PREFIX + name] for name in _DEFAULTS if environment.get(PREFIX + name, "") != ""}

    start = parse_date("START_DATE", values["START_DATE"]) if values["START_DATE"] else _DEMO_START
    if values["END_DATE"] == "yesterday":
        end = None
    elif values["END_DATE"]:
        end = parse_date("END_DATE", values["END_DATE"])
    else:
        end = start + dt.timedelta(days=_DEMO_DAYS)
    if end is not None and end <= start:
        raise SettingError(f"END_DATE: {end} is not after START_DATE {start}; it is the date after the last.")
    return Settings(
        root=parse_root("ROOT", values["ROOT"], folder),
        source=values["SOURCE"],
        symbols=_symbols(values["SYMBOLS"]),
        start=start,
        end=end,
        splits=_split_manifest(values, folder),
        options=FeatureOptions(
            optional_groups=_groups(values["OPTIONAL_GROUPS"]),
            allow_incomplete_days=_boolean("ALLOW_INCOMPLETE_DAYS", values["ALLOW_INCOMPLETE_DAYS"]),
            gaps=_gaps(values["GAPS"]),
        ),
        show_locked_medians=_boolean("SHOW_LOCKED_MEDIANS", values["SHOW_LOCKED_MEDIANS"]),
    )


def _from_toml(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{TOML_FILE}: not readable as TOML: {error}.") from error
    known = {name.lower(): name for name in _DEFAULTS}
    if unknown := sorted(set(found) - set(known)):
        raise SettingError(f"{TOML_FILE}: unknown setting {', '.join(unknown)}; expected some of {', '.join(known)}.")
    values = {}
    for key, value in found.items():
        if value == "" or not isinstance(value, str | int | dt.date | list):
            raise SettingError(f"{known[key]}: {TOML_FILE} has {value!r}; leave it out for the default, or give it as text.")
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        values[known[key]] = text.lower() if isinstance(value, bool) else text
    return values


def parse_root(name: str, text: str, folder: Path) -> str:
    """A URL as it is, a folder as its full path. The URL itself is not in the messages: it may hold a secret."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        path = _path(name, text, folder).resolve()
        if path.exists() and not path.is_dir():
            raise SettingError(f"{name}: {path} is a file; expected a folder or a URL.")
        return str(path)
    if scheme not in _ROOT_SCHEMES:
        raise SettingError(
            f"{name}: a URL of kind {scheme}:// is not known; expected a folder or one of {', '.join(_ROOT_SCHEMES)}."
        )
    if "@" in rest:
        raise SettingError(f"{name}: the URL holds credentials; give them by the environment, e.g. AWS_ACCESS_KEY_ID.")
    if not rest.strip("/") or (scheme == "file" and not rest.startswith("/")):
        raise SettingError(f"{name}: the {scheme}:// URL is not well formed; expected e.g. s3://bucket/prefix or file:///folder.")
    return text


def _path(name: str, text: str, folder: Path) -> Path:
    try:
        return folder / Path(text).expanduser()
    except RuntimeError as error:
        raise SettingError(f"{name}: {text!r} names no folder: {error}.") from error


def parse_date(name: str, text: str) -> dt.date:
    # Dates are computed with; the last year of the calendar has no room after it.
    if re.fullmatch(r"(?!9999)[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}", text):
        with contextlib.suppress(ValueError):
            return dt.date.fromisoformat(text)
    raise SettingError(f"{name}: {text!r} is no date of the form YYYY-MM-DD.")


def _integer(name: str, text: str, least: int) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < least:
        raise SettingError(f"{name}: {text!r} is no whole number of at least {least}.")
    return int(text)


def _boolean(name: str, text: str) -> bool:
    if text.lower() not in {"true", "false", "1", "0"}:
        raise SettingError(f"{name}: {text!r} is neither true nor false.")
    return text.lower() in {"true", "1"}


def _gaps(text: str) -> Literal["bridge", "restart"]:
    if text not in {"bridge", "restart"}:
        raise SettingError(f"GAPS: {text!r} is neither bridge nor restart.")
    return cast("Literal['bridge', 'restart']", text)


def _groups(text: str) -> tuple[str, ...]:
    """Optional groups; `none` stands for no group, as an empty variable means the default."""
    groups = tuple(filter(None, (piece.strip() for piece in text.split(",")))) if text != "none" else ()
    if unknown := sorted(set(groups) - set(INPUT_GROUPS)):
        raise SettingError(f"OPTIONAL_GROUPS: unknown group {', '.join(unknown)}; expected some of {', '.join(INPUT_GROUPS)}.")
    return tuple(sorted(set(groups)))


def _symbols(text: str) -> tuple[Symbol, ...]:
    symbols = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, colon, life = part.partition(":")
        if not SYMBOL.fullmatch(name):
            raise SettingError(
                f"SYMBOLS: {name!r} is no symbol; expected up to 40 of A-Z, 0-9, _ and -, beginning with a letter or digit."
            )
        begin, dots, end = life.partition("..")
        if colon and not dots:
            raise SettingError(f"SYMBOLS: {part!r} has no lifetime of the form {name}:2020-08-01..2022-05-13.")
        symbol = Symbol(name, parse_date("SYMBOLS", begin) if begin else None, parse_date("SYMBOLS", end) if end else None)
        if symbol.begin and symbol.end and symbol.begin >= symbol.end:
            raise SettingError(f"SYMBOLS: the lifetime of {part!r} is empty; its end is the date after the last.")
        symbols.append(symbol)
    names = [symbol.name for symbol in symbols]
    if not names:
        raise SettingError("SYMBOLS: there is none; expected at least one, e.g. BTCUSDT.")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingError(f"SYMBOLS: {', '.join(twice)} is there twice; give it once.")
    return tuple(sorted(symbols, key=lambda symbol: symbol.name))


def _split_manifest(values: Mapping[str, str], folder: Path) -> SplitManifest:
    """The splits with their embargo and folds, which a split manifest's file may hold, too."""
    splits, in_file = _splits(values, folder)
    numbers = []
    for name, least in (("EMBARGO_MINUTES", 0), ("WALK_FORWARD_FOLDS", 1)):
        text, filed = values[name], str(in_file.get(name.lower(), ""))
        if text and filed and text != filed:
            raise SettingError(f"{name}: {text} is set, the file of SPLITS says {filed}; leave one out.")
        numbers.append(_integer(name, text or filed or str(least), least))
    return SplitManifest(splits, *numbers)


def _splits(values: Mapping[str, str], folder: Path) -> tuple[list[Split], Mapping[str, object]]:
    """The splits and, where they are a file's, what else it holds."""
    text = values["SPLITS"]
    if not text:
        demo = not values["START_DATE"] and not values["END_DATE"]
        return (parse_splits(_DEMO_SPLITS) if demo else []), {}
    if not text.startswith("file:"):
        return parse_splits(text), {}
    path = _path("SPLITS", text.removeprefix("file:"), folder)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return splits_from_json(value), value
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SettingError(f"SPLITS: {path} is not readable as a split manifest: {error}.") from error
