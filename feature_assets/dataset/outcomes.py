"""What becomes of a partition that was asked for, told to whoever asked: one of four outcomes, with its checks."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from feature_assets.dataset.keys import Key
from feature_assets.dataset.tables import Footer


@dataclass(frozen=True)
class Check:
    """A named rule's result for one partition. `warning` marks a rule that never keeps a partition back."""

    name: str
    passed: bool
    message: str
    warning: bool = False
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """The file is in place under its final name."""

    key: Key
    footer: Footer
    checks: tuple[Check, ...]
    details: dict[str, Any]


@dataclass(frozen=True)
class Refused:
    """The partition broke a rule: its table and marker are in quarantine, the last good file stays."""

    key: Key
    checks: tuple[Check, ...]
    reason: str


@dataclass(frozen=True)
class Blocked:
    """An input is missing, refused or stale; nothing was computed or written."""

    key: Key
    reason: str


@dataclass(frozen=True)
class Left:
    """There is nothing to build yet: no failure, and it is asked for again."""

    key: Key
    reason: str


Outcome = Published | Refused | Blocked | Left


def to_json(outcome: Outcome) -> str:
    """An outcome as a line of JSON, for another process."""
    return json.dumps({"outcome": type(outcome).__name__, **asdict(outcome), "key": str(outcome.key)})


def from_json(line: str) -> Outcome:
    """The outcome that to_json wrote; raises KeyError, TypeError or ValueError for anything else."""
    told = json.loads(line)
    kind = {kind.__name__: kind for kind in (Published, Refused, Blocked, Left)}[told.pop("outcome")]
    told["key"] = Key.parse(told["key"])
    if "checks" in told:
        told["checks"] = tuple(Check(**check) for check in told["checks"])
    if "footer" in told:
        told["footer"] = Footer(**told["footer"])
    return kind(**told)
