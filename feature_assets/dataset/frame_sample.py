"""What the manifest keeps of the frame: exact counts, sums of the dates' stats, and two samples of rows.

VALIDATION_LOCKED rows are in a sample of their own, which the drift table alone reads. They and later rows are in no count.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_assets.dataset.tables import Footer, content_hash, to_parquet
from feature_assets.features.catalogue import FEATURE_ORDER, feature_values
from feature_assets.quality.sample import FeatureCounts, RowSample
from feature_assets.splits.manifest import VALIDATION_LOCKED

_READ = ("symbol", "open_time_ms", "split_id", *FEATURE_ORDER)
# Dates are taken in together until they have so many rows: a few days cost little more than one.
_AT_ONCE = 10_000
_SUMS = "sums/"
# Medians are all that is taken of them. That of so many lies within the 47.9th and the 52.1st percentile of all.
_MOST_LOCKED_ROWS = 5_000


_EXTREMES = {"first": min, "last": max}
_BY_DATE = ("dropped", "bridging", "proven")


class FrameSample:
    """Dates can be added, in any order, but not taken away."""

    def __init__(self) -> None:
        self.sums: dict[str, int] = {}
        """The stats of all dates by add_stats, for whoever adds dates."""
        self._counts = FeatureCounts()
        self._seen, self._locked = RowSample(), RowSample(_MOST_LOCKED_ROWS)
        self._waiting: list[pa.Table] = []

    def add(self, frame: pa.Table, hidden_from: int | None = None) -> None:
        """Add a date's rows; hidden_from: open_time_ms of the first hidden row."""
        is_seen = frame["open_time_ms"].to_numpy() < (np.inf if hidden_from is None else hidden_from)
        seen = frame if is_seen.all() else frame.filter(pa.array(is_seen))
        self._waiting.append(seen.select(_READ))
        if sum(table.num_rows for table in self._waiting) >= _AT_ONCE:
            self._take_in()
        if seen is not frame:
            hidden = frame.filter(pa.array(~is_seen))
            locked = hidden.filter(pc.equal(hidden["split_id"], VALIDATION_LOCKED))
            self._locked.add(locked, feature_values(locked))

    def _take_in(self) -> None:
        if self._waiting:
            seen = pa.concat_tables(self._waiting)
            self._waiting = []
            values = feature_values(seen)
            self._counts.add(values)
            self._seen.add(seen, values)

    @property
    def counts(self) -> FeatureCounts:
        """Of all rows outside VALIDATION_LOCKED."""
        self._take_in()
        return self._counts

    @property
    def seen_rows(self) -> int:
        """How many rows outside VALIDATION_LOCKED the sample has."""
        self._take_in()
        return self._seen.table().num_rows

    def rows(self) -> pa.Table:
        """The sampled rows, those outside VALIDATION_LOCKED first: row_hash, split_id, and the features as float32."""
        self._take_in()
        return pa.concat_tables([self._seen.table(), self._locked.table()]).combine_chunks()

    def to_parquet(self) -> bytes:
        table = self.rows()
        sums = {f"{_SUMS}{name}": value for name, value in self.sums.items()}
        return to_parquet(table, Footer(content_hash(table), "", {}, self.counts.to_stats() | sums))

    @classmethod
    def from_parquet(cls, data: bytes) -> FrameSample:
        """The sample that to_parquet wrote; raises KeyError, ValueError or an ArrowException for anything else."""
        table = pq.read_table(pa.BufferReader(data))
        footer = Footer.from_metadata(table.schema.metadata or {})
        table = table.replace_schema_metadata(None)
        found = cls()
        found._counts = FeatureCounts.from_stats(footer.stats)
        found.sums = {name.removeprefix(_SUMS): n for name, n in footer.stats.items() if name.startswith(_SUMS)}
        is_locked = pc.equal(table["split_id"], VALIDATION_LOCKED)
        found._seen.add_drawn(table.filter(pc.invert(is_locked)))
        found._locked.add_drawn(table.filter(is_locked))
        return found


def add_stats(sums: dict[str, int], stats: Mapping[str, int], *, hidden: bool = False) -> None:
    """Add a date's feature_frame.frame_stats to those of others. hidden: the date reaches into VALIDATION_LOCKED or is later.

    Of hidden dates what is summed up by date is left out: dropped, bridging and proven rows. proven_days/SYMBOL counts the
    dates of which rows were proven.
    """
    for name, value in stats.items():
        kind, _, rest = name.partition("/")
        if kind in _EXTREMES:
            sums[name] = _EXTREMES[kind](sums.get(name, value), value)
        elif not (hidden and kind in _BY_DATE):
            sums[name] = sums.get(name, 0) + value
            if kind == "proven" and value:
                sums[f"proven_days/{rest}"] = sums.get(f"proven_days/{rest}", 0) + 1
