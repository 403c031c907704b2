"""The benchmarks with their peers: measure parts, keep the results, write the README's tables and plots from them."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path

from .absent import Absent
from .catalogue import PARTS
from .machine import sentence
from .part import Part, Settings
from .progress import Line
from .report import Table, fill, mark
from .results import Results

HERE = Path(__file__).resolve().parent
RESULTS, PLOTS = HERE / "results" / "results.json", HERE / "plots"
DOCUMENTS = (HERE.parent / "README.md", HERE / "README.md")
EXAMPLES = """
PART may name slices: `growth:routes,macs`. Examples:
  python -m bench                     everything, a quarter of an hour; root for the kernel beside it
  python -m bench --quick             everything smaller and shorter, to see that it runs
  python -m bench node modes:1000     two parts, one of them for 1,000 flows only
  python -m bench --readme            everything, and the tables and plots of README.md from it
  python -m bench --saved --readme    the tables and plots again from the results that are there
"""


def chosen(words: list[str], quick: bool) -> list[tuple[Part, tuple[str, ...]]]:
    """Parts and slices by what was said on the command line.

    Raises
    ------
    ValueError
        For a part or slice that there is not.
    """
    if not words:
        words = list(PARTS)
    found = []
    for word in words:
        name, _, rest = word.partition(":")
        if name not in PARTS:
            raise ValueError(f"there is no part {name!r}; there are {', '.join(PARTS)}")
        part = PARTS[name]
        usual = part.quick if quick and part.quick is not None else part.slices
        slices = tuple(rest.split(",")) if rest else usual
        for one in slices:
            if one not in part.slices:
                raise ValueError(f"{name} has no slice {one!r}; it has {', '.join(part.slices)}")
        found.append((part, slices))
    return found


def measure(part: Part, slices: tuple[str, ...], settings: Settings, results: Results, command: str) -> None:
    """Measure slices of a part into the results; who is absent is kept with the reason."""
    say = Line()
    for one in slices:
        say(f"{part.name}: {one}")
        began = time.monotonic()
        try:
            data = part.measure(one, settings, lambda text, one=one: say(f"{part.name} {one}: {text}"))
            absent = data.pop("absent", [])
        except Absent as reason:
            data, absent = {}, [str(reason)]
        say()
        results.add(part.name, one, data, absent, began, command)


def tables_of(part: Part, results: Results) -> list[Table]:
    """The tables of what a part has; slices that could not be measured are left out."""
    data = {name: found for name, found in results.data(part.name).items() if found}
    ordered = {name: data[name] for name in part.slices if name in data}
    return part.tables(ordered) if ordered else []


def publish(results: Results) -> list[str]:
    """Write tables between their markers, and plots; a line for each file, and the names that no document has."""
    pieces = [("machine", sentence(results.machine, results.date()))] if results.machine else []
    for part in PARTS.values():
        pieces += [(table.name, table.markdown()) for table in tables_of(part, results)]
    said, placed = [], set()
    for document in DOCUMENTS:
        names = fill(document, pieces) if document.exists() else []
        placed |= set(names)
        said.append(f"{document.name}: {', '.join(names) or 'no markers'}")
    for part in PARTS.values():
        data = {name: found for name, found in results.data(part.name).items() if found}
        try:
            for plot in (
                part.plots({name: data[name] for name in part.slices if name in data}) if data else ()
            ):
                said.append(f"plots/{plot.save(PLOTS).name}")
        except ImportError as error:
            said.append(f"no plots: {error}; pip install '.[bench]'")
            break
    for name, markdown in pieces:
        if name not in placed:
            said.append("\n".join(["", mark(name)[0], markdown, mark(name)[1]]))
    return said


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=(__doc__ or "").strip(),
        epilog="\n".join(
            [
                EXAMPLES,
                "Parts, and their slices:",
                *(f"  {p.name:9}{p.about}; {', '.join(p.slices)}" for p in PARTS.values()),
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART[:SLICE,...]")
    parser.add_argument(
        "--quick", action="store_true", help="few rounds, small sizes; into results of its own"
    )
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="print all results instead of tables")
    parser.add_argument(
        "--saved", action="store_true", help="measure nothing: take the results that are there"
    )
    parser.add_argument(
        "--readme", action="store_true", help="write README.md's tables and the plots from the results"
    )
    parser.add_argument(
        "--routes", type=Path, metavar="FILE", help="prefixes of a full table, one a line, .gz or not"
    )
    where = RESULTS.relative_to(HERE.parent)
    parser.add_argument("-o", "--results", type=Path, metavar="FILE", help=f"{where} if omitted")
    given = parser.parse_args(arguments)
    settings = Settings(given.quick, given.tiny, given.routes)
    usual = RESULTS.with_stem("quick") if given.quick or given.tiny else RESULTS
    words = sys.argv[1:] if arguments is None else arguments
    if given.routes:  # by its name: where it lies is nobody's business
        words = [word.replace(str(given.routes), given.routes.name) for word in words]
    command = shlex.join(["python", "-m", "bench", *words])
    try:
        work = chosen(given.parts, given.quick)
        results = Results(given.results or usual)
        if given.readme and usual != RESULTS:
            raise ValueError("a quick run's figures are none to quote: --readme without --quick")
        for part, slices in work:
            if not given.saved:
                measure(part, slices, settings, results, command)
            if not given.json and not (given.saved and given.readme):
                for table in tables_of(part, results):
                    print(f"\n{table.text()}")
                for reason in results.absent(part.name):
                    print(f"absent: {reason}")
        if given.json:
            print(json.dumps({"machine": results.machine, "parts": results.parts}, indent=1))
        if given.readme:
            print("\n".join(publish(results)))
    except (ValueError, OSError) as error:
        print(f"bench: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
