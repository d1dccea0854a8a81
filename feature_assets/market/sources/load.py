"""From the SOURCE setting to a source."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import NamedTuple

from feature_assets.errors import FeatureAssetsError, SettingError
from feature_assets.market.sources.base import Source
from feature_assets.market.sources.binance import BinanceSource
from feature_assets.market.sources.parquet import ParquetSource
from feature_assets.market.sources.synthetic import SyntheticSource

_EXPECTED = "synthetic, parquet:PATH, binance:PATH or python:package.module:Factory"


class LoadedSource(NamedTuple):
    """A source with what store.json says of it: its kind, and an identity that holds no path."""

    kind: str
    identity: str
    source: Source


def load_source(text: str) -> LoadedSource:
    """The source that the SOURCE setting names; raises SettingError, naming the setting, where there is none."""
    kind, _, rest = text.partition(":")
    if kind == "synthetic" and not rest:
        synthetic = SyntheticSource()
        return LoadedSource(kind, synthetic.identity, synthetic)
    if kind in {"parquet", "binance"} and rest:
        path = Path(os.path.expanduser(rest)).absolute()  # noqa: PTH111 - Path's own raises for an unknown user
        if not (path.is_dir() if kind == "binance" else path.exists()):
            raise SettingError(f"SOURCE: {kind}:{rest} names no file or folder; expected {_EXPECTED}.")
        if kind == "binance":
            return LoadedSource(kind, path.name, BinanceSource(path))
        return LoadedSource(kind, path.name, ParquetSource(path))
    if kind == "python" and rest.count(":") == 1:
        return LoadedSource(kind, rest, _from_factory(rest))
    raise SettingError(f"SOURCE: {text!r} is no source; expected {_EXPECTED}.")


def _from_factory(rest: str) -> Source:
    module_name, _, factory_name = rest.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, SyntaxError, AttributeError, ValueError, TypeError) as error:
        raise SettingError(f"SOURCE: python:{rest} cannot be imported: {error}.") from error
    try:
        source = factory()
    except (FeatureAssetsError, TypeError) as error:
        raise SettingError(f"SOURCE: python:{rest} refused to start: {error}") from error
    if missing := [name for name in ("iter_days", "fingerprint") if not callable(getattr(source, name, None))]:
        raise SettingError(f"SOURCE: what python:{rest} makes has no {' and no '.join(missing)}; see docs/sources.md.")
    return source
