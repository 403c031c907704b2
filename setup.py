"""Build every Cython module: `pip install .`; `CHECKED=1 pip install .` builds with all checks on."""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

MODULES = [
    "parse",
    "rows",
    "rib",
    "fib_trie",
    "fib",
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
    "conntrack",
    "nat",
    "neighbour",
    "context",
    "route",
    "hooks",
    "egress",
    "icmp",
    "local",
    "forward",
    "bridge",
    "arp",
    "pipeline",
]

CHECKED = os.environ.get("CHECKED") == "1"
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": CHECKED,
    "wraparound": False,
    "initializedcheck": CHECKED,
    "cdivision": True,
    "embedsignature": True,
    "freethreading_compatible": False,
}
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"]
COMPILE = ["-O1", "-g", *SANITIZERS] if CHECKED else ["-O3"]

extensions = [
    Extension(
        f"kubenet_fastpath.{name}",
        [f"kubenet_fastpath/{name}.pyx"],
        include_dirs=["kubenet_fastpath"],
        extra_compile_args=["-std=gnu11", *COMPILE],
        extra_link_args=SANITIZERS if CHECKED else [],
    )
    for name in MODULES
    if os.path.exists(f"kubenet_fastpath/{name}.pyx")
]

setup(ext_modules=cythonize(extensions, compiler_directives=DIRECTIVES, build_dir="build"))
