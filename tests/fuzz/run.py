"""Fuzz one target, or all: `python tests/fuzz/run.py node --seconds 600`.

The package is built by clang with edge counters, AddressSanitizer and UBSan into `build/fuzz`; new inputs stay there,
and the next run begins with them. `--keep` puts the fewest that reach as many edges into `tests/fuzz/corpus`. A finding
is an input, written to `build/fuzz/findings`; given behind the target, such files are run again, alone.

Exit code 0: clean, or skipped, for clang is absent. 1: a finding. 2: a wrong call.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz import corpus, instrument

TARGETS = ("frames", "node", "captures", "images", "pickles", "topologies", "addresses")
WORKER = Path(__file__).parent / "worker.py"
STATUS = re.compile(r"^#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+) corp: (\d+)")
LOADED = re.compile(r"Loaded \d+ modules\s+\((\d+) inline")
UNIT = re.compile(r"Test unit written to (\S+)")
BEGINS = re.compile(
    r"Traceback|ERROR: |runtime error:|ALARM|out-of-memory"
)  # of what is said about a finding
OURS = re.compile(
    r"^(?!\s+#\d+ .*(Python-|/Python/|libffi|fuzzer::|libc|python3)).*$"
)  # no frame of what calls it
# Seconds are the wall's: a machine that stands still for a while is no finding, and nothing that is slow alone.
OPTIONS = [
    "-rss_limit_mb=3000",
    "-timeout=300",
    "-report_slow_units=300",
    "-print_final_stats=1",
    "-use_value_profile=0",
]


def fuzz(
    target: str, seconds: int, files: list[str], environment: dict[str, str], quiet: bool
) -> dict[str, Any]:
    """Run libFuzzer once; returns what it says of it."""
    findings, inputs = instrument.BUILD / "findings", instrument.BUILD / "corpus" / target
    findings.mkdir(exist_ok=True)
    inputs.mkdir(parents=True, exist_ok=True)
    for name, content in corpus.inputs(target).items():
        (inputs / name).write_bytes(content)
    limit = [] if files else [f"-max_total_time={seconds}"]
    report: dict[str, Any] = {
        "target": target,
        "seconds": seconds,
        "executions": 0,
        "edges": 0,
        "features": 0,
    }
    said: list[str] = []
    command = [
        sys.executable,
        str(WORKER),
        target,
        str(inputs),
        *OPTIONS,
        *limit,
        f"-artifact_prefix={findings}/{target}-",
    ]
    with subprocess.Popen(
        [*command, *(files or [str(inputs)])],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=instrument.ROOT,
    ) as process:
        for line in process.stderr or ():
            if (said or BEGINS.search(line)) and OURS.match(line) and len(said) < 40:
                said.append(line)
            if loaded := LOADED.search(line):
                report["edges_of"] = int(loaded[1])
            if status := STATUS.match(line):
                names = ("executions", "edges", "features", "inputs")
                report |= dict(zip(names, map(int, status.groups()), strict=True))
                if (
                    not quiet
                    and (" pulse " in line or "NEW" in line or "DONE" in line)
                    and sys.stderr.isatty()
                ):
                    print(f"\r{target}: {summary(report)}", end="", file=sys.stderr, flush=True)
            if unit := UNIT.search(line):
                report["finding"] = unit[1]
    report["inputs_bytes"] = sum(path.stat().st_size for path in inputs.iterdir())
    if process.returncode:
        report.setdefault("finding", f"libFuzzer ended with {process.returncode}")
        report["log"] = "".join(said)
    return report


def keep(target: str, environment: dict[str, str]) -> int:
    """Put the fewest inputs that reach as many edges into the corpus; returns the bytes of its archive."""
    source, fewest = instrument.BUILD / "corpus" / target, instrument.BUILD / "fewest" / target
    shutil.rmtree(fewest, ignore_errors=True)
    fewest.mkdir(parents=True)
    command = [
        sys.executable,
        str(WORKER),
        target,
        str(source),
        "-merge=1",
        "-use_counters=0",
        "-rss_limit_mb=3000",
    ]
    subprocess.run(
        [*command, str(fewest), str(source)], env=environment, check=True, stderr=subprocess.DEVNULL
    )
    return corpus.keep(target, (path.read_bytes() for path in fewest.iterdir()))


def summary(report: dict[str, Any]) -> str:
    return (
        f"{report['executions']:,} executions, {report['edges']:,} of {report.get('edges_of', 0):,} edges, "
        f"{report['features']:,} features, {report.get('inputs', 0):,} inputs"
    )


def main() -> int:
    """Parse arguments and run; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("file", nargs="*", help="inputs to run once instead")
    parser.add_argument("--seconds", type=int, default=60, metavar="N", help="of each target (default: 60)")
    parser.add_argument("--keep", action="store_true", help="minimise what was found into tests/fuzz/corpus")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object for each target, and nothing else"
    )
    given = parser.parse_args()
    targets = TARGETS if given.target == "all" else (given.target,)
    if given.seconds < 1:
        parser.error(f"--seconds {given.seconds} is not above 0")
    if missing := [file for file in given.file if not Path(file).is_file()]:
        parser.error(f"no file {missing[0]}")
    if given.file and len(targets) > 1:
        parser.error("files go with one target")
    try:
        environment = instrument.build()
    except instrument.Absent as reason:
        print(json.dumps({"skipped": str(reason)}) if given.json else f"skipped: {reason}")
        return 0
    except subprocess.CalledProcessError as error:
        print(f"the package does not compile with clang:\n{error.stderr}", file=sys.stderr)
        return 2
    failed = False
    files = [str(Path(file).resolve()) for file in given.file]
    for target in targets:
        report = fuzz(target, given.seconds, files, environment, given.json)
        failed |= "finding" in report
        if given.keep and "finding" not in report:
            report["kept_bytes"] = keep(target, environment)
        if given.json:
            print(json.dumps(report), flush=True)
            continue
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr)
        print(f"{target}: {summary(report)}", flush=True)
        if "finding" in report:
            print(f"{report.get('log', '')}\nfinding: {report['finding']}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
