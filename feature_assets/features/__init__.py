"""Features: their declarations, the windows they are made of, and the rows they give. Knows no Dagster and no store."""

from feature_assets.features.build import build_symbol_features, latest_row

__all__ = ["build_symbol_features", "latest_row"]
