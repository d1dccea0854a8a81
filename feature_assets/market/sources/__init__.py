"""Where replay bars come from: one module a source, all with the interface of base.Source."""

from feature_assets.market.sources.base import ABSENT, NOT_YET, Bars, Source, each_day, read_days, unreadable
from feature_assets.market.sources.load import load_source

__all__ = ["ABSENT", "NOT_YET", "Bars", "Source", "each_day", "load_source", "read_days", "unreadable"]
