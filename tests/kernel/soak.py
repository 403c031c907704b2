"""A long soak: histories of every mode beside the running kernel, in several processes, until there are enough.

    python tests/kernel/soak.py --histories 1000 --seed 1

Each process runs `test_soak.py`, or of dual-stack nodes `test_dual_stack.py`, for one mode and one seed, `BATCH`
histories; a history mostly waits for the kernel, so more of them than there are CPUs run at once. Seeds go up from the
one given, so `--seed` and `--histories` say all that is needed to run the same again; one batch is
`pytest tests/kernel/FILE -k "TEST[MODE]" --histories BATCH --hypothesis-seed SEED --no-shrink`.

`--seconds` ends it early, and `--resume` goes on with what a soak of the same seed has left: batches that are through
are not run again, and their time counts. What failed is in `build/soak`. Exit code 1: the nodes differed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "soak"
KERNEL = ROOT / "tests" / "kernel"
# Name of a mode: (file, test).
MODES = {
    "kubenet": ("test_soak.py", "test_histories[kubenet]"),
    "azcni": ("test_soak.py", "test_histories[azcni]"),
    "overlay": ("test_soak.py", "test_histories[overlay]"),
    "podsubnet": ("test_soak.py", "test_histories[podsubnet]"),
    "kubenet dual": ("test_dual_stack.py", "test_dual_stack[kubenet]"),
    "overlay dual": ("test_dual_stack.py", "test_dual_stack[overlay]"),
}
BATCH = 10
TOTALS = re.compile(r"histories: (\d+), frames compared: (\d+), deadlines seen on different sides: (\d+)")


def command(mode: str, seed: int, histories: int, python: str = sys.executable) -> list[str]:
    """A batch."""
    file, test = MODES[mode]
    return [
        *(python, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-shrink"),
        *("--histories", str(histories), "--hypothesis-seed", str(seed)),
        f"{KERNEL / file}::{test}",
    ]


class Soak:
    """Batches that run and that are through; those are kept in a file, one JSON object a line."""

    def __init__(self, seed: int, histories: int, *, resume: bool) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        self.file = FOLDER / f"seed-{seed}.jsonl"
        if not resume:
            self.file.unlink(missing_ok=True)
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        kept = [json.loads(line) for line in lines]
        self.earlier_s: float = sum(line.get("took_s", 0) for line in kept)
        self.done = [line for line in kept if "mode" in line]
        through = {(line["mode"], line["seed"]) for line in self.done}
        every = ((mode, each) for each in itertools.count(seed) for mode in MODES)
        planned = itertools.islice(every, -(-histories // BATCH))
        self.left = [batch for batch in planned if batch not in through]
        self.running: list[tuple[subprocess.Popen[bytes], Path, str, int]] = []
        self.began = time.monotonic()

    def note(self, line: dict[str, Any]) -> None:
        with self.file.open("a") as out:
            out.write(json.dumps(line) + "\n")

    def begin(self) -> None:
        """Run the next batch."""
        mode, seed = self.left.pop(0)
        log = FOLDER / f"{mode.replace(' ', '-')}-{seed}.txt"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command(mode, seed, BATCH), stdout=out, stderr=subprocess.STDOUT, cwd=ROOT
            )
        self.running.append((process, log, mode, seed))

    def reap(self) -> None:
        """Note those that have ended."""
        for entry in self.running[:]:
            process, log, mode, seed = entry
            if process.poll() is None:
                continue
            self.running.remove(entry)
            said = log.read_text(errors="replace")
            match = TOTALS.search(said)
            histories, frames, late = map(int, match.groups()) if match else (0, 0, 0)
            unrepeated = re.findall(r"^  (after .*)", said[match.end() :], re.M) if match else []
            line = {"mode": mode, "seed": seed, "histories": histories, "frames": frames, "late": late}
            line |= {"unrepeated": unrepeated, "differed": process.returncode != 0}
            self.done.append(line)
            self.note(line)
            if process.returncode:
                print(
                    f"{mode}, seed {seed}: failed, see {log.relative_to(ROOT)}", file=sys.stderr, flush=True
                )
            else:
                log.unlink()

    def run(self, processes: int, seconds: float) -> None:
        """All batches, or those that begin within so many seconds."""
        told = 0
        while True:
            while self.left and len(self.running) < processes and time.monotonic() - self.began < seconds:
                self.begin()
            if not self.running:
                break
            self.reap()
            if len(self.done) != told and sys.stderr.isatty():
                told = len(self.done)
                print(f"\r{self.total('histories'):,} histories, {self.total('frames'):,} frames", end="",
                      file=sys.stderr, flush=True)  # fmt: skip
            time.sleep(0.1)
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr)
        self.note({"took_s": time.monotonic() - self.began})

    def total(self, what: str, mode: str | None = None) -> int:
        return sum(int(line[what]) for line in self.done if mode in (None, line["mode"]))

    def summary(self) -> dict[str, Any]:
        """What there is to say, for programs."""
        columns = ("histories", "frames", "differed", "late")
        modes = {mode: {what: self.total(what, mode) for what in columns} for mode in MODES}
        return {
            "seeds": [min(line["seed"] for line in self.done), max(line["seed"] for line in self.done)],
            "seconds": round(self.earlier_s + time.monotonic() - self.began, 1),
            "batches_left": len(self.left),
            "modes": modes,
            "all": {what: self.total(what) for what in columns},
        }


def table(summary: dict[str, Any]) -> str:
    """The same, for people."""
    rows = [("mode", "histories", "frames", "batches that differed", "deadlines on different sides")]
    for name, row in (*summary["modes"].items(), ("all", summary["all"])):
        rows.append((name, *(f"{row[what]:,}" for what in ("histories", "frames", "differed", "late"))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    first, last = summary["seeds"]
    lines.append(f"\nseeds {first} to {last}, {summary['seconds']:,.0f} s")
    if summary["batches_left"]:
        lines.append(f"{summary['batches_left']} batches are left: --resume runs them")
    return "\n".join(lines)


def main() -> int:
    """Run batches; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--histories", type=int, default=1000, metavar="N", help="in all (default: 1000)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the first batches (default: 1)")
    parser.add_argument("--seconds", type=float, default=1e9, metavar="N", help="begin no batch after these")
    parser.add_argument("--resume", action="store_true", help="run what a soak of this seed has left")
    parser.add_argument("--processes", type=int, default=3 * (os.cpu_count() or 1), metavar="N")
    parser.add_argument("--json", action="store_true", help="one JSON object, and nothing else")
    given = parser.parse_args()
    for name in ("histories", "processes"):
        if getattr(given, name) < 1:
            parser.error(f"--{name} {getattr(given, name)} is not above 0")
    soak = Soak(given.seed, given.histories, resume=given.resume)
    soak.run(given.processes, given.seconds)
    if not soak.done:
        parser.error("no batch ran: --seconds leaves no time")
    summary = soak.summary()
    print(json.dumps(summary) if given.json else table(summary))
    return int(summary["all"]["differed"] > 0)


if __name__ == "__main__":
    sys.exit(main())
