"""How a feature is declared: the decorator above its function. The list of all features is in catalogue.py."""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from feature_assets.errors import FeatureDeclarationError
from feature_assets.market.bars import INPUT_GROUPS, Bars

FeatureFunction = Callable[[Bars], np.ndarray]


@dataclass(frozen=True)
class Feature:
    """A feature's function with what the rest of the project derives from it.

    name: the column. unit: of the stored value. lookback_rows: how many rows before row t the value may read.
    group: the input group whose absence makes it NaN. columns: the replay columns it reads. bounds: the closed range
    of its finite values. description: the formula's meaning, from the function's docstring. fitted_on: the date before
    which lies all data that a constant in it was fitted on; None where nothing was fitted.
    """

    name: str
    function: FeatureFunction
    unit: str
    lookback_rows: int
    group: str
    columns: tuple[str, ...]
    bounds: tuple[float, float]
    description: str
    fitted_on: dt.date | None = None

    def schema_entry(self) -> dict[str, object]:
        """The feature's object in feature_schema.json."""
        return {"dtype": "float32", "lookback_rows": self.lookback_rows, "name": self.name, "unit": self.unit}


def shared(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Remember a function of (bars, *arguments) for as long as the bars live, as several features need it."""

    @functools.wraps(function)
    def remembered(bars: Bars, *arguments: object) -> np.ndarray:
        key = (function, *arguments)
        if key not in bars.memo:
            bars.memo[key] = function(bars, *arguments)
        return bars.memo[key]

    return remembered


def feature(
    *,
    unit: str,
    lookback: int,
    columns: tuple[str, ...],
    group: str = "bars",
    bounds: tuple[float, float] = (-math.inf, math.inf),
    fitted_on: dt.date | None = None,
) -> Callable[[FeatureFunction], FeatureFunction]:
    """Declare the decorated function of Bars as a feature; its name is the column, its docstring the description.

    The function gives float64 of shape (rows,), where row t reads rows t-lookback..t of `columns` alone. What
    feature_assets.features.build does for every feature (float32, infinities to NaN, gaps) it need not do. Where a number
    in it was fitted on data, `fitted_on` is the end of that data, the first date that is no longer in it: the splits'
    FIT must reach that far (feature_assets.leakage.fitted).
    """

    def declare(function: FeatureFunction) -> FeatureFunction:
        name = function.__name__
        if group not in INPUT_GROUPS:
            raise FeatureDeclarationError(f"feature {name}: group {group!r} is none of {', '.join(INPUT_GROUPS)}.")
        if not function.__doc__:
            raise FeatureDeclarationError(f"feature {name} has no docstring; write what its formula means.")
        known = {"event_time", *(column for names in INPUT_GROUPS.values() for column in names)}
        if unknown := set(columns) - known:
            raise FeatureDeclarationError(f"feature {name}: {', '.join(sorted(unknown))} is no replay column.")
        if fitted_on is not None and type(fitted_on) is not dt.date:
            raise FeatureDeclarationError(
                f"feature {name}: fitted_on {fitted_on!r} is no date; give the end of the data as dt.date(year, month, day)."
            )
        remembered = shared(function)
        remembered.feature = Feature(  # type: ignore[attr-defined]
            name, remembered, unit, lookback, group, columns, bounds, " ".join(function.__doc__.split()), fitted_on
        )
        return remembered

    return declare
