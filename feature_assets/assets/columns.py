"""Column schemas and column lineage for the UI, from the declarations."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg
import pyarrow as pa

from feature_assets.dataset.feature_frame import FRAME_SCHEMA
from feature_assets.dataset.store import REPLAY, SPLIT_MANIFEST, SYMBOL_FEATURES
from feature_assets.features.catalogue import FEATURES, SYMBOL_FEATURES_SCHEMA
from feature_assets.market.bars import REPLAY_COLUMNS, REPLAY_SCHEMA

_UNITS = {feature.name: f"{feature.unit or 'no unit'}; {feature.description}" for feature in FEATURES}
_META = {
    "event_time": "UTC start of the minute; the row is knowable 60 s later",
    "open_time_ms": "event_time in milliseconds since the epoch",
    "data_quality_flag": "OK, PARTIAL_OPTIONAL (an optional input is missing) or WARMUP (a required value is missing)",
    "sample_id": "symbol:open_time_ms",
    "split_id": "FIT, TUNE, VALIDATION_LOCKED, EMBARGO or UNASSIGNED",
    "walk_forward_fold": "fold of FIT, or NO_FOLD",
}


def _metadata(schema: pa.Schema, lineage: Mapping[str, list[tuple[str, str]]]) -> dict[str, object]:
    columns = [dg.TableColumn(field.name, str(field.type), _META.get(field.name) or _UNITS.get(field.name)) for field in schema]
    deps = {
        column: [dg.TableColumnDep(asset_key=dg.AssetKey(asset), column_name=name) for asset, name in sources]
        for column, sources in lineage.items()
    }
    return {"dagster/column_schema": dg.TableSchema(columns=columns)} | (
        {"dagster/column_lineage": dg.TableColumnLineage(deps)} if deps else {}
    )


def _symbol_features_lineage() -> dict[str, list[tuple[str, str]]]:
    lineage = {feature.name: [(REPLAY, column) for column in feature.columns] for feature in FEATURES}
    lineage |= {name: [(REPLAY, name)] for name in ("event_time", "open_time_ms")}
    return lineage | {"data_quality_flag": [(REPLAY, column) for column in REPLAY_COLUMNS]}


def _frame_lineage() -> dict[str, list[tuple[str, str]]]:
    lineage = {name: [(SYMBOL_FEATURES, name)] for name in FRAME_SCHEMA.names if name in SYMBOL_FEATURES_SCHEMA.names}
    lineage["sample_id"] = [(SYMBOL_FEATURES, "open_time_ms")]
    for name in ("split_id", "walk_forward_fold"):
        lineage[name] = [(SYMBOL_FEATURES, "event_time"), (SPLIT_MANIFEST, "splits")]
    return lineage


REPLAY_METADATA = _metadata(REPLAY_SCHEMA, {})
SYMBOL_FEATURES_METADATA = _metadata(SYMBOL_FEATURES_SCHEMA, _symbol_features_lineage())
FEATURE_FRAME_METADATA = _metadata(FRAME_SCHEMA, _frame_lineage())
