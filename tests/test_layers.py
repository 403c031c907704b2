"""Imports only point down: every module stands on a floor, and imports from lower floors alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "kubenet_fastpath"

#: From the ground up. Modules of one floor are siblings and do not know each other.
FLOORS = (
    ("errors", "verdict", "frame", "isa", "carriage", "vector", "lock", "progress", "page_style"),
    (
        "address",
        "connection",
        "timeouts",
        "scan",
        "rows",
        "lines",
        "source",
        "rib",
        "drop_reason",
        "fragment",
        "address_text",
        "reason_text",
        "address_pool",
        "extension",
    ),
    (
        "parse",
        "linktype",
        "pcap",
        "pcapng",
        "arena",
        "fdb_table",
        "reassembly",
        "tcp",
        "sctp",
        "listing",
        "ipam",
        "service",
        "service_table",
        "prefix",
        "address_source",
        "vnet",
        "load_balancer",
        "recorder",
        "aks_limit",
        "argument_type",
    ),
    ("fib_sweep", "listed"),
    (
        "batch",
        "fib_dense",
        "fib_rank",
        "fib_btree",
        "defrag",
        "flowtable",
        "multicast",
        "neighbour",
        "path_mtu",
        "node_config",
        "service_plan",
    ),
    (
        "reader",
        "fdb",
        "fragment_table",
        "tracker",
        "igmp",
        "mld",
        "nat",
        "records",
        "config",
        "azure_cni",
        "node_plan",
        "fib_engine",
        "ranges",
        "table_file",
        "route_text",
    ),
    ("capture", "columns", "snapshot", "result", "plan", "fib"),
    ("conntrack", "context", "prefix_list"),
    ("route", "route6", "lookup", "fastpath"),
    ("kubeproxy", "options", "lookahead"),
    ("hooks", "parallel"),
    ("egress", "header6"),
    ("icmp",),
    ("local", "icmp6"),
    ("forward", "options6"),
    ("bridge",),
    ("resolution",),
    ("arp", "ndisc"),
    ("local6",),
    ("forward6",),
    ("pipeline",),
    ("node",),
    ("linklayer", "readdress", "census", "lineage", "delivery", "explanation"),
    ("topology", "journey", "dump", "stage_cost"),
    ("azure_dump", "fabric"),
    ("cluster_dump",),
    ("topology_file", "redaction", "transport"),
    ("cluster",),
    ("traffic",),
    ("traffic_class", "crossing"),
    ("workload",),
    ("consumption",),
    ("comparison",),
    ("casting", "answers", "summary"),
    ("captured_flows",),
    ("replay", "report"),
    ("comparison_report",),
    ("comparison_page",),
    ("compare_command", "explain_command", "show_command"),
    ("cli",),
    ("__init__", "__main__"),
)
FLOOR = {module: number for number, floor in enumerate(FLOORS) for module in floor}
IMPORT = re.compile(r"^\s*from\s+\.(\w*)\s+c?import\s+(\([^)]*\)|[^\n]*)", re.MULTILINE)


def modules() -> set[str]:
    return {path.stem for path in PACKAGE.iterdir() if path.suffix in (".py", ".pyx", ".pxd")}


def imports_of(module: str) -> set[str]:
    """Modules of the package that a module's sources name."""
    found: set[str] = set()
    for suffix in (".py", ".pyx", ".pxd"):
        path = PACKAGE / (module + suffix)
        if path.exists():
            for name, what in IMPORT.findall(path.read_text()):
                found |= {name} if name else set(re.findall(r"\w+", what)) & modules()
    return found - {module}


def test_every_module_has_its_floor() -> None:
    assert modules() - set(FLOOR) == set()


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_point_down(module: str) -> None:
    upward = {name for name in imports_of(module) if FLOOR[name] >= FLOOR[module]}
    assert not upward, f"{module} (floor {FLOOR[module]}) imports {upward}"


def test_every_compiled_module_has_a_stub() -> None:
    assert [p.name for p in sorted(PACKAGE.glob("*.pyx")) if not p.with_suffix(".pyi").exists()] == []
