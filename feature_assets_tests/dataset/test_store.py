"""The store: files appear whole or not at all, refusals stop what is downstream, and staleness is told."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import re
import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from feature_assets.dataset.keys import Key
from feature_assets.dataset.store import (
    FEATURE_FRAME,
    FEATURE_MANIFEST,
    REPLAY,
    SPLIT_MANIFEST,
    SPLIT_MANIFEST_FILE,
    SYMBOL_FEATURES,
    Refusal,
    Store,
    _without_secrets,
    sha256,
)
from feature_assets.dataset.tables import Footer, content_hash
from feature_assets.errors import MissingInputError, PartitionKeyError, RefusedInputError, StaleInputError, StoreError

DAY = dt.date(2026, 2, 1)
KEY = Key(DAY, "BTCUSDT")
REASON = Refusal("sound_replay", "high is below low")
IDENTITY = {"source": {"identity": "seed 7", "kind": "synthetic"}, "feature_version": "v1", "feature_order": ["a"]}


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path))


def _table(*values: float) -> pa.Table:
    times = pa.array([1_769_904_000_000 + 60_000 * i for i in range(len(values))], type=pa.timestamp("ms", tz="UTC"))
    return pa.table({"event_time": times, "value": pa.array(values, type=pa.float32())})


def _publish(store: Store, asset: str, key: Key, table: pa.Table, **inputs: str) -> str:
    """Publish a table built from `inputs` as they are now; gives its content hash."""
    digest = content_hash(table)
    store.publish(asset, key, table, Footer(digest, "code", inputs, {"rows": table.num_rows}))
    return digest


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _chain(store: Store) -> tuple[str, str, str]:
    """A replay day, its features and its frame, each built from what is before it; gives their hashes."""
    replay = _publish(store, REPLAY, KEY, _table(1.0), source="synthetic 1")
    features = _publish(store, SYMBOL_FEATURES, KEY, _table(2.0), **{f"replay/{KEY}": replay})
    frame = _publish(store, FEATURE_FRAME, Key(DAY), _table(3.0), **{f"symbol_features/{KEY}": features})
    return replay, features, frame


# Publishing and reading


def test_what_is_published_is_read_back_with_its_footer(store, tmp_path):
    footer = Footer(content_hash(_table(1.0, 2.0)), "abc", {"source": "x"}, {"rows": 2})
    size = store.publish(REPLAY, KEY, _table(1.0, 2.0), footer)
    path = tmp_path / "replay/symbol=BTCUSDT/date=2026-02-01/part-0.parquet"
    assert _files(tmp_path) == [str(path.relative_to(tmp_path))]
    assert path.stat().st_size == size
    assert store.read_table(REPLAY, KEY).equals(_table(1.0, 2.0))
    assert store.read_table(REPLAY, KEY).schema.metadata is None
    assert store.read_table(REPLAY, KEY, ["value"]).column_names == ["value"]
    assert store.footer(REPLAY, KEY) == footer
    assert store.path(store.partition_file(REPLAY, KEY)) == str(path)


def test_a_second_publication_takes_the_firsts_place(store, tmp_path):
    _publish(store, REPLAY, KEY, _table(1.0))
    _publish(store, REPLAY, KEY, _table(2.0, 3.0))
    assert store.read_table(REPLAY, KEY).equals(_table(2.0, 3.0))
    assert len(_files(tmp_path)) == 1


def test_a_partition_that_is_not_there_is_missing(store):
    assert store.footer(REPLAY, KEY) is None
    assert not store.exists(store.partition_file(REPLAY, KEY))
    assert store.read_bytes("anything.json") is None
    with pytest.raises(MissingInputError, match=re.escape("replay 2026-02-01|BTCUSDT is missing; build it first.")):
        store.read_table(REPLAY, KEY)


def test_the_keys_of_an_asset_are_its_files_by_date_and_then_symbol(store):
    keys = [Key(dt.date(2026, 2, 2), "AAA"), Key(DAY, "BBB"), Key(DAY, "AAA")]
    for key in keys:
        _publish(store, REPLAY, key, _table())
    _publish(store, FEATURE_FRAME, Key(DAY), _table(1.0))
    store.refuse(REPLAY, Key(dt.date(2026, 2, 3), "AAA"), REASON, _table(1.0))
    assert store.keys(REPLAY) == [keys[2], keys[1], keys[0]]
    assert store.keys(FEATURE_FRAME) == [Key(DAY)]
    assert store.keys(SYMBOL_FEATURES) == []


def test_a_file_url_is_a_folder_on_disk(tmp_path):
    _publish(Store(f"file://{tmp_path}"), REPLAY, KEY, _table(1.0))
    assert Store(str(tmp_path)).read_table(REPLAY, KEY).equals(_table(1.0))
    assert _files(tmp_path) == ["replay/symbol=BTCUSDT/date=2026-02-01/part-0.parquet"]


@pytest.mark.parametrize("symbol", ["../../../outside", "a/b", "..", "btc"])
def test_no_text_leads_out_of_the_store_through_a_key(store, tmp_path, symbol):
    with pytest.raises(PartitionKeyError):
        Key.parse(f"{DAY}|{symbol}")
    with pytest.raises(PartitionKeyError):
        store.input_hash(f"replay/{DAY}|{symbol}")
    assert _files(tmp_path) == []


def test_no_key_leads_out_of_the_store_however_it_was_made(tmp_path):
    with pytest.raises(PartitionKeyError):
        _publish(Store(str(tmp_path / "store")), REPLAY, Key(DAY, "../../../../outside"), _table(1.0))
    assert _files(tmp_path) == []


# Whole or not at all


class _PowerFailure(BaseException):
    """Not even an Exception, as a SystemExit or a KeyboardInterrupt is none."""


def _fail(*arguments: object) -> None:
    raise _PowerFailure


@pytest.mark.parametrize("step", [(os, "fsync"), (Path, "replace")], ids=["fsync", "rename"])
def test_a_write_that_fails_in_the_middle_leaves_the_old_file_and_no_other(store, tmp_path, monkeypatch, step):
    _publish(store, REPLAY, KEY, _table(1.0))
    before = (tmp_path / store.partition_file(REPLAY, KEY)).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(*step, _fail)
        with pytest.raises(_PowerFailure):
            _publish(store, REPLAY, KEY, _table(2.0))
    assert _files(tmp_path) == [store.partition_file(REPLAY, KEY)]
    assert (tmp_path / store.partition_file(REPLAY, KEY)).read_bytes() == before


@pytest.mark.parametrize("step", [(os, "fsync"), (Path, "replace")], ids=["fsync", "rename"])
def test_a_first_write_that_fails_in_the_middle_leaves_nothing(store, tmp_path, monkeypatch, step):
    with monkeypatch.context() as patch:
        patch.setattr(*step, _fail)
        with pytest.raises(_PowerFailure):
            _publish(store, REPLAY, KEY, _table(2.0))
    assert _files(tmp_path) == []
    assert store.keys(REPLAY) == []


def test_a_failed_publication_leaves_the_refusal_in_place(store, monkeypatch):
    store.refuse(REPLAY, KEY, REASON, _table(1.0))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _fail)
        with pytest.raises(_PowerFailure):
            _publish(store, REPLAY, KEY, _table(2.0))
    assert store.refusal(REPLAY, KEY) is not None


def test_a_file_is_complete_before_it_has_its_final_name(store, tmp_path, monkeypatch):
    seen = []
    replace = Path.replace

    def watched(self, target):
        seen.append((self.name.startswith("."), self.parent == target.parent, pq.read_table(self).num_rows, target.exists()))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    _publish(store, REPLAY, KEY, _table(1.0, 2.0))
    assert seen == [(True, True, 2, False)]


def test_a_left_over_temporary_file_is_no_partition_and_bothers_no_reader(store, tmp_path):
    _publish(store, REPLAY, KEY, _table(1.0))
    (tmp_path / store.partition_file(REPLAY, KEY)).with_name(".part-0.parquet.0123.tmp").write_bytes(b"half")
    assert store.keys(REPLAY) == [KEY]
    assert pads.dataset(tmp_path / "replay", partitioning="hive").to_table().num_rows == 1


@pytest.mark.parametrize("place", ["date=2026-02-01/copy.parquet", "date=2026-02-01/old/part-0.parquet", "part-0.parquet"])
def test_a_file_that_is_no_partitions_is_a_stray_and_none_of_the_keys(store, tmp_path, place):
    _publish(store, FEATURE_FRAME, Key(DAY), _table(1.0))
    (tmp_path / "feature_frame" / place).parent.mkdir(exist_ok=True)
    pq.write_table(_table(2.0), tmp_path / "feature_frame" / place)
    assert store.keys(FEATURE_FRAME) == [Key(DAY)]
    assert store.strays(FEATURE_FRAME) == [f"feature_frame/{place}"]


def test_the_newest_partition_is_the_last_that_has_a_file(store, tmp_path):
    days = [DAY + dt.timedelta(days=n) for n in (0, 3, 1)]
    for day in days:
        _publish(store, REPLAY, Key(day, "BTCUSDT"), _table(1.0))
        _publish(store, FEATURE_FRAME, Key(day), _table(1.0))
    for name in ("date=2027-01-01", "date=2027-01-01.bak"):
        (tmp_path / "replay/symbol=BTCUSDT" / name).mkdir()
    (tmp_path / "feature_frame/.hidden").write_bytes(b"")
    assert store.newest(REPLAY, "BTCUSDT") == Key(days[1], "BTCUSDT")
    assert store.newest(FEATURE_FRAME, None) == Key(days[1])
    assert store.newest(REPLAY, "ETHUSDT") is None
    assert store.newest(SYMBOL_FEATURES, "BTCUSDT") is None


def test_a_stamp_tells_a_file_from_another_of_the_same_time_and_size(store, tmp_path):
    _publish(store, FEATURE_FRAME, Key(DAY), _table(1.0))
    path = tmp_path / store.partition_file(FEATURE_FRAME, Key(DAY))
    before, times = store.stamps(FEATURE_FRAME), (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    _publish(store, FEATURE_FRAME, Key(DAY), _table(7.0))
    os.utime(path, ns=times)
    assert path.stat().st_size == before[Key(DAY)][1]
    assert store.stamps(FEATURE_FRAME) != before


def test_the_clock_has_the_time_of_new_files_and_leaves_none(store, tmp_path):
    (tmp_path / "before").touch()
    time.sleep(0.05)
    now = store.clock("dataset")
    time.sleep(0.05)
    (tmp_path / "after").touch()
    assert (tmp_path / "before").stat().st_mtime_ns < now < (tmp_path / "after").stat().st_mtime_ns
    assert list((tmp_path / "dataset").iterdir()) == []


# Refusals


def test_a_refusal_keeps_the_rejected_table_its_marker_and_the_last_good_file(store, tmp_path):
    _publish(store, REPLAY, KEY, _table(1.0))
    folder = store.refuse(REPLAY, KEY, REASON, _table(-1.0))
    assert folder == str(tmp_path / "quarantine/replay/2026-02-01|BTCUSDT")
    marker = {"asset": "replay", "partition": "2026-02-01|BTCUSDT", **dataclasses.asdict(REASON)}
    assert json.loads((Path(folder) / "REFUSED.json").read_text()) == marker
    assert store.refusal(REPLAY, KEY) == REASON
    assert pq.read_table(Path(folder) / "rejected.parquet").equals(_table(-1.0))
    assert store.read_table(REPLAY, KEY).equals(_table(1.0))


def test_a_publication_takes_the_marker_and_the_rejected_table_away(store, tmp_path):
    store.refuse(REPLAY, KEY, REASON, _table(-1.0))
    _publish(store, REPLAY, KEY, _table(1.0))
    assert store.refusal(REPLAY, KEY) is None
    assert _files(tmp_path) == [store.partition_file(REPLAY, KEY)]


def test_a_publication_leaves_the_refusals_of_others(store):
    others = [(REPLAY, Key(DAY, "ETHUSDT")), (REPLAY, Key(dt.date(2026, 2, 2), "BTCUSDT")), (SYMBOL_FEATURES, KEY)]
    for asset, key in others:
        store.refuse(asset, key, REASON, None)
    _publish(store, REPLAY, KEY, _table(1.0))
    assert all(store.refusal(asset, key) for asset, key in others)


def test_a_refusal_without_a_table_takes_an_older_rejected_table_away(store, tmp_path):
    store.refuse(REPLAY, KEY, REASON, _table(-1.0))
    folder = store.refuse(REPLAY, KEY, Refusal("sound_replay", "not readable"), None)
    assert _files(Path(folder)) == ["REFUSED.json"]
    assert store.refusal(REPLAY, KEY) == Refusal("sound_replay", "not readable")


def test_an_asset_without_partitions_is_refused_and_accepted_as_a_whole(store, tmp_path):
    folder = store.refuse(FEATURE_MANIFEST, None, Refusal("matches_store", "no"), None)
    assert folder == str(tmp_path / "quarantine/feature_manifest/all")
    assert store.refusal(FEATURE_MANIFEST, None) == Refusal("matches_store", "no")
    store.accept(FEATURE_MANIFEST, None)
    assert store.refusal(FEATURE_MANIFEST, None) is None


def test_to_accept_what_was_not_refused_does_nothing(store, tmp_path):
    store.accept(REPLAY, KEY)
    assert _files(tmp_path) == []


# Inputs


def test_an_inputs_hash_is_its_footers(store):
    replay, features, frame = _chain(store)
    assert store.input_hash(f"replay/{KEY}") == replay
    assert store.input_hash(f"symbol_features/{KEY}") == features
    assert store.input_hash(f"feature_frame/{DAY}") == frame


def test_the_split_manifests_hash_is_its_bytes(store):
    with pytest.raises(MissingInputError, match="split_manifest is missing; materialize it first"):
        store.input_hash(SPLIT_MANIFEST)
    store.write_bytes(SPLIT_MANIFEST_FILE, b"{}\n")
    assert store.input_hash(SPLIT_MANIFEST) == sha256(b"{}\n")


def test_a_missing_input_is_named(store):
    with pytest.raises(MissingInputError, match=re.escape("replay/2026-02-01|BTCUSDT is missing; build it first.")):
        store.input_hash(f"replay/{KEY}")


def test_an_input_whose_own_input_is_missing_names_the_missing_one(store, tmp_path):
    _chain(store)
    (tmp_path / store.partition_file(REPLAY, KEY)).unlink()
    with pytest.raises(MissingInputError, match=re.escape("replay/2026-02-01|BTCUSDT is missing")):
        store.input_hash(f"feature_frame/{DAY}")


@pytest.mark.parametrize("asset", [REPLAY, SYMBOL_FEATURES])
def test_a_refused_input_refuses_everything_below_it_though_its_last_good_file_is_there(store, asset):
    _chain(store)
    store.refuse(asset, KEY, REASON, _table(-1.0))
    message = f"{asset}/{KEY} was refused (sound_replay: high is below low). Mend and build it first."
    for below in (f"{asset}/{KEY}", f"symbol_features/{KEY}", f"feature_frame/{DAY}"):
        with pytest.raises(RefusedInputError, match=re.escape(message)):
            store.input_hash(below)


def test_a_good_build_lifts_the_refusal_for_everything_below(store):
    hashes = _chain(store)
    store.refuse(REPLAY, KEY, REASON, _table(-1.0))
    _publish(store, REPLAY, KEY, _table(1.0), source="synthetic 1")
    assert store.input_hash(f"feature_frame/{DAY}") == hashes[2]


def test_a_stale_input_names_what_it_was_built_from_and_what_there_is_now(store):
    old, _, _ = _chain(store)
    new = _publish(store, REPLAY, KEY, _table(9.0), source="synthetic 2")
    message = f"symbol_features/{KEY} is stale: built from replay/{KEY} {old}, which is {new} now. Build it again."
    for name in (f"symbol_features/{KEY}", f"feature_frame/{DAY}"):
        with pytest.raises(StaleInputError, match=re.escape(message)):
            store.input_hash(name)
    assert store.input_hash(f"replay/{KEY}") == new


def test_a_frame_of_another_split_manifest_is_stale(store):
    store.write_bytes(SPLIT_MANIFEST_FILE, b"one")
    _publish(store, FEATURE_FRAME, Key(DAY), _table(3.0), split_manifest=sha256(b"one"))
    store.write_bytes(SPLIT_MANIFEST_FILE, b"two")
    message = f"feature_frame/{DAY} is stale: built from split_manifest {sha256(b'one')}, which is {sha256(b'two')} now."
    with pytest.raises(StaleInputError, match=re.escape(message)):
        store.input_hash(f"feature_frame/{DAY}")


def test_a_rebuild_with_the_same_result_makes_nothing_stale(store):
    hashes = _chain(store)
    _publish(store, REPLAY, KEY, _table(1.0), source="synthetic 2")
    assert store.input_hash(f"feature_frame/{DAY}") == hashes[2]


# Files that are broken


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_a_truncated_file_is_named_with_what_to_do(store, tmp_path, kept):
    _publish(store, REPLAY, KEY, _table(1.0, 2.0))
    path = tmp_path / store.partition_file(REPLAY, KEY)
    path.write_bytes(path.read_bytes()[:kept])
    for read in (
        lambda: store.footer(REPLAY, KEY),
        lambda: store.input_hash(f"replay/{KEY}"),
        lambda: store.read_table(REPLAY, KEY),
    ):
        with pytest.raises(StoreError) as caught:
            read()
        assert str(caught.value).startswith(f"{path}: ")
        assert str(caught.value).endswith(f"Build replay {KEY} again.")


def test_a_file_of_another_program_has_no_sound_footer(store, tmp_path):
    path = tmp_path / store.partition_file(REPLAY, KEY)
    path.parent.mkdir(parents=True)
    pq.write_table(_table(1.0), path)
    with pytest.raises(StoreError, match=re.escape(f"{path}: no sound footer: ")):
        store.footer(REPLAY, KEY)


# Whose store it is


def test_the_first_build_writes_down_what_the_store_is(store, tmp_path):
    store.claim(IDENTITY)
    assert json.loads((tmp_path / "store.json").read_text()) == IDENTITY
    before = (tmp_path / "store.json").read_bytes()
    store.claim(IDENTITY)
    assert (tmp_path / "store.json").read_bytes() == before


def test_a_build_of_another_source_is_refused_and_names_both(store, tmp_path):
    store.claim(IDENTITY)
    before = (tmp_path / "store.json").read_bytes()
    other = {"identity": "replay.parquet", "kind": "parquet"}
    with pytest.raises(StoreError) as caught:
        store.claim(IDENTITY | {"source": other})
    assert str(caught.value) == (
        f"ROOT: the store {tmp_path} was built from source {IDENTITY['source']}, SOURCE now is {other}. "
        "Take another ROOT, or the old SOURCE."
    )
    assert (tmp_path / "store.json").read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"{half"])
def test_a_broken_store_file_is_named(store, tmp_path, content):
    (tmp_path / "store.json").write_bytes(content)
    with pytest.raises(StoreError, match=re.escape(str(tmp_path / "store.json"))):
        store.claim(IDENTITY)


def test_the_store_file_tells_the_features_that_the_store_is_built_with_now(store, tmp_path):
    store.claim(IDENTITY)
    store.claim(IDENTITY | {"feature_version": "v2", "feature_order": ["a", "b"]})
    found = json.loads((tmp_path / "store.json").read_text())
    assert (found["feature_version"], found["feature_order"]) == ("v2", ["a", "b"])


# Other readers


def test_pyarrow_and_pandas_read_the_folder_of_an_asset_by_symbol_and_date(store, tmp_path):
    for day in (1, 2):
        for symbol, values in (("BTCUSDT", (1.0, 2.0)), ("ETHUSDT", ())):
            _publish(store, REPLAY, Key(dt.date(2026, 2, day), symbol), _table(*values))
    store.refuse(REPLAY, Key(dt.date(2026, 2, 3), "BTCUSDT"), REASON, _table(-1.0))
    table = pads.dataset(tmp_path / "replay", partitioning="hive").to_table()
    assert table.select(["symbol", "date", "value"]).sort_by([("date", "ascending"), ("value", "ascending")]).to_pylist() == [
        {"symbol": "BTCUSDT", "date": f"2026-02-0{day}", "value": value} for day in (1, 2) for value in (1.0, 2.0)
    ]
    frame = pd.read_parquet(tmp_path / "replay", filters=[("symbol", "==", "BTCUSDT"), ("date", "==", "2026-02-02")])
    assert frame["value"].tolist() == [1.0, 2.0]
    assert frame["symbol"].astype(str).tolist() == ["BTCUSDT"] * 2
    assert str(frame["event_time"].dtype) == "datetime64[ms, UTC]"


def test_pyarrow_and_pandas_read_the_frames_folder_by_date_with_symbol_as_a_column(store, tmp_path):
    for day in (1, 2):
        table = _table(1.0, 2.0).append_column("symbol", pa.array(["BTCUSDT", "ETHUSDT"]))
        _publish(store, FEATURE_FRAME, Key(dt.date(2026, 2, day)), table)
    dataset = pads.dataset(tmp_path / "feature_frame", partitioning="hive")
    assert dataset.schema.names == ["event_time", "value", "symbol", "date"]
    assert dataset.to_table(filter=pads.field("date") == "2026-02-02").num_rows == 2
    frame = pd.read_parquet(tmp_path / "feature_frame")
    assert frame["symbol"].tolist() == ["BTCUSDT", "ETHUSDT"] * 2
    assert frame["date"].astype(str).tolist() == ["2026-02-01"] * 2 + ["2026-02-02"] * 2


# Secrets


@pytest.mark.parametrize(
    ("root", "shown"),
    [
        ("s3://key:secret@bucket/prefix?endpoint_override=http%3A%2F%2Flocalhost%3A9000&region=us", "s3://bucket/prefix"),
        ("s3://key:se%2Fcret@bucket", "s3://bucket"),
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("hdfs://user:secret@namenode:8020/data", "hdfs://namenode:8020/data"),
        ("gs://bucket/x?access_token=secret", "gs://bucket/x"),
        ("file:///data/store", "file:///data/store"),
        ("/data/a@b?c#d", "/data/a@b?c#d"),
    ],
)
def test_a_root_is_shown_without_user_password_and_query(root, shown):
    assert _without_secrets(root) == shown


def test_a_store_shows_its_root_without_secrets_in_paths_and_messages(tmp_path):
    store = Store(f"file://{tmp_path}")
    assert store.root == f"file://{tmp_path}"
    assert store.path("replay/x") == f"file://{tmp_path}/replay/x"


def test_a_secret_with_an_unescaped_slash_is_not_shown_either():
    # Every other AWS secret key holds a slash.
    assert "wJalr" not in _without_secrets("s3://AKIAEXAMPLE:wJalr/K7MDENG@bucket/prefix")


def test_a_url_that_cannot_be_opened_is_an_error_that_shows_no_query():
    with pytest.raises(StoreError, match="ROOT: abfs://x cannot be opened") as caught:
        Store("abfs://x?account_key=secret")
    assert "secret" not in str(caught.value)


def test_a_file_url_is_a_folder(tmp_path):
    _publish(Store(f"file://{tmp_path}/store"), REPLAY, Key(DAY, "BTCUSDT"), _table(1.0))
    assert Store(str(tmp_path / "store")).keys(REPLAY) == [Key(DAY, "BTCUSDT")]
