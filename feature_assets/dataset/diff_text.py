"""A diff in words, for people and as JSON. What was found is diff.py's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from feature_assets.dataset.diff import SIDES, Diff, LayerDiff, PartitionDiff
from feature_assets.dataset.keys import Key
from feature_assets.dataset.plan import rectangles
from feature_assets.dataset.table_diff import Change, Row, TableDiff

_SHOWN = 5
"""Partitions, and ranges of them, named a layer."""
_SHOWN_COLUMNS = 10


def as_text(diff: Diff) -> str:
    """A verdict, counts by layer, then the first differences, the largest by column, and what was made of what."""
    lines = [f"{side}  {root}" for side, root in zip(SIDES, diff.roots, strict=True)]
    lines += ["", _verdict(diff), "", *_counts(diff)]
    for layer in diff.layers:
        lines += _first_differences(layer)
    lines += _columns(diff)
    lines += ["", *_making(diff), *(f"note: {note}" for note in diff.notes)]
    return "\n".join(lines)


def _verdict(diff: Diff) -> str:
    differing = [layer.asset for layer in diff.layers if layer.differs]
    how = "" if diff.reference is None else " within the contract's tolerances"
    if differing:
        return f"DIFFERENT{' beyond the contract' * bool(how)}: {', '.join(differing)}"
    return f"the same{how}: {sum(layer.partitions for layer in diff.layers)} partitions"


def _counts(diff: Diff) -> list[str]:
    head = f"{'partitions':<18}{'same':>8}{'differ':>8}{'unreadable':>12}{'only in A':>11}{'only in B':>11}"
    lines = [f"{head}   rows {'changed':>9}{'only in A':>11}{'only in B':>11}"]
    for layer in diff.layers:
        unreadable = sum(bool(partition.problem) for partition in layer.changed)
        tables = [partition.table for partition in layer.changed]
        lines.append(
            f"{layer.asset:<18}{layer.same:>8,}{len(layer.changed) - unreadable:>8,}{unreadable:>12,}"
            f"{len(layer.only[0]):>11,}{len(layer.only[1]):>11,}        {sum(table.changed for table in tables):>9,}"
            f"{sum(table.only[0] for table in tables):>11,}{sum(table.only[1] for table in tables):>11,}"
        )
    return lines


def _first_differences(layer: LayerDiff) -> list[str]:
    if not layer.differs:
        return []
    lines = ["", f"{layer.asset}, first differences"]
    lines += [f"  {problem}" for problem in layer.problems]
    for side, keys in zip(SIDES, layer.only, strict=True):
        ranges = [first if first == last else f"{first}...{last}" for first, last in _ranges(keys)]
        lines += [f"  only in {side}: {span}" for span in ranges[:_SHOWN]]
        lines += _more(len(ranges), f"ranges only in {side}")
    unreadable = [f"  {partition.key}: {partition.problem}" for partition in layer.changed if partition.problem]
    differing = [partition for partition in layer.changed if not partition.problem]
    lines += unreadable[:_SHOWN] + _more(len(unreadable), "unreadable partitions")
    lines += [f"  {partition.key}: {'; '.join(_sentences(partition.table))}" for partition in differing[:_SHOWN]]
    return lines + _more(len(differing), "partitions that differ")


def _ranges(keys: Sequence[Key]) -> list[tuple[str, str]]:
    symbols = sorted({key.symbol for key in keys if key.symbol})
    return [(str(first), str(last)) for first, last in rectangles(keys, symbols)]


def _sentences(table: TableDiff) -> list[str]:
    found = list(table.notes)
    if table.first:
        left, right = table.first.values
        values = left if left == right else f"{left} in A, {right} in B"
        found.append(f"{table.changed:,} row(s) changed, first {table.first.row} {table.first.column}: {values}")
    for side, number, row in zip(SIDES, table.only, table.first_only, strict=True):
        if number:
            found.append(f"{number:,} row(s) only in {side}, first {row}")
    return found or ["the content hashes differ, no row does"]


def _more(number: int, what: str, shown: int = _SHOWN) -> list[str]:
    return [f"  and {number - shown:,} more {what}; --json has all"] if number > shown else []


def _columns(diff: Diff) -> list[str]:
    """By column the rows that differ, and the most units in the last place between two values of an unlocked row."""
    if not any(layer.columns for layer in diff.layers):
        return []
    lines = ["", f"{'columns':<18}{'':<36}{'rows':>10}{'one-sided':>11}{'most ULPs':>28}  between"]
    for layer in diff.layers:
        found = sorted(layer.columns.items(), key=lambda item: (-item[1].rows, -(item[1].steps or 0), item[0]))
        for name, column in found[:_SHOWN_COLUMNS]:
            steps = "-" if column.steps is None else f"{column.steps:,}"
            where = f"{column.where or ''}"
            lines.append(f"{layer.asset:<18}{name:<36}{column.rows:>10,}{column.one_sided:>11,}{steps:>28}  {where}".rstrip())
        lines += _more(len(found), f"columns of {layer.asset}", _SHOWN_COLUMNS)
    lines.append(
        "one-sided: a value on one side, NaN or null on the other. ULPs: units in the last place, float32 ones but in replay;"
    )
    lines.append("- where text, one-sided rows or rows of the locked split alone differ.")
    if diff.reference is not None:
        lines.append("rows: those beyond the tolerance. ULPs: with allowed differences, which are many near 0.")
    return lines


def _making(diff: Diff) -> list[str]:
    lines = []
    for layer in diff.layers if diff.reference is None else ():
        if layer.other_inputs:
            lines.append(f"inputs     {layer.asset}: {layer.other_inputs:,} partition(s) have others, first {layer.first_inputs}")
        for (left, right), number in sorted(layer.other_code.items()):
            lines.append(f"code       {layer.asset}: {number:,} partition(s) by version {left} in A, {right} in B")
        if layer.other_bytes:
            lines.append(f"bytes      {layer.asset}: {layer.other_bytes:,} partition(s) of the same content are other bytes")
    if diff.reference is None:
        whats = (("inputs", [layer.other_inputs for layer in diff.layers]), ("code", [layer.other_code for layer in diff.layers]))
        lines = [f"{what:<11}the same" for what, found in whats if not any(found)] + lines
    else:
        lines.append(f"inputs and code: {diff.reference} is the reference's and does not name any")
    left, right = (", ".join(sorted(names)) or "none named" for names in diff.libraries)
    lines.append(f"libraries  written by {left}" + ("" if left == right else f" in A, {right} in B"))
    lines.append("           (what each Parquet file says; no file names the version of another library)")
    return lines


def as_json(diff: Diff) -> dict[str, Any]:
    """Everything that was found, every partition named."""
    return {
        "a": diff.roots[0],
        "b": diff.roots[1],
        "reference": diff.reference and diff.reference.lower(),
        "same": diff.same,
        "layers": {layer.asset: _layer(layer) for layer in diff.layers},
        "libraries": _both(*(sorted(names) for names in diff.libraries)),
        "notes": diff.notes,
    }


def _layer(layer: LayerDiff) -> dict[str, Any]:
    return {
        "same": layer.same,
        "other_bytes": layer.other_bytes,
        "only": _both(*([str(key) for key in keys] for keys in layer.only)),
        "problems": layer.problems,
        "differ": [_partition(partition) for partition in layer.changed],
        "columns": {
            name: {"rows": column.rows, "one_sided": column.one_sided, "ulps": column.steps, "at": _row(column.where)}
            for name, column in layer.columns.items()
        },
        "other_inputs": {"partitions": layer.other_inputs, "first": layer.first_inputs},
        "other_code": [_both(*versions) | {"partitions": number} for versions, number in sorted(layer.other_code.items())],
    }


def _partition(partition: PartitionDiff) -> dict[str, Any]:
    table = partition.table
    return {
        "partition": str(partition.key),
        "problem": partition.problem,
        "notes": list(table.notes),
        "rows_changed": table.changed,
        "rows_only": _both(*table.only),
        "first_change": _change(table.first),
        "first_only": _both(*map(_row, table.first_only)),
    }


def _change(change: Change | None) -> dict[str, Any] | None:
    return {"at": _row(change.row), "column": change.column} | _both(*change.values) if change else None


def _row(row: Row | None) -> dict[str, str] | None:
    return {"minute": row.time, "symbol": row.symbol} if row else None


def _both(left: Any, right: Any) -> dict[str, Any]:
    return {"a": left, "b": right}
