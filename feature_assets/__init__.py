"""feature_assets: one-minute replay bars of crypto perpetual futures to a feature frame that cannot leak the future."""
