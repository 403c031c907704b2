"""The closing table of a benchmark run: ns per packet or per key, which pytest-benchmark does not know of."""

from __future__ import annotations

UNITS = ("packet", "key")


def pytest_terminal_summary(terminalreporter, config):
    session = getattr(config, "_benchmarksession", None)
    for unit in UNITS:
        rows = [
            (bench.group, bench.name, bench.extra_info[f"ns_per_{unit}"])
            for bench in (session.benchmarks if session else ())
            if f"ns_per_{unit}" in bench.extra_info
        ]
        if rows:
            terminalreporter.section(f"ns per {unit}, median")
            for group, name, ns in sorted(rows):
                terminalreporter.line(f"{group:<40} {name:<44} {ns:>8.2f}")
