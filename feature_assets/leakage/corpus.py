"""The corpus of leaks that the tests inject into the pipeline: what became of each when all of them were last run.

corpus.json is written by the tests' generator (make corpus); the report and the README show sums of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CORPUS_FILE = Path(__file__).with_name("corpus.json")
SUMS = ("the build", "the audit", "the tests")
"""Who may catch a leak, in the order in which they have the chance to."""


def read_corpus() -> Mapping[str, Any]:
    """`leaks`: mechanism, leak, scope, caught_by, check of each; `missed`: sentences on what is known not to be caught."""
    found: Mapping[str, Any] = json.loads(CORPUS_FILE.read_text(encoding="utf-8"))
    return found


def rows_of(leaks: Sequence[Mapping[str, str]]) -> list[dict[str, object]]:
    """A row a mechanism: how many leaks were injected, and how many of them each of SUMS was the first to catch."""
    rows: list[dict[str, object]] = []
    for mechanism in dict.fromkeys(leak["mechanism"] for leak in leaks):
        caught = [leak["caught_by"] for leak in leaks if leak["mechanism"] == mechanism]
        rows.append({"mechanism": mechanism, "injected": len(caught), **{who: caught.count(who) for who in SUMS}})
    return rows


def corpus_line() -> str:
    """The corpus in a line: caught of injected leaks, by mechanism."""
    leaks = read_corpus()["leaks"]
    rows = rows_of(leaks)
    caught = ", ".join(f"{sum(leak['caught_by'] == who for leak in leaks)} by {who}" for who in SUMS)
    each = ", ".join(f"{row['mechanism']} {sum(int(str(row[who])) for who in SUMS)}/{row['injected']}" for row in rows)
    return f"corpus of {len(leaks)} injected leaks, at its last full run: {caught} caught ({each})"
