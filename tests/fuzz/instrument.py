"""The package with libFuzzer's edge counters, AddressSanitizer and UBSan, and the runtime that goes ahead of Python.

libFuzzer comes as a library of clang's; linked into one shared object of its own and loaded before AddressSanitizer's,
it gets the counters of modules that Python loads later. So any python will do, without being built anew.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "fuzz"
HERE = Path(__file__).parent


class Absent(Exception):
    """Something that fuzzing needs is not on this machine; the text says what, and what to do."""


def library(name: str) -> Path:
    """A library of clang's sanitizers.

    Raises
    ------
    Absent
    """
    if not shutil.which("clang"):
        raise Absent(
            "clang is not installed: apt-get install clang libclang-rt-14-dev, or of another version"
        )
    for file in (
        f"libclang_rt.{name}",
        f"libclang_rt.{name.partition('.')[0]}-{platform.machine()}.{name.partition('.')[2]}",
    ):
        found = subprocess.run(
            ["clang", f"-print-file-name={file}"], capture_output=True, text=True, check=True
        )
        path = Path(found.stdout.strip())
        if path.is_absolute() and path.exists():
            return path
    raise Absent(
        f"this clang has no libclang_rt.{name}: apt-get install libclang-rt-14-dev, or that of your version"
    )


def build() -> dict[str, str]:
    """Build what has changed; returns the environment of `worker.py`.

    Raises
    ------
    Absent
        When clang, its sanitizers, or what the build and the tests need are not installed.
    CalledProcessError
        When the package does not compile.
    """
    fuzzer, asan = library("fuzzer_no_main.a"), library("asan.so")
    for name in ("Cython", "setuptools", "numpy", "hypothesis", "pytest"):
        if not importlib.util.find_spec(name):
            raise Absent(f"{name} is not installed: pip install Cython setuptools '.[test]'")
    BUILD.mkdir(parents=True, exist_ok=True)
    runtime = BUILD / "runtime.so"
    whole = [
        "-Wl,--whole-archive",
        str(fuzzer),
        "-Wl,--no-whole-archive",
        "-lstdc++",
        "-lpthread",
        "-lm",
        "-ldl",
    ]
    subprocess.run(
        ["clang", "-shared", "-fPIC", "-o", str(runtime), str(HERE / "counters.c"), *whole], check=True
    )
    plain = {
        name: value for name, value in os.environ.items() if name not in ("CHECKED", "PYTHONPATH", "CFLAGS")
    }
    package = BUILD / f"lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
    command = [sys.executable, "setup.py", "-q", "build", "--build-lib", str(package)]
    made = subprocess.run(
        command,
        cwd=ROOT,
        env=plain | {"FUZZ": "1", "CC": "clang"},
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise subprocess.CalledProcessError(
            made.returncode, command, stderr=made.stdout[-3000:] + made.stderr[-3000:]
        )
    return plain | {
        "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0:allocator_may_return_null=1:handle_abort=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "LD_PRELOAD": f"{runtime} {asan}",
        "KF_FUZZ_RUNTIME": str(runtime),
        "PYTHONMALLOC": "malloc",  # Python's own would hide what lies beside an array
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": f"{package}{os.pathsep}{HERE.parent}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
