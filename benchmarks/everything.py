"""Every comparison, one after the other, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from report import Row, options_from, rows_from, show_and_write

HERE = Path(__file__).parent
RESULTS = HERE.parent / "docs" / "results" / "benchmarks.json"
SCRIPTS = ("answering.py", "meta_training.py", "second_order.py", "adapting.py", "writing.py", "heads.py")


def main() -> None:
    """Runs them, prints one table and, except where the run is quick, writes `docs/results/benchmarks.json`."""
    options = options_from(description=__doc__)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for script in SCRIPTS:
            out = Path(folder, script).with_suffix(".json")
            flags = ["--threads", str(options.threads), "--out", str(out), *(["--quick"] if options.quick else [])]
            environment = {**os.environ, "OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}
            subprocess.run([sys.executable, str(HERE / script), *flags], check=True, env=environment)
            rows += rows_from(out)
    target = options.out or (None if options.quick else RESULTS)
    show_and_write(rows, type(options)(options.quick, options.threads, target))


if __name__ == "__main__":
    main()
