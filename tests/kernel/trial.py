"""Histories drawn and run beside the kernel, as both tests of them do it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis import strategies as st

ALIKE = 10  #: examples after which Hypothesis mostly varies those that it had (its health check is over then)


def hold(
    run: Callable[[Any, list[Any], Callable[[int], None]], None],
    tries: Callable[[Any, list[Any]], int],
    variants: st.SearchStrategy[Any],
    histories: st.SearchStrategy[list[Any]],
    config: pytest.Config,
    record: Callable[[str, object], None],
) -> None:
    """As many histories as `--histories` says, each new; the same ones each time, or those of `--hypothesis-seed`.

    Parameters
    ----------
    run : callable
        (variant, history, count): both nodes, compared. `count` is told how many frames went in.
    tries : callable
        How often a history that differs runs: a deadline that two clocks saw on different sides is another time not.
    variants, histories : strategy
    config, record
        pytest's; the property `histories` is (histories, frames, differences that did not come back).
    """
    made = compared = 0
    unrepeated: list[str] = []

    def count(n: int) -> None:
        nonlocal compared
        compared += n

    def check(variant: Any, history: list[Any]) -> None:
        nonlocal made
        made += 1
        for left in reversed(range(tries(variant, history))):
            try:
                run(variant, history, count)
                return
            except AssertionError as error:
                if left == 0:
                    raise
                note("once more")
                unrepeated.append(str(error))

    wanted = config.getoption("--histories") or 8
    shrink = () if config.getoption("--no-shrink") else (Phase.shrink,)
    begin = config.getoption("--hypothesis-seed", None)
    try:
        for first in range(0, wanted, ALIKE):
            rules = settings(
                max_examples=min(ALIKE, wanted - first),
                deadline=None,
                database=None,
                derandomize=False,
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
                phases=(Phase.generate, *shrink),
            )
            seed(f"{begin} {first}")(rules(given(variant=variants, history=histories)(check)))()
    finally:
        record("histories", (made, compared, unrepeated))
