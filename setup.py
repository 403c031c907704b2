"""Build every Cython module: `pip install .`; `CHECKED=1 pip install .` builds with all checks on.

`FUZZ=1 CC=clang` adds the edge counters of libFuzzer to the checks; `tests/fuzz/run.py` does that.
"""

import glob
import os
import shlex
import subprocess
import sysconfig
import tempfile
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

MODULES = [
    "isa",
    "parse",
    "address_pool",
    "rows",
    "scan",
    "lines",
    "pcap",
    "pcapng",
    "linktype",
    "rib",
    "arena",
    "fib_dense",
    "fib_sweep",
    "fib_rank",
    "fib_btree",
    "fib_engine",
    "address_text",
    "prefix",
    "route_text",
    "ranges",
    "table_file",
    "fib",
    "vector",
    "lock",
    "fdb_table",
    "fdb",
    "fragment",
    "reassembly",
    "defrag",
    "fragment_table",
    "tcp",
    "sctp",
    "flowtable",
    "tracker",
    "columns",
    "records",
    "snapshot",
    "conntrack",
    "nat",
    "multicast",
    "igmp",
    "mld",
    "neighbour",
    "path_mtu",
    "service_table",
    "recorder",
    "context",
    "route",
    "route6",
    "options",
    "kubeproxy",
    "hooks",
    "header6",
    "egress",
    "icmp",
    "icmp6",
    "options6",
    "local",
    "forward",
    "bridge",
    "resolution",
    "arp",
    "ndisc",
    "local6",
    "forward6",
    "fastpath",
    "lookahead",
    "parallel",
    "pipeline",
    "readdress",
    "linklayer",
]

FUZZ = os.environ.get("FUZZ") == "1"
CHECKED = os.environ.get("CHECKED") == "1" or FUZZ
BUILD = (
    "build/fuzz" if FUZZ else "build/checked" if CHECKED else "build/release"
)  # apart: timestamps alone decide what is built anew
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": CHECKED,
    "wraparound": False,
    "initializedcheck": CHECKED,
    "cdivision": True,
    "embedsignature": True,
    "freethreading_compatible": False,
}


def sanitizers() -> list[str]:
    """Return the flags of AddressSanitizer and UBSan, as far as this compiler has them."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text("int probe(int x) { return x + 1; }\n")

        def has(flag: str) -> bool:
            command = [*compiler, flag, "-shared", "-fPIC", str(source), "-o", f"{folder}/probe.so"]
            return subprocess.run(command, capture_output=True, check=False).returncode == 0

        flags = [flag for flag in ("-fsanitize=address", "-fsanitize=undefined") if has(flag)]
    return [*flags, "-fno-sanitize-recover=all"] if flags else []


SANITIZERS = sanitizers() if CHECKED else []
if FUZZ:
    SANITIZERS.append("-fsanitize=fuzzer-no-link")
COMPILE = ["-O1", "-g", "-fno-omit-frame-pointer"] if CHECKED else ["-O3", "-g0"]
# One module has Cython's memoryview code for all: it took two thirds of the build when each had its own.
SHARED = "kubenet_fastpath._cyutility"


def extension(name: str, source: str) -> Extension:
    return Extension(
        name,
        [source],
        depends=sorted(glob.glob("kubenet_fastpath/csrc/*.h")),  # copied beside the generated C, and watched
        include_dirs=["kubenet_fastpath", numpy.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        extra_compile_args=["-std=gnu11", *COMPILE, *SANITIZERS],
        extra_link_args=SANITIZERS,
    )


if __name__ == "__main__":  # cythonize may import this file in its workers
    setup(
        ext_modules=cythonize(
            [
                extension(SHARED, "kubenet_fastpath/_cyutility.c"),
                *(extension(f"kubenet_fastpath.{name}", f"kubenet_fastpath/{name}.pyx") for name in MODULES),
            ],
            compiler_directives=DIRECTIVES,
            build_dir=BUILD,
            nthreads=os.cpu_count(),
            shared_utility_qualified_name=SHARED,
        ),
        options={
            "build": {"build_base": BUILD},
            "build_ext": {"parallel": os.cpu_count(), "force": CHECKED and not FUZZ},
        },
    )
