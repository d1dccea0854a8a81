"""The six assets. Each declares itself to Dagster and calls one function of feature_assets.dataset.

What an asset tells Dagster of its partitions is in events.py; columns and their lineage are in columns.py.
"""
