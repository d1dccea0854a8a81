"""The content hash, and what a published file holds beside its table."""

from __future__ import annotations

import datetime as dt
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_assets.dataset.feature_frame import FRAME_SCHEMA
from feature_assets.dataset.tables import Footer, content_hash, to_parquet
from feature_assets.features.catalogue import SYMBOL_FEATURES_SCHEMA
from feature_assets.market.bars import REPLAY_SCHEMA
from feature_assets.market.sources.synthetic import SyntheticSource

UTC_MS = pa.timestamp("ms", tz="UTC")
SCHEMA = pa.schema(
    [("time", UTC_MS), ("count", pa.int64()), ("name", pa.string()), ("wide", pa.float64()), ("narrow", pa.float32())]
)
ROWS = [
    [1_770_000_000_000, 1_770_000_060_000, None, 1_770_000_180_000],
    [1, None, 3, 4],
    ["one", None, "", "fünf"],
    [0.1, -0.0, None, float("nan")],
    [1.5, None, float("nan"), 0.0],
]
FOOTER = Footer("0" * 64, "abc", {"replay/2026-02-01|A": "1" * 64, "split_manifest": "2" * 64}, {"rows": 4, "rows/A/FIT/OK": 2})


def _table(rows: list[list[object]] = ROWS, schema: pa.Schema = SCHEMA) -> pa.Table:
    return pa.table([pa.array(values, type=field.type) for values, field in zip(rows, schema, strict=True)], schema=schema)


def _one(values: list[object], kind: pa.DataType, name: str = "x") -> str:
    return content_hash(pa.table({name: pa.array(values, type=kind)}))


def _read(data: bytes) -> pa.Table:
    return pq.ParquetFile(io.BytesIO(data)).read()


# The content hash


def test_the_hash_is_the_same_for_the_same_table():
    assert content_hash(_table()) == content_hash(_table())
    assert len(content_hash(_table())) == 64


def test_the_hash_is_pinned():
    # A change of it makes every store stale.
    assert _one([1, None], pa.int64()) == "b3335d07a9f79bbeffa47c4a2629992edfbd2dfce28c7c71a9e25934c71de5df"
    assert _one(["a", None], pa.string()) == "ee57c5240b096af052a19f453bd4015b8430314bbf34d106b0362a1a202ae806"
    assert _one([0.5], pa.float32()) == "906a00d700d029542eb2aa538e1617289561370427639d4b316f91b8ffaec743"


@pytest.mark.parametrize("column", range(5))
@pytest.mark.parametrize("row", range(4))
def test_the_hash_depends_on_every_value_and_its_validity(column, row):
    other = {0: 5, 1: 5, 2: "other", 3: 5.0, 4: 5.0}[column]
    changed = [list(values) for values in ROWS]
    changed[column][row] = other
    nulled = [list(values) for values in ROWS]
    nulled[column][row] = None
    hashes = {content_hash(_table(rows)) for rows in (ROWS, changed, nulled)}
    assert len(hashes) == (2 if ROWS[column][row] is None else 3)


def test_the_hash_depends_on_the_names():
    assert _one([1.0], pa.float64(), "x") != _one([1.0], pa.float64(), "y")


def test_the_hash_depends_on_the_types():
    kinds = [pa.int64(), pa.int32(), pa.float64(), pa.float32(), UTC_MS, pa.timestamp("us", tz="UTC"), pa.timestamp("ms")]
    assert len({_one([1], kind) for kind in kinds}) == len(kinds)


def test_the_hash_depends_on_the_order_of_rows_and_of_columns():
    table = _table()
    assert content_hash(table.take([1, 0, 2, 3])) != content_hash(table)
    assert content_hash(table.select(SCHEMA.names[::-1])) != content_hash(table)


def test_the_hash_depends_on_the_number_of_rows_even_where_all_are_null():
    assert len({_one([None] * rows, kind) for rows in range(4) for kind in (pa.float64(), pa.string())}) == 8


def test_a_null_a_nan_and_a_zero_are_three_things():
    assert len({_one([value], pa.float64()) for value in (None, float("nan"), 0.0, -0.0)}) == 4


def test_a_null_and_an_empty_string_are_two_things():
    assert _one([None], pa.string()) != _one([""], pa.string())


def test_the_border_between_two_strings_counts():
    assert len({_one(list(pair), pa.string()) for pair in (("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", ""))}) == 4


def test_what_lies_under_a_null_does_not_count():
    validity = pa.py_buffer(bytes([0b101]))
    for kind, width in ((pa.float64(), "<f8"), (pa.int64(), "<i8"), (UTC_MS, "<i8")):
        arrays = [
            pa.Array.from_buffers(kind, 3, [validity, pa.py_buffer(np.array([1, hidden, 3], dtype=width).tobytes())])
            for hidden in (0, 99)
        ]
        assert arrays[0].equals(arrays[1])
        assert len({content_hash(pa.table({"x": array})) for array in arrays}) == 1
    offsets = {b"ac": [0, 1, 1, 2], b"aBBc": [0, 1, 3, 4]}
    strings = [
        pa.StringArray.from_buffers(3, pa.py_buffer(np.array(ends, dtype="<i4").tobytes()), pa.py_buffer(text), validity)
        for text, ends in offsets.items()
    ]
    assert strings[0].to_pylist() == strings[1].to_pylist() == ["a", None, "c"]
    assert len({content_hash(pa.table({"x": array})) for array in strings}) == 1


def test_a_column_with_and_without_a_validity_bitmap_is_the_same():
    values = np.array([1.0, 2.0])
    with_bitmap = pa.Array.from_buffers(pa.float64(), 2, [pa.py_buffer(b"\x03"), pa.py_buffer(values.tobytes())])
    assert content_hash(pa.table({"x": with_bitmap})) == content_hash(pa.table({"x": pa.array(values)}))


def test_the_hash_does_not_depend_on_chunks_or_where_a_slice_begins():
    table = _table()
    whole = content_hash(table)
    assert content_hash(pa.concat_tables([table.slice(0, 1), table.slice(1, 2), table.slice(3, 1)])) == whole
    assert content_hash(pa.concat_tables([table.slice(0, 0), table])) == whole
    assert content_hash(pa.concat_tables([table, table]).combine_chunks().slice(4)) == whole
    assert content_hash(pa.concat_tables([table.slice(3), table, table.slice(0, 1)]).combine_chunks().slice(1, 4)) == whole


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.none() | st.text(max_size=4), max_size=12),
    numbers=st.lists(st.none() | st.floats(), max_size=12),
    cuts=st.tuples(st.integers(0, 12), st.integers(0, 12)),
)
def test_any_slice_has_the_hash_of_the_same_rows_made_anew(values, numbers, cuts):
    begin, end = sorted(cuts)
    for kind, column in ((pa.string(), values), (pa.float64(), numbers)):
        part = pa.table({"x": pa.array(column, type=kind)}).slice(begin, end - begin)
        assert content_hash(part) == _one(column[begin:end], kind)


def test_metadata_of_a_schema_does_not_count():
    assert content_hash(_table().replace_schema_metadata({"pandas": "something"})) == content_hash(_table())


@pytest.mark.parametrize("schema", [SCHEMA, REPLAY_SCHEMA, SYMBOL_FEATURES_SCHEMA, FRAME_SCHEMA])
def test_empty_tables_of_every_make_have_one_hash(schema):
    table = schema.empty_table()
    no_chunks = pa.table([pa.chunked_array([], type=field.type) for field in schema], schema=schema)
    back = _read(to_parquet(table, FOOTER)).replace_schema_metadata(None)
    assert len({content_hash(each) for each in (table, no_chunks, back)}) == 1
    assert back.schema == schema


# Files


def test_a_file_gives_back_the_table_and_its_hash():
    back = _read(to_parquet(_table(), FOOTER)).replace_schema_metadata(None)
    assert back.schema == SCHEMA
    assert content_hash(back) == content_hash(_table())
    assert back.drop_columns(["wide", "narrow"]).to_pydict() == _table().drop_columns(["wide", "narrow"]).to_pydict()


def test_a_real_day_comes_back_bit_by_bit():
    day = SyntheticSource().day("BTCUSDT", dt.date(2026, 2, 1))
    back = _read(to_parquet(day, FOOTER)).replace_schema_metadata(None)
    assert back.equals(day)
    assert content_hash(back) == content_hash(day)


def test_the_same_table_is_the_same_bytes():
    data = to_parquet(_table(), FOOTER)
    assert to_parquet(_table(), FOOTER) == data


def test_a_table_in_chunks_is_the_same_bytes():
    table = SyntheticSource().day("BTCUSDT", dt.date(2026, 2, 1))
    chunked = pa.concat_tables([table.slice(0, 700), table.slice(700)])
    assert chunked["close"].num_chunks == 2
    assert to_parquet(chunked, FOOTER) == to_parquet(table, FOOTER)


def test_the_footer_comes_back_from_the_file():
    metadata = pq.read_metadata(io.BytesIO(to_parquet(_table(), FOOTER))).metadata
    assert Footer.from_metadata(metadata) == FOOTER


def test_the_order_in_which_inputs_were_named_does_not_change_the_bytes():
    turned = Footer(FOOTER.content_hash, FOOTER.code_version, dict(reversed(FOOTER.inputs.items())), FOOTER.stats)
    assert to_parquet(_table(), turned) == to_parquet(_table(), FOOTER)


@pytest.mark.parametrize("gone", ["content_hash", "code_version", "inputs", "stats"])
def test_a_footer_of_another_program_is_told_by_the_entry_it_lacks(gone):
    metadata = FOOTER.to_metadata()
    del metadata[f"feature_assets.{gone}".encode()]
    with pytest.raises(KeyError, match=gone):
        Footer.from_metadata(metadata)


def test_a_file_holds_the_footer_and_no_other_metadata():
    metadata = pq.read_metadata(io.BytesIO(to_parquet(_table(), FOOTER))).metadata
    names = ["code_version", "content_hash", "inputs", "stats"]
    assert sorted(metadata) == [f"feature_assets.{name}".encode() for name in names]


def test_a_file_of_a_table_from_pandas_holds_no_metadata_of_pandas():
    table = pa.Table.from_pandas(pd.DataFrame({"x": [1.0]}))
    metadata = pq.read_metadata(io.BytesIO(to_parquet(table, FOOTER))).metadata
    assert b"pandas" not in metadata


def test_pandas_reads_the_types_that_the_contract_names():
    frame = pd.read_parquet(io.BytesIO(to_parquet(_table(), FOOTER)))
    assert str(frame["time"].dtype) == "datetime64[ms, UTC]"
    assert frame["time"][1] == pd.Timestamp("2026-02-02 02:41:00", tz="UTC")
    assert pd.api.types.is_string_dtype(frame["name"].dtype)
    assert frame["narrow"].dtype == np.float32
    assert frame["wide"].dtype == np.float64
    assert list(frame.columns) == SCHEMA.names


def test_the_parquet_types_say_utc_and_text_to_readers_that_know_no_arrow():
    schema = pq.ParquetFile(io.BytesIO(to_parquet(_table(), FOOTER))).schema
    assert str(schema.column(0).logical_type).startswith("Timestamp(isAdjustedToUTC=true, timeUnit=milliseconds")
    assert str(schema.column(2).logical_type) == "String"
    assert [schema.column(i).physical_type for i in range(5)] == ["INT64", "INT64", "BYTE_ARRAY", "DOUBLE", "FLOAT"]


def test_a_file_is_one_row_group_and_an_empty_one_has_the_full_schema():
    assert pq.read_metadata(io.BytesIO(to_parquet(_table(), FOOTER))).num_row_groups == 1
    empty = _read(to_parquet(FRAME_SCHEMA.empty_table(), FOOTER))
    assert empty.num_rows == 0
    assert empty.schema.names == FRAME_SCHEMA.names
    assert Footer.from_metadata(empty.schema.metadata) == FOOTER
