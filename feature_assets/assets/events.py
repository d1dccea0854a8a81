"""From outcomes to Dagster's events, one a partition, in single-partition and in range runs alike.

This is the one place that leans on how Dagster 1.13 records events yielded from a multi_asset's body: an
AssetCheckEvaluation and an AssetMaterialization with a partition each, and no output for the asset itself (it is
skippable), as the output of a range run would record every partition a second time. feature_assets_tests/assets/
test_events.py pins that behaviour. No postponed annotations here: Dagster reads that of `context` itself.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import dagster as dg

from feature_assets.checks import checks_of
from feature_assets.dataset.keys import Key
from feature_assets.dataset.outcomes import Blocked, Check, Left, Outcome, Published
from feature_assets.dataset.store import Store
from feature_assets.dataset.tables import Footer
from feature_assets.market.sources import Source
from feature_assets.resources import SourceResource, StoreResource

PROGRESS = logging.getLogger("feature_assets.progress")
"""A record a finished partition, for whoever shows progress; its args are (asset, done, all)."""

LEFT = logging.getLogger("feature_assets.left")
"""A warning a partition that there is nothing to build of yet, beside the one in the run's own log."""
LEFT.propagate = False

_IN_FULL = 20

Build = Callable[[Store, Source, list[Key]], Iterator[Outcome]]


def partitioned_asset(spec: dg.AssetSpec, build: Build) -> dg.AssetsDefinition:
    """A partitioned asset whose body publishes the run's partitions by `build` and reports each as it is done.

    Where partitions are refused or blocked the others are still published and recorded, then the run fails and names
    them. `build` is given the open store and source and the run's partition keys.
    """
    asset = spec.key.to_user_string()

    @dg.multi_asset(
        name=asset,
        specs=[spec],
        check_specs=checks_of(asset),
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def body(context: dg.AssetExecutionContext, source: SourceResource, store: StoreResource) -> Iterator[Any]:
        _stand_alone(context, spec.key)
        keys = [Key.parse(key) for key in context.partition_keys]
        if not keys:
            raise dg.Failure(f"{asset}: the range holds no partition; its first key must not come after its last.")
        bars = source.open()
        yield from _events(context, spec, build(store.open(bars), bars.source, keys), len(keys))

    return body


def evaluation(asset: str, check: Check, key: Key | None) -> dg.AssetCheckEvaluation:
    """A check's result for one partition, or for the whole asset where key is None."""
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(asset),
        check_name=check.name,
        passed=check.passed,
        metadata=check.details,
        severity=dg.AssetCheckSeverity.WARN if check.warning else dg.AssetCheckSeverity.ERROR,
        description=check.message,
        blocking=not check.warning,
        partition=str(key) if key else None,
    )


def _events(context: dg.AssetExecutionContext, spec: dg.AssetSpec, outcomes: Iterable[Outcome], total: int) -> Iterator[Any]:
    asset = spec.key.to_user_string()
    pointers = _event_pointers(context, spec)
    failed: dict[Key, str] = {}
    for done, outcome in enumerate(outcomes, start=1):
        PROGRESS.info("%s %d/%d", asset, done, total)
        if isinstance(outcome, Left):
            context.log.warning(outcome.reason)
            LEFT.warning("%s", outcome.reason)
        elif isinstance(outcome, Blocked):
            failed[outcome.key] = outcome.reason
        else:
            for check in outcome.checks:
                yield evaluation(asset, check, outcome.key)
            if isinstance(outcome, Published):
                yield _materialization(spec, outcome, pointers, with_columns=done == total)
            else:
                failed[outcome.key] = f"{outcome.reason} (the rejected table and its marker are under quarantine/)"
        if outcome.key in failed:
            context.log.error(failed[outcome.key])
    if failed:
        raise failure(asset, failed)
    for check_spec in checks_of(asset):
        yield dg.Output(None, output_name=f"{asset}_{check_spec.name}")


def failure(asset: str, reasons: Mapping[Key, str]) -> dg.Failure:
    """The failure that ends a run, naming the refused and blocked partitions. Retrying would not help.

    The first are told in full; the run's log tells the others.
    """
    keys = list(reasons)
    text = "\n".join([reasons[key] for key in keys[:_IN_FULL]])
    more = f"\nand {', '.join(map(str, keys[_IN_FULL:]))}" if keys[_IN_FULL:] else ""
    return dg.Failure(f"{asset}: {len(keys)} partition(s) not published.\n{text}{more}", allow_retries=False)


def _event_pointers(context: dg.AssetExecutionContext, spec: dg.AssetSpec) -> dict[str, str]:
    """By upstream asset, the storage id of its last materialization before this run reads it.

    Dagster calls a partition stale where an upstream partition has a later event with another data version. It writes
    such a pointer by itself only for a run's own outputs, one for the whole range.
    """
    pointers = {}
    for dep in spec.deps:
        records = context.instance.fetch_materializations(dep.asset_key, limit=1).records
        pointers[dep.asset_key.to_user_string()] = str(records[0].storage_id) if records else "NULL"
    return pointers


def _provenance_tags(spec: dg.AssetSpec, footer: Footer, pointers: Mapping[str, str]) -> dict[str, str]:
    """The partition's own data version, code version and inputs, as Dagster's staleness reads them."""
    tags = {"dagster/data_version": footer.content_hash, "dagster/code_version": spec.code_version or ""}
    for asset, pointer in pointers.items():
        versions = [version for name, version in sorted(footer.inputs.items()) if name.partition("/")[0] == asset]
        # Of an upstream asset without partitions Dagster compares the version itself; else it follows the pointer.
        version = versions[0] if footer.inputs.get(asset) else hashlib.sha256("".join(versions).encode()).hexdigest()
        tags |= {f"dagster/input_data_version/{asset}": version, f"dagster/input_event_pointer/{asset}": pointer}
    return tags


def _materialization(
    spec: dg.AssetSpec, outcome: Published, pointers: Mapping[str, str], *, with_columns: bool
) -> dg.AssetMaterialization:
    """A partition's event. The UI takes columns and their lineage from the latest one, so that a range says them once."""
    columns = {name: value for name, value in spec.metadata.items() if name.startswith("dagster/column") and with_columns}
    return dg.AssetMaterialization(
        asset_key=spec.key,
        partition=str(outcome.key),
        metadata={
            **outcome.details,
            "content_hash": outcome.footer.content_hash,
            "dagster/partition_row_count": outcome.details["rows"],
            **columns,
        },
        tags=_provenance_tags(spec, outcome.footer, pointers),
    )


def _stand_alone(context: dg.AssetExecutionContext, asset: dg.AssetKey) -> None:
    """Fail where the run also selects something downstream: Dagster would skip that silently and exit 0."""
    graph = context.job_def.asset_layer.asset_graph
    below = {key for key in context.job_def.asset_layer.selected_asset_keys if key != asset}
    skipped = below & _downstream(graph, asset)
    if skipped:
        names = ", ".join(sorted(key.to_user_string() for key in skipped))
        raise dg.Failure(
            f"{asset.to_user_string()} and {names} cannot share a run: Dagster would skip {names}. Materialize one layer a run, "
            "or use `feature-assets build`.",
            allow_retries=False,
        )


def _downstream(graph: Any, asset: dg.AssetKey) -> set[dg.AssetKey]:
    found: set[dg.AssetKey] = set()
    waiting = [asset]
    while waiting:
        for child in graph.get(waiting.pop()).child_keys:
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found
