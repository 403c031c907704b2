"""What the recorder of `explain` costs while nobody asks: the package beside itself without it.

    python -m bench.recorder [--flows N] [--rounds N] [--json] [--keep FOLDER]

The sources are copied and built a second time with every test of the recorder's pointer taken out. Two processes, one
with each package, forward the same 65,536 frames in turns, round by round; established flows with and without the fast
path, batches of 256, ns of CPU time a packet, medians, and the median of the ratios of one round. A third process is
this package again, so that a reader sees how far two equal ones are apart. Needs a C compiler.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path as File
from statistics import median

ROOT = File(__file__).resolve().parent.parent
TEST = re.compile(r"(?:unlikely\()?node\.recorder != NULL\)?")
CLASSES = ("SAME_NODE", "OTHER_NODE", "INTERNET")
BATCH = 256
WITH, WITHOUT, AGAIN = "with", "without", "again"


def without_recorder(folder: File) -> File:
    """A copy of the sources in which nothing looks whether there is a recorder, built."""
    target = folder / "package"
    if not target.exists():
        ignore = shutil.ignore_patterns("*.so", "*.c", "*.cpp", "__pycache__", "build")
        shutil.copytree(ROOT / "kubenet_fastpath", target / "kubenet_fastpath", ignore=ignore)
        for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, target / name)
        taken = 0
        for source in (target / "kubenet_fastpath").glob("*.p[xy][xdi]*"):
            text = source.read_text()
            text, n = TEST.subn("False", text)
            taken += n
            source.write_text(text)
        assert taken >= 3, f"{taken} tests of the recorder found"
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=target,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return target


def serve(flows: int, package: File) -> None:
    """Forward a trace for each line of standard input: a class and whether the fast path is on; answer ns a packet."""
    import kubenet_fastpath
    from bench.traces import Path, Trace

    assert File(kubenet_fastpath.__file__).is_relative_to(package), kubenet_fastpath.__file__
    traces: dict[str, Trace] = {}
    for line in sys.stdin:
        name, fast = line.split()
        if name not in traces:
            traces[name] = Trace.make(Path[name], flows, BATCH)
            traces[name].check()
        trace = traces[name]
        trace.node._pipeline.fast_path = fast == "1"
        trace.restore()
        began = time.thread_time_ns()
        trace.run()
        print((time.thread_time_ns() - began) / trace.packets, flush=True)


class Side:
    """A process with one of the packages."""

    def __init__(self, package: File, flows: int) -> None:
        words = ["--serve", str(package), "--flows", str(flows)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.recorder", *words],
            cwd=package,  # whose package comes first
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def round(self, name: str, fast: bool) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{name} {int(fast)}\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--flows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=File, help="folder for the second build, used again if it is there")
    parser.add_argument("--serve", type=File, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.flows, given.serve)
        return
    with tempfile.TemporaryDirectory() as folder:
        other = without_recorder((given.keep or File(folder)).resolve())
        sides = {
            WITH: Side(ROOT, given.flows),
            WITHOUT: Side(other, given.flows),
            AGAIN: Side(ROOT, given.flows),
        }
        found: dict[str, dict[str, float]] = {}
        took: dict[tuple[str, bool], dict[str, list[float]]] = {}
        for number in range(given.rounds + 1):
            for key in ((name, fast) for name in CLASSES for fast in (True, False)):
                order = list(sides.items())
                for side, process in order[number % 3 :] + order[: number % 3]:
                    ns = process.round(*key)
                    if number:
                        took.setdefault(key, {}).setdefault(side, []).append(ns)
        for side in sides.values():
            side.close()
    for (name, fast), rows in took.items():
        label = f"{name.lower().replace('_', ' ')}, {'fast path' if fast else 'all stages'}"
        pairs = list(zip(*(rows[side] for side in (WITH, WITHOUT, AGAIN)), strict=True))
        found[label] = {
            "with_ns": median(rows[WITH]),
            "without_ns": median(rows[WITHOUT]),
            "with_over_without": median(a / b for a, b, _ in pairs),
            "with_over_itself": median(a / c for a, _, c in pairs),
        }
    if given.json:
        print(json.dumps(found, indent=2))
        return
    print(
        f"ns a packet, established, {given.flows:,} flows, batches of {BATCH}, {given.rounds} rounds in turns"
    )
    print(f"{'':26}{'recorder off':>14}{'built without':>15}{'ratio':>8}{'two equal builds':>18}")
    for label, row in found.items():
        print(
            f"{label:26}{row['with_ns']:>14.1f}{row['without_ns']:>15.1f}{row['with_over_without']:>8.3f}"
            f"{row['with_over_itself']:>18.3f}"
        )


if __name__ == "__main__":
    main()
