"""Settings of the whole suite. `pytest --hypothesis-profile=deep` looks where the usual run has not been."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings

# derandomised: a run that passes passes again, on any machine
settings.register_profile("usual", deadline=None, derandomize=True, max_examples=60, stateful_step_count=40)
settings.register_profile("brief", settings.get_profile("usual"), max_examples=15)  # for slow, checked builds
settings.register_profile("deep", settings.get_profile("usual"), derandomize=False, max_examples=2000)
settings.load_profile("usual")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden", metavar="DIR", help="folder of recorded cases to run (default: tests/golden)"
    )
    parser.addoption(
        "--histories", metavar="N", type=int, help="histories per mode for the running kernel (default: 8)"
    )
    parser.addoption(
        "--no-shrink", action="store_true", help="show a history that fails as it was found, at once"
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many recorded cases passed, by category; how many frames the running kernel agreed about."""
    histories = compared = 0
    unrepeated: list[str] = []
    passed: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for outcome in ("passed", "failed", "xfailed", "xpassed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == "histories":
                    histories += value[0]
                    compared += value[1]
                    unrepeated += value[2]
                elif name == "golden":
                    seen[str(value)] += 1
                    passed[str(value)] += outcome == "passed"
    if histories:
        terminalreporter.line(
            f"histories: {histories}, frames compared: {compared}, deadlines seen on different sides: {len(unrepeated)}"
        )
        for text in unrepeated:
            terminalreporter.line(f"  {text.partition(chr(10))[0]}")
    if seen:
        terminalreporter.section("golden cases")
        for category in sorted(seen):
            terminalreporter.line(f"{category:<20} {passed[category]:>4} of {seen[category]:>3} pass")
