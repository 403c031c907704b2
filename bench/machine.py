"""What ran the benchmarks: processor, caches, kernel, compiler, Python, and the versions of everybody who took part."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import kubenet_fastpath as kf
from kubenet_fastpath import isa

PEERS = ("numpy", "numba", "pytricia", "py-radix", "pysubnettree")
CPU0 = Path("/sys/devices/system/cpu/cpu0")


def _output(*command: str) -> str | None:
    """What a command prints, or None where there is none or it fails."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None if not done.returncode else None


def _processor() -> str:
    known: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        known.setdefault(name.strip(), value.strip())
    model = known.get("model name", platform.machine())
    return f"{model}, family {known['cpu family']}" if "cpu family" in known else model


def _caches() -> dict[str, str]:
    """Size of each cache of the first processor."""
    found = {}
    for cache in sorted((CPU0 / "cache").glob("index*")):
        level, kind, size = ((cache / name).read_text().strip() for name in ("level", "type", "size"))
        found[f"L{level}{ {'Data': 'd', 'Instruction': 'i'}.get(kind, '') }"] = size
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def describe() -> dict[str, Any]:
    """The machine and what is installed; None: not there."""
    compiler = _output(os.environ.get("CC", "cc"), "--version")
    return {
        "processor": _processor(),
        "processors": len(os.sched_getaffinity(0)),
        "caches": _caches(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "compiler": compiler.splitlines()[0] if compiler else None,
        "python": platform.python_version(),
        "kubenet_fastpath": f"{_version('kubenet-fastpath') or 'not installed'}, {isa.default()}",
        "commit": _output("git", "-C", str(Path(kf.__file__).parents[1]), "rev-parse", "--short", "HEAD"),
        "dpdk": _output("pkg-config", "--modversion", "libdpdk"),
        **{name: _version(name) for name in PEERS},
    }


def sentence(machine: dict[str, Any], date: str) -> str:
    """The same in one sentence, for a reader of tables."""
    caches = ", ".join(f"{size} {name}" for name, size in machine["caches"].items() if name != "L1i")
    return (
        f"{machine['processor']}, {machine['processors']} processors ({caches}), {machine['memory_gib']} GiB, "
        f"Linux {machine['kernel']}, {machine['system']}, {machine['compiler']}, Python {machine['python']}, "
        f"numpy {machine['numpy']}; {date}"
    )
