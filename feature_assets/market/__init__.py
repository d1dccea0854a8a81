"""Market data: the contract of replay bars and the sources they come from. Knows neither features nor Dagster."""
