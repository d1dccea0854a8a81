"""The catalogue: every feature in the frame's order, and what follows from the declarations.

A feature is declared in its family's module; a new family is one more line in FAMILIES.
"""

from __future__ import annotations

import hashlib
import json
from types import ModuleType

import numpy as np
import pyarrow as pa

from feature_assets.errors import FeatureDeclarationError
from feature_assets.features import families
from feature_assets.features.declaration import Feature
from feature_assets.market.bars import MINUTES_PER_DAY

FEATURE_VERSION = "feature_assets_v1"

FAMILIES: tuple[ModuleType, ...] = (
    families.returns,
    families.volatility,
    families.volume,
    families.trend,
    families.breakouts,
    families.compression,
    families.taker_flow,
    families.spread,
    families.open_interest,
    families.basis,
    families.liquidations,
    families.calendar,
    families.raw,
)

# Calendar days of look-back beyond those that the longest window fills, so that dropped and missing days can be
# bridged. With today's 1,453 rows the reach is seven days.
_SPARE_DAYS = 5


def declared_in(*modules: ModuleType) -> tuple[Feature, ...]:
    """The features of these modules, in the order of their declaration; raises where a name is taken twice."""
    found = [value.feature for module in modules for value in vars(module).values() if _declared_here(value, module)]
    names = [feature.name for feature in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise FeatureDeclarationError(f"declared more than once: {', '.join(twice)}; rename one of them.")
    return tuple(found)


def _declared_here(value: object, module: ModuleType) -> bool:
    return hasattr(value, "feature") and getattr(value, "__module__", "") == module.__name__


FEATURES = declared_in(*FAMILIES)
FEATURE_ORDER: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
LOOKBACK_ROWS: int = max(feature.lookback_rows for feature in FEATURES)
LOOKBACK_DAYS: int = -(-LOOKBACK_ROWS // MINUTES_PER_DAY) + _SPARE_DAYS

FLAGS = ("OK", "PARTIAL_OPTIONAL", "WARMUP")

_META = [
    ("event_time", pa.timestamp("ms", tz="UTC")),
    ("open_time_ms", pa.int64()),
    ("data_quality_flag", pa.string()),
]
SYMBOL_FEATURES_SCHEMA = pa.schema([*_META, *((name, pa.float32()) for name in FEATURE_ORDER)])


def feature_values(rows: pa.Table) -> np.ndarray:
    """The features of a table as float32 of shape (features, rows), NaN where null."""
    return np.stack([column.to_numpy() for column in rows.select(FEATURE_ORDER).columns])


def feature_order_json() -> bytes:
    """feature_order.json: the names in order."""
    return _pretty(list(FEATURE_ORDER))


def feature_schema_json() -> bytes:
    """feature_schema.json: an object a feature."""
    return _pretty([feature.schema_entry() for feature in FEATURES])


def canonical_hash(value: object) -> str:
    """SHA-256 of a JSON value with sorted keys and no spaces: what the reference calls a file's hash."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def feature_order_hash() -> str:
    return canonical_hash(list(FEATURE_ORDER))


def feature_schema_hash() -> str:
    return canonical_hash([feature.schema_entry() for feature in FEATURES])


def _pretty(value: object) -> bytes:
    return (json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()
