"""The same bytes: however a range is cut, ordered and spread over processes, its files are those of one build of it all."""

from __future__ import annotations

import pathlib
import shutil

import numpy as np
import pandas as pd
import pytest

from feature_assets.dataset.store import FEATURE_FRAME, SYMBOL_FEATURES
from feature_assets.settings import load_settings
from feature_assets_tests.support.crash import build_all
from feature_assets_tests.support.layouts import build_layout, layout_settings, long_replay, random_layout


def files(folder: pathlib.Path) -> dict[str, bytes]:
    """Every file of the store in `folder` by its path, but those that readers of folders leave out."""
    found = (path for path in sorted((folder / "store").rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def assert_same_bytes(folder: pathlib.Path, seed: int, layouts: int) -> None:
    """A random replay of one symbol or two, built at once and in `layouts` random layouts, each in a fresh folder."""
    rng = np.random.default_rng([seed, 2])
    incomplete = bool(seed & 1)
    symbols = ("AAAUSDT", "BBBUSDT")[: 1 + (seed >> 3 & 1)]
    replay = pd.concat(
        [long_replay(100 * seed + number, symbol, incomplete_days=incomplete) for number, symbol in enumerate(symbols)]
    )
    options = {"GAPS": "restart" if seed & 2 else "bridge", "ALLOW_INCOMPLETE_DAYS": "true" if seed & 4 else "false"}
    folder.mkdir()
    variables = layout_settings(folder, replay, **options)
    build_all(variables | {"FEATURE_ASSETS_ROOT": str(folder / "whole" / "store")}, str(folder))
    expected = files(folder / "whole")
    settings = load_settings(variables, folder)
    days = (settings.end_date() - settings.start).days
    assert sum(f"/{SYMBOL_FEATURES}/" in name for name in expected) >= days
    assert sum(f"/{FEATURE_FRAME}/" in name for name in expected) > days // 2
    for number in range(layouts):
        layout = random_layout(rng, settings)
        own = folder / f"layout{number}"
        build_layout(variables | {"FEATURE_ASSETS_ROOT": str(own / "store")}, folder, layout)
        found = files(own)
        assert sorted(found) == sorted(expected), (seed, number, layout)
        different = [name for name in expected if found[name] != expected[name]]
        assert not different, (seed, number, different, layout)
        shutil.rmtree(own)


def test_random_layouts_of_a_range_give_the_bytes_of_one_build(tmp_path):
    assert_same_bytes(tmp_path / "seed", seed=12, layouts=4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(32))
def test_224_random_layouts_of_random_replays_give_the_bytes_of_one_build(tmp_path, seed):
    """Seven layouts of each of 32 replays: with and without incomplete days, for either of GAPS and ALLOW_INCOMPLETE_DAYS."""
    assert_same_bytes(tmp_path / "seed", seed, layouts=7)
