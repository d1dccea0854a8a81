"""What is there and what is not: the state of every partition of a range, from the store's files and the source alone."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from feature_assets.dataset.feature_frame import frame_code_version
from feature_assets.dataset.keys import ONE_DAY, Key, dates
from feature_assets.dataset.replay import replay_code_version, replay_fingerprint
from feature_assets.dataset.store import FEATURE_FRAME, REPLAY, SYMBOL_FEATURES, Store
from feature_assets.dataset.symbol_features import features_code_version
from feature_assets.dataset.tables import Footer
from feature_assets.errors import (
    FeatureAssetsError,
    MissingInputError,
    RefusedInputError,
    StaleInputError,
    StoreError,
)
from feature_assets.market.sources import NOT_YET, Source, read_days
from feature_assets.settings import Settings

BUILT, STALE, REFUSED = "built", "stale", "refused"
ABSENT, WAITING, MISSING = "absent", "not yet", "missing"
STATES = (BUILT, STALE, REFUSED, ABSENT, WAITING, MISSING)
DONE = frozenset({BUILT, ABSENT})
"""States that leave nothing to do: an absent day is a built partition without rows."""


@dataclass(frozen=True)
class PartitionState:
    """A partition's state and, where there is something to do about it, why."""

    asset: str
    key: Key
    state: str
    reason: str = ""


def range_status(store: Store, source: Source, settings: Settings, start: dt.date, end: dt.date) -> list[PartitionState]:
    """The state of every member's replay and features and of every frame of [start, end), by date, symbol and layer.

    built: whole, of the present code, and from inputs that are still the same. absent: built, without rows. not yet: the
    source has not published the day. The source is asked of missing days alone.
    """
    return list(_Reader(store, source, settings).states(start, end))


def totals(states: Sequence[PartitionState]) -> Counter[str]:
    """How many partitions are in each state."""
    return Counter(state.state for state in states)


class _Reader:
    def __init__(self, store: Store, source: Source, settings: Settings) -> None:
        self._store, self._source, self._settings = store, source, settings
        self._versions = {
            REPLAY: replay_code_version(source),
            SYMBOL_FEATURES: features_code_version(settings.options),
            FEATURE_FRAME: frame_code_version(),
        }

    def states(self, start: dt.date, end: dt.date) -> Iterator[PartitionState]:
        for date in dates(start, end):
            members = self._settings.members(date)
            below = []
            for symbol in members:
                key = Key(date, symbol)
                replay = self._state(REPLAY, key, self._replay_gap)
                below += [replay, self._state(SYMBOL_FEATURES, key, _gap_over([replay]))]
            yield from below
            if members:
                yield self._state(FEATURE_FRAME, Key(date), _gap_over(below))

    def _state(self, asset: str, key: Key, gap: Callable[[Key], str]) -> PartitionState:
        if refusal := self._store.refusal(asset, key):
            return PartitionState(asset, key, REFUSED, refusal.reason)
        try:
            footer = self._store.footer(asset, key)
            if footer is None:
                return PartitionState(asset, key, gap(key))
            self._store.input_hash(f"{asset}/{key}")
            reason = self._outdated(asset, key, footer)
        except RefusedInputError as error:
            return PartitionState(asset, key, REFUSED, str(error))
        except (StaleInputError, MissingInputError, StoreError) as error:
            return PartitionState(asset, key, STALE, str(error))
        if reason:
            return PartitionState(asset, key, STALE, reason)
        rows = footer.stats.get("rows", sum(n for name, n in footer.stats.items() if name.startswith("rows/")))
        return PartitionState(asset, key, BUILT if rows else ABSENT)

    def _outdated(self, asset: str, key: Key, footer: Footer) -> str:
        """Why a partition whose inputs are unchanged should be built again all the same; empty where it should not."""
        if footer.code_version != self._versions[asset]:
            return f"built by code version {footer.code_version}, which is {self._versions[asset]} now"
        if asset == REPLAY:
            fingerprint = replay_fingerprint(self._source, self._settings, key)
            return "" if fingerprint == footer.inputs["source"] else "the source's data have changed"
        if asset == FEATURE_FRAME:
            return membership_changed(self._settings, key, footer)
        return ""

    def _replay_gap(self, key: Key) -> str:
        assert key.symbol is not None
        try:
            ((_, answer),) = read_days(self._source, key.symbol, key.date, key.date + ONE_DAY)
        except FeatureAssetsError:
            return MISSING
        return WAITING if answer is NOT_YET else MISSING


def membership_changed(settings: Settings, key: Key, footer: Footer) -> str:
    """How the members of a frame's date differ from those that it was built with; empty where they are the same."""
    built = {name.rpartition("|")[2] for name in footer.inputs if name.startswith(f"{SYMBOL_FEATURES}/")}
    members = set(settings.members(key.date))
    changes = [f"built without {symbol}" for symbol in sorted(members - built)]
    changes += [f"built with {symbol}, which is no member" for symbol in sorted(built - members)]
    return ", ".join(changes)


def _gap_over(below: Sequence[PartitionState]) -> Callable[[Key], str]:
    """What a partition without a file is, by the states of what it reads."""
    waits = any(state.state == WAITING for state in below)
    return lambda _: WAITING if waits else MISSING
