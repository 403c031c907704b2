"""A long soak: histories of every mode beside the running kernel, in several processes, until there are enough.

    python tests/kernel/soak.py --histories 1000 --seed 1

Each process runs `test_soak.py` for one mode and one seed, `BATCH` histories; a history mostly waits for the kernel, so
more of them than there are CPUs run at once. Seeds go up from the one given, so `--seed` and `--histories` say all that
is needed to run the same again: `pytest tests/kernel -k MODE --histories BATCH --hypothesis-seed SEED` runs one batch.
`--seconds` ends it early. What failed is in `build/soak`. Exit code 1: the nodes differed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "soak"
MODES = ("kubenet", "azcni", "overlay", "podsubnet")
BATCH = 10
TOTALS = re.compile(r"histories: (\d+), frames compared: (\d+), deadlines seen on different sides: (\d+)")


def command(mode: str, seed: int, histories: int, python: str = sys.executable) -> list[str]:
    """A batch."""
    return [
        *(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-shrink"),
        *("--histories", str(histories), "--hypothesis-seed", str(seed), "-k", f"test_histories[{mode}]"),
        str(ROOT / "tests" / "kernel" / "test_soak.py"),
    ]


def main() -> int:
    """Run batches; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--histories", type=int, default=1000, metavar="N", help="in all (default: 1000)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the first batches")
    parser.add_argument("--seconds", type=float, default=1e9, metavar="N", help="begin no batch after these")
    parser.add_argument("--processes", type=int, default=3 * (os.cpu_count() or 1), metavar="N")
    given = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    began, planned, failed = time.monotonic(), 0, 0
    histories = frames = late = 0
    batches = ((seed, mode) for seed in itertools.count(given.seed) for mode in MODES)
    running: list[tuple[subprocess.Popen[bytes], Path, str]] = []
    seed = given.seed
    while True:
        while len(running) < given.processes and planned < given.histories:
            if time.monotonic() - began > given.seconds:
                planned = given.histories
                break
            seed, mode = next(batches)
            log = FOLDER / f"{mode}-{seed}.txt"
            with log.open("wb") as out:
                process = subprocess.Popen(
                    command(mode, seed, BATCH), stdout=out, stderr=subprocess.STDOUT, cwd=ROOT
                )
            running.append((process, log, f"{mode}, seed {seed}"))
            planned += BATCH
        if not running:
            break
        for entry in running[:]:
            process, log, name = entry
            if process.poll() is None:
                continue
            running.remove(entry)
            text = log.read_text(errors="replace")
            if match := TOTALS.search(text):
                histories += int(match[1])
                frames += int(match[2])
                late += int(match[3])
            if process.returncode:
                failed += 1
                print(f"{name}: failed, see {log.relative_to(ROOT)}", flush=True)
            else:
                log.unlink()
            print(f"{name}: {histories:,} histories, {frames:,} frames so far", flush=True)
        time.sleep(0.1)
    print(
        f"seeds {given.seed} to {seed}: {histories:,} histories, {frames:,} frames, {failed} batches differed, "
        f"{late} deadlines seen on different sides, {time.monotonic() - began:.0f} s"
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
