"""The store and the source as Dagster resources, so that the UI shows what the graph reads and writes."""

from __future__ import annotations

import dagster as dg

from feature_assets.dataset.store import Store
from feature_assets.features.catalogue import FEATURE_ORDER, FEATURE_VERSION
from feature_assets.market.sources import load_source
from feature_assets.market.sources.load import LoadedSource


class SourceResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where replay bars come from: the SOURCE setting."""

    source: str

    def open(self) -> LoadedSource:
        """A fresh source: what it has read is not kept beyond a run."""
        return load_source(self.source)


class StoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Where partitions are stored: the ROOT setting, and the symbols that the settings know."""

    root: str
    symbols: list[str]

    def open(self, source: LoadedSource) -> Store:
        """The store, once it is known to be this source's and to hold no symbol that the settings have lost.

        Raises StoreError where it is another source's or holds such a symbol.
        """
        store = Store(self.root)
        store.refuse_lost_symbols(self.symbols)
        store.claim(
            {
                "source": {"kind": source.kind, "identity": source.identity},
                "feature_version": FEATURE_VERSION,
                "feature_order": list(FEATURE_ORDER),
            }
        )
        return store
