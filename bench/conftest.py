"""The closing table of a benchmark run: ns per packet, which pytest-benchmark does not know of."""

from __future__ import annotations


def pytest_terminal_summary(terminalreporter, config):
    session = getattr(config, "_benchmarksession", None)
    rows = [
        (bench.group, bench.name, bench.extra_info["ns_per_packet"])
        for bench in (session.benchmarks if session else ())
        if "ns_per_packet" in bench.extra_info
    ]
    if rows:
        terminalreporter.section("ns per packet, median")
        for group, name, ns in sorted(rows):
            terminalreporter.line(f"{group:<32} {name:<44} {ns:>8.1f}")
