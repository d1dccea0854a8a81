"""The bench's findings as Markdown and as a picture."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from feature_assets_bench.run import Found, other_name

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
PICTURE = "performance.svg"
_HEAD = ("what", "ours", "other", "ratio", "target")


def report(found: Mapping[str, Found]) -> str:
    """The table of all rows, then what some of them have to say beside it."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("numpy", "pandas", "pyarrow", "dagster"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    rows = [_HEAD, *(line for row in found.values() for line in row.lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in rows]
    lines.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    return "\n\n".join(
        [
            f"{cores} cores; Python {platform.python_version()}, {libraries}. Where a row names nothing else, *other* is "
            f"{other_name()}.",
            "\n".join(lines),
            *(text for row in found.values() for text in row.text),
        ]
    )


def write(folder: Path, text: str, curves: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """Put the text between the markers of performance.md, and the picture beside it."""
    page = folder / "performance.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or not after:
        raise RuntimeError(f"{page}: the markers {BEGIN} and {END} are not there in this order; put them back.")
    (folder / PICTURE).write_text(picture(curves), encoding="utf-8")
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def picture(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    """Seconds and peak memory to add a day, by how many days the store has; the axes below begin at 0."""
    panels = (("seconds to add a day", ("process", "after import")), ("peak MiB", ("peak",)))
    parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="720" height="260" font-family="sans-serif" font-size="12">']
    parts.append('<rect width="720" height="260" fill="white"/>')
    for left, (title, names) in zip((60, 420), panels, strict=True):
        top = _round_up(max(value for name in names for _, value in curves[name]))
        days = [stored for stored, _ in curves[names[0]]]
        span = math.log(days[-1] / days[0]) or 1.0

        def x(stored: int, left: int = left, first: int = days[0], span: float = span) -> float:
            return left + 260 * math.log(stored / first) / span

        def y(value: float, top: float = top) -> float:
            return 210 - 160 * value / top

        parts.append(f'<text x="{left}" y="25" font-weight="bold">{title}</text>')
        for step in range(5):
            height = y(top * step / 4)
            parts.append(f'<path d="M{left} {height:.1f}h260" stroke="#ddd"/>')
            parts.append(f'<text x="{left - 6}" y="{height + 4:.1f}" text-anchor="end">{top * step / 4:g}</text>')
        parts += [f'<text x="{x(stored):.1f}" y="228" text-anchor="middle">{stored:,}</text>' for stored in days]
        parts.append(f'<text x="{left + 130}" y="248" text-anchor="middle">days in the store (2 symbols)</text>')
        for name, colour in zip(names, ("#1f5fa8", "#c2571a"), strict=False):
            points = [(x(stored), y(value)) for stored, value in curves[name]]
            line = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
            parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in points]
            parts.append(f'<text x="{left + 260}" y="{points[-1][1] - 8:.1f}" text-anchor="end" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _round_up(value: float) -> float:
    """The next of 1, 2, 4 or 8 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in (1, 2, 4, 8, 10) if power * step >= value)
