"""The rule of finite values, on a table of feature rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_assets.features.catalogue import FEATURES, feature_values
from feature_assets.features.declaration import Feature


def not_finite(table: pa.Table, optional_groups: tuple[str, ...], *, show_values: bool = True) -> list[str]:
    """Where a table breaks the rule, a sentence a feature; nothing for a sound one.

    No value is infinite; an OK row has every value; a PARTIAL_OPTIONAL row lacks values of optional groups alone; what
    is there lies in the feature's bounds. Without show_values a sentence names feature, rule and minute alone.
    """
    broken = []
    for feature in _suspects(table, optional_groups):
        flags, values = table["data_quality_flag"].to_numpy(), table[feature.name].to_numpy()
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


def _suspects(table: pa.Table, optional_groups: tuple[str, ...]) -> list[Feature]:
    """The features that break a rule, found on all at once: nearly always none."""
    if not table.num_rows:
        return []
    values = feature_values(table)
    lowest, highest = np.fmin.reduce(values, axis=1), np.fmax.reduce(values, axis=1)
    low, high = (np.array([feature.bounds[side] for feature in FEATURES]) for side in (0, 1))
    broken = np.isinf(lowest) | np.isinf(highest) | (lowest < low) | (highest > high)
    required = np.array([feature.group not in optional_groups for feature in FEATURES])
    ok, partial = (pc.equal(table["data_quality_flag"], flag).to_numpy() for flag in ("OK", "PARTIAL_OPTIONAL"))
    absent = np.isnan(values)
    broken |= (absent & ok).any(axis=1) | (required & (absent & partial).any(axis=1))
    return [FEATURES[place] for place in np.flatnonzero(broken)]
