"""The three assets without partitions: split_manifest, feature_manifest and quality_report."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from feature_assets.checks import checks_of
from feature_assets.dataset import lock
from feature_assets.dataset.examination import MANIFEST_FILE
from feature_assets.dataset.feature_manifest import build_feature_manifest
from feature_assets.dataset.outcomes import Check
from feature_assets.dataset.quality_report import REPORT_FILE, build_quality_report
from feature_assets.dataset.store import (
    FEATURE_FRAME,
    FEATURE_MANIFEST,
    QUALITY_REPORT,
    SPLIT_MANIFEST,
    SPLIT_MANIFEST_FILE,
    sha256,
)
from feature_assets.errors import LockError
from feature_assets.resources import SourceResource, StoreResource
from feature_assets.settings import Settings


def split_manifest_asset(settings: Settings) -> dg.AssetsDefinition:
    """The splits as a file, so that frames and readers share one."""

    @dg.asset(
        name=SPLIT_MANIFEST,
        description="The validated splits, their embargo and the number of walk-forward folds, from the settings.",
        group_name="dataset",
        kinds={"json"},
        owners=["team:research"],
        # Lets it share a --partition-range run with the layers that read it.
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def split_manifest(source: SourceResource, store: StoreResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
        files = store.open(source.open())
        try:
            data = lock.publish_splits(files, settings.splits)
        except LockError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        held = lock.read_lock(files)
        return dg.MaterializeResult(
            metadata={
                "path": files.path(SPLIT_MANIFEST_FILE),
                "splits": dg.MetadataValue.md("\n".join(f"- {split}" for split in settings.splits.splits) or "none"),
                "locked_dates": len(held.dates),
                **_ledgers({"amendments": held.amendments, "looks": held.looks}),
            },
            data_version=dg.DataVersion(sha256(data)),
        )

    return split_manifest


def feature_manifest_asset(settings: Settings) -> dg.AssetsDefinition:
    """What the stored frame consists of."""

    @dg.asset(
        name=FEATURE_MANIFEST,
        description="Which dates the frame has, with their hashes, row counts, splits and the declarations of all features. It "
        "is published only if every file it names is whole, current, and of one version.",
        deps=[FEATURE_FRAME],
        check_specs=checks_of(FEATURE_MANIFEST),
        group_name="dataset",
        kinds={"json"},
        owners=["team:features"],
    )
    def feature_manifest(source: SourceResource, store: StoreResource) -> Iterator[object]:
        files = store.open(source.open())
        manifest, check = build_feature_manifest(files, settings)
        if not check.passed:
            yield _result(check)
            raise dg.Failure(f"{FEATURE_MANIFEST}: {check.message}", allow_retries=False)
        figures = {name: value for name, value in manifest.items() if isinstance(value, int | float | str)}
        yield dg.MaterializeResult(
            metadata={
                "path": files.path(MANIFEST_FILE),
                "dates": len(manifest["partitions"]),
                "missing_dates": manifest["missing_dates"],
                **figures,
                **_ledgers(manifest),
            },
            data_version=dg.DataVersion(manifest["data_hash_sha256"]),
            check_results=[_result(check)],
        )

    return feature_manifest


def quality_report_asset(settings: Settings) -> dg.AssetsDefinition:
    """The report to look at before training."""

    @dg.asset(
        name=QUALITY_REPORT,
        description="Coverage, leakage tests, extreme values, correlations, drift and distributions of the frame. "
        "VALIDATION_LOCKED shows in the split coverage and, by its medians, in the drift table alone.",
        deps=[FEATURE_FRAME, FEATURE_MANIFEST],
        check_specs=checks_of(QUALITY_REPORT),
        group_name="dataset",
        kinds={"markdown"},
        owners=["team:research"],
    )
    def quality_report(source: SourceResource, store: StoreResource) -> Iterator[object]:
        files = store.open(source.open())
        text, check = build_quality_report(files, settings)
        yield dg.MaterializeResult(
            metadata={"path": files.path(REPORT_FILE), "report": dg.MetadataValue.md(text)},
            data_version=dg.DataVersion(sha256(text.encode())),
            check_results=[_result(check)],
        )

    return quality_report


def _ledgers(ledgers: Mapping[str, Any]) -> dict[str, dg.MetadataValue[Any]]:
    """The validation lock's two ledgers for the UI: a line each, and the entries."""
    return {
        "validation_lock": dg.MetadataValue.md("\n".join(f"- {line}" for line in lock.ledger_lines(ledgers))),
        **{name: dg.MetadataValue.json(ledgers[name]) for name in ("amendments", "looks")},
    }


def _result(check: Check) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=check.passed,
        check_name=check.name,
        severity=dg.AssetCheckSeverity.WARN if check.warning else dg.AssetCheckSeverity.ERROR,
        description=check.message,
        metadata=check.details,
    )
