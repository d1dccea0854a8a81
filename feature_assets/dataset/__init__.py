"""The stored dataset: its files, what may be published into them, and what is derived from them. Knows no Dagster."""
