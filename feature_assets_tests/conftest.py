"""A test run leaves nothing behind: what hypothesis remembers goes to a folder that is deleted."""

from __future__ import annotations

import tempfile

from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir

_HOME = tempfile.TemporaryDirectory(prefix="feature_assets_hypothesis_")
set_hypothesis_home_dir(_HOME.name)
settings.register_profile("tests", database=None, deadline=None)
settings.load_profile("tests")


def pytest_unconfigure():
    _HOME.cleanup()
