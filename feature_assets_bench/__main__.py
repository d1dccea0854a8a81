"""python -m feature_assets_bench [--small] [--only ROW ...]: the benchmarks as a table of ratios.

The full form writes what it found into docs/performance.md; the small one keeps the bench working and judges no time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from feature_assets_bench import document
from feature_assets_bench.rows import FULL, ROWS, SMALL
from feature_assets_bench.run import PROJECT, Found


def main() -> None:
    parser = argparse.ArgumentParser(prog="feature_assets_bench", description=__doc__)
    parser.add_argument("--small", action="store_true", help="tiny sizes; writes nothing")
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help=f"some of {', '.join(ROWS)}; writes nothing")
    options = parser.parse_args()
    found: dict[str, Found] = {}
    for name in options.only or ROWS:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="feature_assets_bench_") as folder:
            found[name] = ROWS[name](Path(folder) / "store", SMALL if options.small else FULL)
        print(f"{name}: done in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    text = document.report(found)
    print(text)
    if not options.small and not options.only:
        document.write(PROJECT / "docs", f"{text}\n\n![Adding a day]({document.PICTURE})", found["growth"].curves)


if __name__ == "__main__":
    main()
