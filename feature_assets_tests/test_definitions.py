"""The code location loads, describes itself, and refuses a wrong setting with one sentence."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

import feature_assets
from feature_assets.definitions import make_definitions
from feature_assets.settings import load_settings

PACKAGE = Path(feature_assets.__file__).parent
DOMAIN = ("market", "features", "splits", "leakage", "dataset", "quality")
ASSETS = {"replay", "split_manifest", "symbol_features", "feature_frame", "feature_manifest", "quality_report"}


def load_in_a_new_process(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FEATURE_ASSETS_")}
    environment |= {"DAGSTER_DISABLE_TELEMETRY": "1"} | {f"FEATURE_ASSETS_{k}": v for k, v in variables.items()}
    command = [Path(sys.executable).with_name("dagster"), "definitions", "validate", "-m", "feature_assets.definitions"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_every_asset_tells_what_it_is_whose_it_is_and_of_what_kind(tmp_path):
    graph = make_definitions(load_settings({}, tmp_path)).get_repository_def().asset_graph
    nodes = {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}
    assert set(nodes) == ASSETS
    for node in nodes.values():
        assert len(node.description) > 40
        assert node.group_name in {"market", "features", "dataset"}
        assert node.owners
        assert node.kinds
    assert {key.to_user_string() for key in nodes["feature_frame"].parent_keys} == {"symbol_features", "split_manifest"}


def test_every_check_of_the_contract_is_declared(tmp_path):
    graph = make_definitions(load_settings({}, tmp_path)).get_repository_def().asset_graph
    checks = {f"{key.asset_key.to_user_string()}:{key.name}": graph.get_check_spec(key) for key in graph.asset_check_keys}
    assert set(checks) == {
        *("replay:sound_replay", "symbol_features:finite_values", "symbol_features:no_lookahead"),
        *("feature_frame:no_split_leak", "feature_frame:complete"),
        *("feature_manifest:matches_store", "quality_report:drift"),
    }
    assert {name for name, spec in checks.items() if not spec.blocking} == {"feature_frame:complete", "quality_report:drift"}


def test_the_column_schema_and_lineage_follow_the_declarations(tmp_path):
    from feature_assets.features.catalogue import FEATURES

    graph = make_definitions(load_settings({}, tmp_path)).get_repository_def().asset_graph
    metadata = graph.get(dg.AssetKey("symbol_features")).metadata
    columns = {column.name: column for column in metadata["dagster/column_schema"].columns}
    lineage = metadata["dagster/column_lineage"].deps_by_column
    for feature in FEATURES:
        assert columns[feature.name].type == "float"
        assert feature.description in columns[feature.name].description
        assert {dep.column_name for dep in lineage[feature.name]} == set(feature.columns)


def test_the_code_location_validates(tmp_path):
    result = load_in_a_new_process(tmp_path)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("SYMBOLS", "../etc", "SYMBOLS: '../etc' is no symbol"),
        ("SOURCE", "parquet:/no/such/file", "SOURCE: parquet:/no/such/file names no file or folder"),
    ],
)
def test_a_wrong_setting_stops_the_code_location_with_a_sentence_that_names_it(tmp_path, name, value, sentence):
    result = load_in_a_new_process(tmp_path, **{name: value})
    assert result.returncode != 0
    assert sentence in result.stdout + result.stderr


def test_domain_packages_import_no_dagster():
    for path in (file for package in DOMAIN for file in (PACKAGE / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "dagster" for name in names), path
