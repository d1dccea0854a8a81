"""Symbol features of long ranges in processes of their own.

Python runs one thread at a time: what the proof of a day takes would be added to what Dagster takes to record the day
before. A process gets its keys as JSON and answers with a line an outcome. It ends when nobody takes its answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import accumulate, chain, groupby
from typing import Any

from feature_assets.dataset import outcomes
from feature_assets.dataset.keys import Key
from feature_assets.dataset.outcomes import Outcome
from feature_assets.dataset.store import SYMBOL_FEATURES, Store
from feature_assets.dataset.symbol_features import build_symbol_features, features_code_version
from feature_assets.errors import ProofError, StaleInputError
from feature_assets.features.build import FeatureOptions

_PROCESSES = min(4, (os.cpu_count() or 1) - 1)
# A symbol's dates that are given away at once, each such part reading its look-back again, and the keys that are built here.
_DATES = 32
_SECONDS_TO_STOP = 10


def build_in_processes(
    store: Store, options: FeatureOptions, keys: Sequence[Key], hidden_from: int | None = None
) -> Iterator[Outcome]:
    """What build_symbol_features gives for these keys, in the same order, with the same files.

    The first keys are built here while the processes start, so that a short range needs none. Raises ProofError, naming
    the first key that is not known to be done, where a process ends too early; what was published stays.
    """
    parts = _parts(keys)
    here = max(sum(total <= _DATES for total in accumulate(map(len, parts))), 1) if _PROCESSES else len(parts)
    first, rest = parts[:here], parts[here:]
    with contextlib.ExitStack() as stack:
        count = min(_PROCESSES, len(rest))
        answers = [stack.enter_context(_process(store, options, rest[n::count], hidden_from)) for n in range(count)]
        yield from build_symbol_features(store, options, list(chain.from_iterable(first)), hidden_from)
        for number, part in enumerate(rest):
            for _ in part:
                yield next(answers[number % count])


def _parts(keys: Sequence[Key]) -> list[list[Key]]:
    """The keys by symbol and date, each part of one symbol."""
    ordered = sorted(keys, key=lambda key: (key.symbol, key.date))
    by_symbol = [list(group) for _, group in groupby(ordered, key=lambda key: key.symbol)]
    return [group[first : first + _DATES] for group in by_symbol for first in range(0, len(group), _DATES)]


@contextlib.contextmanager
def _process(
    store: Store, options: FeatureOptions, parts: Sequence[Sequence[Key]], hidden_from: int | None
) -> Iterator[Iterator[Outcome]]:
    """A process that builds these parts; gives its outcomes as they come."""
    job = {
        "root": store.given_root,
        "options": asdict(options),
        "code_version": features_code_version(options),
        "hidden_from": hidden_from,
        "parts": [[str(key) for key in part] for part in parts],
    }
    with (
        tempfile.TemporaryFile("w+", errors="replace") as said,
        subprocess.Popen(  # noqa: S603 - this interpreter, this package
            [sys.executable, "-m", __name__],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path)},  # noqa: PTH100
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            # An interrupt is for this process, which takes no more answers then.
            start_new_session=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            # Where it ended at once, there are no answers, and that is told then.
            with contextlib.suppress(BrokenPipeError), process.stdin:
                json.dump(job, process.stdin)
            yield _outcomes(process, [key for part in parts for key in part], said)
        finally:
            process.stdout.close()
            try:
                process.wait(_SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                process.kill()


def _outcomes(process: subprocess.Popen[str], keys: Sequence[Key], said: Any) -> Iterator[Outcome]:
    assert process.stdout is not None
    waiting = dict.fromkeys(keys)
    for line in process.stdout:
        if not line.endswith("\n"):
            break  # it was killed while it wrote
        outcome = outcomes.from_json(line)
        del waiting[outcome.key]
        yield outcome
    code = process.wait()
    said.seek(0)
    raise ProofError(
        f"{SYMBOL_FEATURES} {next(iter(waiting), 'none')} was being built when its process ended with exit code {code}; what "
        f"was published before is there. Build the range again. It said: {said.read().strip()[-2000:] or 'nothing'}"
    )


def main() -> None:
    """Build what standard input says; an outcome a line on standard output."""
    job = json.load(sys.stdin)
    # A feature that prints must not spoil the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    store = Store(job["root"])
    options = FeatureOptions(**job["options"] | {"optional_groups": tuple(job["options"]["optional_groups"])})
    if (version := features_code_version(options)) != job["code_version"]:
        raise StaleInputError(
            f"the code has changed from {job['code_version']} to {version} since the run began; start it again."
        )
    for part in job["parts"]:
        for outcome in build_symbol_features(store, options, [Key.parse(text) for text in part], job["hidden_from"]):
            print(outcomes.to_json(outcome), file=answers, flush=True)


if __name__ == "__main__":
    main()
