"""Relock: accepts the locked rows that a build would publish now, as an amendment of the validation lock."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from feature_assets.dataset import lock
from feature_assets.dataset.feature_frame import present_frame
from feature_assets.dataset.keys import Key
from feature_assets.dataset.store import Store
from feature_assets.errors import FeatureAssetsError, LockError
from feature_assets.settings import Settings


def relock(store: Store, settings: Settings, reason: str) -> dict[str, Any] | None:
    """Lock what the stored features and the settings' splits give for every locked date; gives the amendment.

    Nothing is built; the next build publishes what was accepted. None, and nothing is written, where neither a locked row
    nor the boundaries would change. Raises SettingError for an empty reason, and LockError, naming all of them, for
    features that a frame could not be built from.
    """
    text = lock.reason_text("--reason", reason)
    if not lock.locked_dates(store):
        return None
    store.refuse_lost_symbols(settings.symbol_names)
    # Held for as long as it takes, so that no build publishes what has just been judged.
    with lock.held(store):
        held, before = lock.read_lock(store), lock.locked_dates(store)
        now = _present_hashes(store, settings, before)
        changed = {date: {"old": known, "new": now[date]} for date, known in before.items() if now[date] != known}
        boundaries = lock.boundaries(settings.splits)
        if not changed and boundaries == lock.known_boundaries(store):
            return None
        number = len(held.amendments) + 1
        amendment = {"number": number, "reason": text, "boundaries": boundaries, "changed_dates": changed}
        lock.write_lock(store, replace(held, boundaries=boundaries, dates=now, amendments=[*held.amendments, amendment]))
    return amendment


def _present_hashes(store: Store, settings: Settings, before: dict[str, str]) -> dict[str, str]:
    """The locked hash of each date as it would be published now; a date that would not be built keeps its own."""
    now, broken = {}, []
    for date, known in before.items():
        try:
            frame = present_frame(store, settings, Key.parse(date))
        except FeatureAssetsError as error:
            broken.append(f"{date}: {error}")
            continue
        now[date] = known if frame is None else lock.locked_hash(frame)
    if broken:
        raise LockError("relock: what would be locked is not known, as inputs are not sound. " + " ".join(broken))
    return now
