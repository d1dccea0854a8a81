"""The rule of finite values, on a table of feature rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from feature_assets.features.catalogue import FEATURES
from feature_assets.features.declaration import Feature
from feature_assets.quality.statistics import as_float


def not_finite(table: pa.Table, optional_groups: tuple[str, ...], *, show_values: bool = True) -> list[str]:
    """Where a table breaks the rule, a sentence a feature; nothing for a sound one.

    No value is infinite; an OK row has every value; a PARTIAL_OPTIONAL row lacks values of optional groups alone; what
    is there lies in the feature's bounds. Without show_values a sentence names feature, rule and minute alone.
    """
    flags = table["data_quality_flag"].to_numpy()
    broken = []
    for feature in _suspects(table, flags, optional_groups):
        values = as_float(table[feature.name])
        absent = np.isnan(values)
        low, high = feature.bounds
        rules = {
            "is infinite": np.isinf(values),
            "is missing in an OK row": absent & (flags == "OK"),
            f"lies outside [{low}, {high}]": (values < low) | (values > high),
        }
        if feature.group not in optional_groups:
            rules[f"of the required group {feature.group} is missing in a PARTIAL_OPTIONAL row"] = absent & (
                flags == "PARTIAL_OPTIONAL"
            )
        for rule, mask in rules.items():
            if mask.any():
                row = int(np.flatnonzero(mask)[0])
                value = f": {values[row]}" if show_values else ""
                broken.append(f"{feature.name} {rule} in {int(mask.sum())} row(s), first {table['event_time'][row]}{value}")
    return broken


def _suspects(table: pa.Table, flags: np.ndarray, optional_groups: tuple[str, ...]) -> list[Feature]:
    """The features that break a rule, found on all at once: nearly always none."""
    values = np.stack([as_float(table[feature.name]) for feature in FEATURES])
    low, high = (np.array([[feature.bounds[side]] for feature in FEATURES]) for side in (0, 1))
    required = np.array([[feature.group not in optional_groups] for feature in FEATURES])
    absent = np.isnan(values)
    broken = np.isinf(values) | (values < low) | (values > high)
    broken |= absent & ((flags == "OK") | (required & (flags == "PARTIAL_OPTIONAL")))
    return [FEATURES[place] for place in np.flatnonzero(broken.any(axis=1))]
