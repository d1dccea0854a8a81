"""The reference, end to end, in a process that imports nothing of ours: python -m feature_assets_bench.reference ... ."""

import importlib.util
import json
import sys
import time
import types
from pathlib import Path

if __name__ == "__main__":
    folder, replay, out = map(Path, sys.argv[1:])
    spec = importlib.util.spec_from_file_location("run_reference", folder / "run_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    arguments = types.SimpleNamespace(
        output_root=str(out),
        run_id="run",
        replay_path=replay,
        split_manifest_path=replay.with_suffix(".json"),
        allow_incomplete_days=False,
    )
    started = time.perf_counter()
    module.build_feature_frame(arguments)
    print(json.dumps({"seconds": time.perf_counter() - started}))
