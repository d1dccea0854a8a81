"""A real graph in a temporary folder: settings, runs as Dagster starts them, and what they left behind."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import dagster as dg
import pandas as pd

from feature_assets.building import BuildResult, build_range
from feature_assets.dataset.keys import Key
from feature_assets.dataset.store import Store
from feature_assets.definitions import make_definitions
from feature_assets.settings import Settings, load_settings

RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


class Graph:
    """The graph of a folder's settings with an event log of its own, in memory."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.variables = {"ROOT": str(folder / "store"), **settings}
        folder.mkdir(exist_ok=True)
        self.instance = dg.DagsterInstance.ephemeral(tempdir=str(folder / "dagster"))

    @property
    def settings(self) -> Settings:
        environment = {f"FEATURE_ASSETS_{name}": value for name, value in self.variables.items()}
        return load_settings(environment, self.folder)

    @property
    def store(self) -> Store:
        return Store(self.settings.root)

    def materialize(self, assets: str, first: str | None = None, last: str | None = None) -> dg.ExecuteInProcessResult:
        """One run of these assets (comma-separated), of a partition or of the range first..last."""
        keys = [dg.AssetKey(asset) for asset in assets.split(",")]
        job = make_definitions(self.settings).get_repository_def().get_implicit_job_def_for_assets(keys)
        tags = dict(zip(RANGE_TAGS, (first, last), strict=True)) if last else None
        return job.execute_in_process(
            instance=self.instance,
            asset_selection=keys,
            partition_key=first if first and not last else None,
            tags=tags,
            raise_on_error=False,
        )

    def build(self, start: str | None = None, end: str | None = None, *, only: bool = False) -> BuildResult:
        """`feature-assets build` of a range; the settings' own by default."""
        settings = self.settings
        first = dt.date.fromisoformat(start) if start else settings.start
        last = dt.date.fromisoformat(end) if end else settings.end_date()
        return build_range(settings, self.instance, first, last, only=only)

    def frame(self) -> pd.DataFrame:
        """All stored feature frames, by symbol and time."""
        tables = [self.store.read_table("feature_frame", key).to_pandas() for key in self.store.keys("feature_frame")]
        return pd.concat(tables).sort_values(["symbol", "event_time"], ignore_index=True)

    def files(self) -> dict[str, bytes]:
        """Every file of the store by its path under the root, but those that readers of folders leave out."""
        root = Path(self.settings.root)
        files = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.startswith("."))
        return {str(path.relative_to(root)): path.read_bytes() for path in files}

    def materialized(self, asset: str) -> list[str]:
        """The partitions that Dagster has recorded as materialized."""
        return sorted(self.instance.get_materialized_partitions(dg.AssetKey(asset)))

    def exists(self, asset: str, key: str) -> bool:
        return self.store.exists(self.store.partition_file(asset, Key.parse(key)))


def failure_text(result: dg.ExecuteInProcessResult) -> str:
    """What the failed steps of a run said."""
    events = result.filter_events(lambda event: event.is_step_failure)
    texts = []
    for event in events:
        data = event.step_failure_data
        described = data.user_failure_data and data.user_failure_data.description
        texts.append(described or (data.error.cause or data.error).message)
    return "\n".join(texts)


def parquet_graph(folder: Path, replay: pd.DataFrame, **settings: str) -> Graph:
    """A graph over a replay table; START and END are the replay's own days unless given."""
    path = folder / "replay.parquet"
    replay.to_parquet(path, index=False, row_group_size=20_000)
    first, last = replay["event_time"].min().date(), replay["event_time"].max().date()
    defaults = {
        "SOURCE": f"parquet:{path}",
        "SYMBOLS": ",".join(sorted(replay["symbol"].unique())),
        "START_DATE": str(first),
        "END_DATE": str(last + dt.timedelta(days=1)),
    }
    return Graph(folder, **(defaults | settings))
