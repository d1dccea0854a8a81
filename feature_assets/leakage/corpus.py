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
    each, caught, injected = [], 0, 0
    for row in rows_of(read_corpus()["leaks"]):
        number, total = sum(int(str(row[who])) for who in SUMS), int(str(row["injected"]))
        each.append(f"{row['mechanism']} {number} of {total}")
        caught, injected = caught + number, injected + total
    return f"corpus of injected leaks, at this version of the code: {caught} of {injected} caught ({', '.join(each)})"
