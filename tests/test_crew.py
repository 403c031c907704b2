"""The threads that share a batch, alone under ThreadSanitizer: phases see each other's work."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import kubenet_fastpath

HERE = Path(__file__).parent
CSRC = Path(kubenet_fastpath.__file__).parent / "csrc"
CREWS, ROUNDS, SUMS = 3, 200, 64


def run(compiler: str, source: Path, into: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [compiler, "-fsanitize=thread", "-O1", "-g", "-pthread", *options, str(source), "-o", str(into)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        return made
    return subprocess.run([str(into)], capture_output=True, text=True, check=False)


def test_no_data_race(tmp_path: Path) -> None:
    empty = tmp_path / "empty.c"
    empty.write_text("int main(void) { return 0; }\n")
    found = [shutil.which(name) for name in ("clang", "gcc")]
    able = [
        compiler
        for compiler in found
        if compiler and run(compiler, empty, tmp_path / "empty").returncode == 0
    ]
    if not able or not CSRC.exists():
        pytest.skip("no compiler with ThreadSanitizer here" if CSRC.exists() else "crew.h is not installed")
    done = run(able[0], HERE / "crew.c", tmp_path / "crew", f"-I{CSRC}")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == CREWS * SUMS * ROUNDS * (ROUNDS + 1) // 2
