"""Proofs against leakage: what is stored is recomputed or held against the manifest. Knows no Dagster and no files."""
