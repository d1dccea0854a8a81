"""`feature-assets prove`: the catalogue holds, and broken features are caught by their names, in processes of their own."""

from __future__ import annotations

import datetime as dt
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import feature_assets
from feature_assets.errors import ProofError
from feature_assets.features.catalogue import FEATURES, LOOKBACK_ROWS, declared_in
from feature_assets.leakage.prove import prove
from feature_assets.splits.manifest import SplitManifest, parse_splits

BIN = Path(sys.executable).parent
START = dt.date(2026, 2, 1)
SPLITS = SplitManifest(parse_splits("FIT:2026-02-01..2026-02-04"))

BROKEN = """
import datetime as dt
import subprocess
import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from feature_assets.features.declaration import feature
from feature_assets.features.windows import relative_change

FOLDER = {folder!r}
REMEMBERED = {{}}


def declare(lookback, *columns, **more):
    def documented(function):
        function.__doc__ = "For a test."
        return feature(unit="", lookback=lookback, columns=columns, **more)(function)

    return documented


@declare(30, "close")
def sound(bars):
    return relative_change(bars["close"], 30)


@declare(59, "close")
def sound_and_imports_late(bars):
    import colorsys

    return relative_change(bars["close"], 59) * colorsys.rgb_to_yiq(1.0, 1.0, 1.0)[0]


@declare(30, "close", fitted_on=dt.date(2026, 2, 4))
def fitted_on_fit(bars):
    return relative_change(bars["close"], 30) * 1.7


@declare(30, "close", fitted_on=dt.date(2026, 2, 5))
def fitted_beyond_fit(bars):
    return relative_change(bars["close"], 30) * 1.7


@declare(31, "close")
def one_too_long(bars):
    return relative_change(bars["close"], 30)


@declare(29, "close")
def one_too_short(bars):
    return relative_change(bars["close"], 30)


@declare(0, "close")
def ahead(bars):
    return pd.Series(bars["close"]).shift(-1).to_numpy()


@declare(7, "close")
def centred(bars):
    return pd.Series(bars["close"]).rolling(15, center=True).max().to_numpy()


@declare(0, "close")
def undeclared(bars):
    return bars["close"] + bars["volume"]


@declare(60, "close")
def expanding(bars):
    return pd.Series(bars["close"]).expanding().mean().to_numpy()


@declare(0, "close")
def whole_series(bars):
    return (bars["close"] - np.nanmean(bars["close"])) / np.nanstd(bars["close"])


@declare(0, "close")
def random_numbers(bars):
    return bars["close"] + np.random.default_rng().random(len(bars))


@declare(0, "close")
def first_result_by_date(bars):
    days = bars["event_time"] // 86_400_000
    for day in np.unique(days):
        REMEMBERED.setdefault(day, bars["close"][days == day].max())
    return bars["close"] / np.array([REMEMBERED[day] for day in days])


@declare(0, "close")
def first_result_by_length(bars):
    return REMEMBERED.setdefault(len(bars), bars["close"].copy())


@declare(0, "close")
def side_file(bars):
    with open(FOLDER + "/side.txt") as file:
        return bars["close"] * float(file.read())


@declare(0, "close")
def side_file_if_there(bars):
    try:
        with open(FOLDER + "/side.txt") as file:
            return bars["close"] * float(file.read())
    except OSError:
        return bars["close"]


@declare(0, "close")
def side_parquet(bars):
    return bars["close"] * pq.read_table(FOLDER + "/side.parquet")["a"][0].as_py()


@declare(0, "close")
def side_csv(bars):
    return bars["close"] * pd.read_csv(FOLDER + "/side.txt", header=None)[0][0]


@declare(0, "close")
def other_process(bars):
    subprocess.run(["true"])
    return bars["close"]


@declare(0, "close")
def hashed(bars):
    return bars["close"] * (hash("close") % 1000)


@declare(0, "close")
def local_time(bars):
    return bars["close"] * (1 + time.localtime(0).tm_hour)


@declare(0, "close")
def noisy_print(bars):
    print("a line that is no answer")
    return bars["close"]
"""
AT_IMPORT = '''
import {helper}
from feature_assets.features.declaration import feature


@feature(unit="", lookback=0, columns=("close",))
def opened_at_import(bars):
    """For a test."""
    return bars["close"] * {helper}.SIDE
'''
HELPER = """
from pathlib import Path

SIDE = float(Path({folder!r}, "side.txt").read_text())
"""


def _import(patch: pytest.MonkeyPatch, folder: Path, **sources: str):
    """Modules of these sources, as another process finds them on this one's path."""
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    patch.syspath_prepend(folder)
    for name in sources:
        patch.delitem(sys.modules, name, raising=False)
    return [importlib.import_module(name) for name in sources]


@pytest.fixture(scope="module")
def proofs(tmp_path_factory):
    """What was found of every feature of BROKEN and AT_IMPORT, all proven at once."""
    folder = tmp_path_factory.mktemp("broken")
    (folder / "side.txt").write_text("2.0")
    pq.write_table(pa.table({"a": [2.0]}), folder / "side.parquet")
    with pytest.MonkeyPatch.context() as patch:
        helper, broken, at_import = _import(
            patch,
            folder,
            proof_helper=HELPER.format(folder=str(folder)),
            proof_broken=BROKEN.format(folder=str(folder)),
            proof_at_import=AT_IMPORT.format(helper="proof_helper"),
        )
        found = prove(declared_in(broken, at_import), SPLITS, START)
        for module in (helper, broken, at_import):
            del sys.modules[module.__name__]
    return {proof.feature.name: proof for proof in found} | {"folder": folder}


@pytest.mark.slow
def test_every_feature_of_the_catalogue_holds_and_its_look_back_is_exact():
    proofs = prove(FEATURES, SPLITS, START)
    assert {proof.feature.name: proof.wrong for proof in proofs if not proof.holds} == {}
    assert [proof.observed for proof in proofs] == [feature.lookback_rows for feature in FEATURES]
    assert max(proof.observed for proof in proofs) == LOOKBACK_ROWS == 1453
    assert not any(proof.at_least or proof.unproven for proof in proofs)


@pytest.mark.parametrize("name", ["sound", "sound_and_imports_late", "fitted_on_fit", "noisy_print"])
def test_a_sound_feature_holds(proofs, name):
    assert proofs[name].wrong == {}
    assert proofs[name].observed == proofs[name].feature.lookback_rows


@pytest.mark.parametrize(
    ("name", "proof", "said"),
    [
        ("one_too_long", "look-back", "declare lookback=30"),
        ("one_too_short", "look-back", "30 and more rows before it; declare lookback=30"),
        ("one_too_short", "history-free", "and nan from itself and the 29 rows before it"),
        ("ahead", "look-ahead", "with no values after row"),
        ("centred", "look-ahead", "with no values after row"),
        ("undeclared", "columns", "it reads volume, undeclared"),
        ("expanding", "history-free", "from the whole history"),
        ("expanding", "look-back", "rows outside the window are carried along"),
        ("whole_series", "look-ahead", "with no values after row"),
        ("random_numbers", "deterministic", "from the same bars in the same process"),
        ("first_result_by_date", "deterministic", "days later; keep nothing by date or from an earlier call"),
        ("first_result_by_length", "deterministic", "values differ between two fresh processes"),
        ("hashed", "deterministic", "values differ between two fresh processes"),
        ("local_time", "deterministic", "values differ between two fresh processes"),
        ("other_process", "runs", "it asked for subprocess.Popen true, which is refused"),
        ("fitted_beyond_fit", "fitted_on", "up to fitted_on=2026-02-05, but FIT of SPLITS ends at 2026-02-04T00:00 UTC"),
    ],
)
def test_a_broken_feature_is_caught_with_what_was_found_and_what_to_do(proofs, name, proof, said):
    assert said in proofs[name].wrong[proof]
    assert not proofs[name].holds


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("side_file", "side.txt"),
        ("side_file_if_there", "side.txt"),
        ("side_parquet", "side.parquet"),
        ("side_csv", "side.txt"),
        ("opened_at_import", "side.txt"),
    ],
)
def test_a_feature_that_opens_a_file_is_caught_with_the_file_however_it_is_opened(proofs, name, file):
    assert str(proofs["folder"] / file) in proofs[name].wrong["runs"]
    assert proofs[name].unproven


def test_a_process_that_ends_early_is_an_error_that_names_the_feature(tmp_path, monkeypatch):
    source = "import os\n" + AT_IMPORT.replace("import {helper}\n", "").replace("bars[", "os._exit(7) or bars[").replace(
        " * {helper}.SIDE", ""
    )
    (module,) = _import(monkeypatch, tmp_path, proof_gone=source)
    with pytest.raises(ProofError, match=r"proof_gone:opened_at_import the next, when their process ended with exit code 7"):
        prove(declared_in(module), SPLITS, START)
    del sys.modules["proof_gone"]


def _command(folder: Path, *arguments: str, path: Path | None = None, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FEATURE_ASSETS_", "DAGSTER"))}
    environment |= {f"FEATURE_ASSETS_{name}": value for name, value in settings.items()}
    environment |= {"PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"} if path else {}
    command = [sys.executable, "-m", "feature_assets", "prove", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_command_prints_a_line_a_feature_and_exits_0(tmp_path):
    result = _command(tmp_path, "--feature", "ret_60m_bps", SPLITS="")
    assert result.returncode == 0, result.stderr
    header, line, *rest = result.stdout.splitlines()
    assert header.split() == [
        *("feature", "declared", "observed", "columns", "look-ahead", "deterministic", "history-free", "fitted_on")
    ]
    assert line.split() == ["ret_60m_bps", "60", "60", "ok", "none", "yes", "yes", "-"]
    assert "longest look-back: 60 rows declared, 60 observed" in rest
    assert "fitted_on: FIT, without its embargo, ends at 2026-02-04T00:00 UTC" in rest
    assert rest[-1].startswith("1 of 1 features hold; ")
    assert "1/1 features" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_command_exits_2_for_a_feature_that_there_is_not(tmp_path):
    result = _command(tmp_path, "--feature", "ret_7m_bps")
    assert result.returncode == 2
    assert "--feature ret_7m_bps: there is none of that name; expected one of ret_1m_bps, " in result.stderr


def test_the_command_catches_what_a_user_has_just_added_to_a_family_and_exits_1(tmp_path):
    copy = tmp_path / "package" / "feature_assets"
    shutil.copytree(Path(feature_assets.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    family = copy / "features/families/returns.py"
    new = BROKEN[BROKEN.index('@declare(31, "close")') : BROKEN.index('@declare(29, "close")')]
    declaration = '@feature(unit="bps", lookback=31, columns=("close",), fitted_on=dt.date(2026, 2, 3))'
    new = new.replace('@declare(31, "close")', declaration).replace("bars):\n", 'bars):\n    """For a test."""\n')
    family.write_text(family.read_text() + "\n\nimport datetime as dt\n" + new)
    result = _command(tmp_path, "--feature", "one_too_long", path=copy.parent, START_DATE="2025-03-03")
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stdout.splitlines()[1].split() == ["one_too_long", "31", "30", "ok", "none", "yes", "yes", "2026-02-03"]
    assert "fitted_on: SPLITS has no FIT, so no fitted_on is refused" in result.stdout
    assert "FAILED one_too_long, look-back: nothing done to a row moved a value more than 30 rows later;" in result.stderr
