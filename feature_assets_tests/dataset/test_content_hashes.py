"""The same content whatever releases of numpy, pandas, pyarrow and Python build it; `make oldest` runs the oldest ones."""

from __future__ import annotations

import json

import pytest

from feature_assets_tests.support.content_hashes import FIXTURE, content_hashes


@pytest.mark.slow
def test_this_environment_gives_the_content_hashes_that_every_supported_one_gives():
    assert content_hashes() == json.loads(FIXTURE.read_text())
