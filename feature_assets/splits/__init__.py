"""Splits: FIT, TUNE and VALIDATION_LOCKED, their embargo, and walk-forward folds. Knows no Dagster and no files."""
