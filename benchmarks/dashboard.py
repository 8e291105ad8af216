"""How fast the dashboard is over a large store, in a real browser, and what it costs to keep it.

python benchmarks/dashboard.py [--only PART] [--sweeps 40] [--loads 1000] [--keep FOLDER]

Needs Chromium (make system-packages). --keep leaves the stores there, and uses those that exist.
A load of the memory part is what a browser asks for on a visit, sent over HTTP; one in fifty is a
real browser's. Most visits are to eight sweeps, one in twenty to the others; before the counting
starts, a hundred loads have shown every sweep once, so that all that may be kept is kept.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.large_store import Size, fill, sweep_name  # noqa: E402
from sqlalchemy import event  # noqa: E402

from bitsweep.store.database import open_to_read, open_to_write  # noqa: E402
from bitsweep.store.pulse import pulse  # noqa: E402
from bitsweep.store.reader import Reader  # noqa: E402

CHROMIUM = "/usr/bin/chromium"
TEN_THOUSAND = Size(sweeps=1, searched_per_arm=1_980, confirmed_per_arm=20)
LIMITS = {
    "first_page_seconds": 1.5,
    "picker_change_seconds": 0.5,
    "next_hundred_of_10000_trials_seconds": 0.5,
    "live_update_statements": 1.0,
    "live_update_milliseconds": 10.0,
    "memory_growth_megabytes": 20.0,
}
_REFRESH = (
    '..pages.children...page.children...{"piece":["ALL"]}.children'
    "...title.data...shown.data...clock.children.."
)
_WARM_LOADS = 100
_ONE_IN_BROWSER = 50
_ONE_ELSEWHERE = 20
_POPULAR = 8
PARTS = ("live", "speed", "memory")
_WAIT_MILLISECONDS = 60_000


def filled(path: Path, size: Size) -> str:
    """The address of a store of this size, made if there is none."""
    if not path.exists():
        begin = perf_counter()
        engine = open_to_write(str(path))
        fill(engine, size)
        engine.dispose()
        print(f"{path.name}: {size.trials:,} trials in {perf_counter() - begin:.1f} s", flush=True)
    return str(path)


@contextmanager
def serving(store: str) -> Iterator[tuple[str, int]]:
    """The dashboard as its command starts it; its address and process."""
    command = [sys.executable, "-m", "bitsweep_dashboards.app", "--store", store, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, f"the dashboard said {line!r}"
        try:
            yield found[0].rstrip("/"), process.pid
        finally:
            process.terminate()


def first_page(browser: Any, address: str) -> float:
    """Seconds until a browser that knows nothing shows the sweeps; the median of five."""
    taken = []
    for _ in range(5):
        context = browser.new_context()
        page = context.new_page()
        begin = perf_counter()
        page.goto(f"{address}/")
        page.wait_for_selector("ul.sweeps a.name", timeout=_WAIT_MILLISECONDS)
        taken.append(perf_counter() - begin)
        context.close()
    print(f"first page: {', '.join(f'{one:.2f}' for one in taken)} s", flush=True)
    return median(taken)


def picker_change(browser: Any, address: str) -> float:
    """Seconds from a click on bits until the table shows them alone or all; the median of ten."""
    page = browser.new_page()
    page.goto(f"{address}/sweep/{sweep_name(0)}")
    page.wait_for_selector("table.results", timeout=_WAIT_MILLISECONDS)
    page.wait_for_timeout(2_000)
    taken = []
    other = (
        "[...document.querySelectorAll('td[data-key=allocation]')].some(c => c.innerText==='w3a3')"
    )
    for turn in range(10):
        is_narrow = turn % 2 == 0
        chip = page.locator(".picker[aria-label=bits] a", has_text="w2a2" if is_narrow else "all")
        begin = perf_counter()
        chip.first.click()
        page.wait_for_function(f"() => {'!' if is_narrow else ''}{other}", polling=10)
        taken.append(perf_counter() - begin)
    page.context.close()
    print(f"picker: {', '.join(f'{one:.2f}' for one in taken)} s", flush=True)
    return median(taken)


def next_hundred(browser: Any, address: str) -> float:
    """Seconds from a click on Next until the following hundred trials stand; the median of ten."""
    page = browser.new_page()
    page.goto(f"{address}/sweep/{sweep_name(0)}")
    page.wait_for_selector("table.trials", timeout=_WAIT_MILLISECONDS)
    total = page.get_attribute("[data-total]", "data-total")
    assert total == str(TEN_THOUSAND.trials), f"the page counts {total} trials"
    page.wait_for_timeout(2_000)
    taken = []
    for _ in range(10):
        before = page.inner_text("table.trials tbody tr:first-child a")
        begin = perf_counter()
        page.click(".ways a:text-is('Next')")
        page.wait_for_function(
            "before => document.querySelector('table.trials tbody a').innerText !== before",
            arg=before,
            polling=10,
        )
        taken.append(perf_counter() - begin)
    page.context.close()
    print(f"next hundred: {', '.join(f'{one:.2f}' for one in taken)} s", flush=True)
    return median(taken)


def live_update(store: str) -> dict[str, float]:
    """What a page asks of the store when nothing has changed: statements, and their time."""
    engine = open_to_read(store)
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(str(given[2])))
    reader = Reader(engine)
    taken = []
    for _ in range(50):
        begin = perf_counter()
        pulse(reader)
        taken.append(perf_counter() - begin)
    print(f"live update asks: {asked[0]}")
    for row in reader.query(f"EXPLAIN QUERY PLAN {asked[0]}")[1]:
        print(f"    {row[-1]}")
    figures = {
        "live_update_statements": len(asked[:50]) / 50,
        "live_update_milliseconds": 1e3 * median(taken),
    }
    reader.close()
    return figures


def memory_growth(
    browser: Any, address: str, process: int, *, loads: int, num_sweeps: int
) -> float:
    """Megabytes that the server has grown by over so many page loads, after a hundred."""
    held = []
    for load in range(_WARM_LOADS + loads + 1):
        if load % _WARM_LOADS == 0:
            held.append(resident_megabytes(process))
            print(f"memory after {load} loads: {held[-1]:.0f} MB", flush=True)
        path = visited(load, num_sweeps)
        if load % _ONE_IN_BROWSER == 0:
            browse(browser, f"{address}{path}")
        else:
            load_page(address, path)
    return held[-1] - held[1]


def visited(load: int, num_sweeps: int) -> str:
    """The page of a visit: each sweep once, then the list and eight in turn, at times another."""
    if load < num_sweeps:
        return f"/sweep/{sweep_name(load)}"
    if load % _ONE_ELSEWHERE == _ONE_ELSEWHERE - 1:
        return f"/sweep/{sweep_name(load // _ONE_ELSEWHERE % num_sweeps)}"
    turn = load % (_POPULAR + 1)
    return "/" if turn == 0 else f"/sweep/{sweep_name((turn - 1) % num_sweeps)}"


def browse(browser: Any, address: str) -> None:
    """A visit by a browser that knows nothing, until it shows a list or a table."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("ul.sweeps, table.results", timeout=_WAIT_MILLISECONDS)
    context.close()


def load_page(address: str, path: str) -> None:
    """What a browser asks for on a visit: the page, its layout, its content."""
    connection = HTTPConnection(address.removeprefix("http://"), timeout=60)
    around = [("title", "data"), ("shown", "data"), ("clock", "children")]
    pages = [{"id": name, "property": "children"} for name in ("pages", "page")]
    for method, target, body in (
        ("GET", path, None),
        ("GET", "/_dash-layout", None),
        ("GET", "/_dash-dependencies", None),
        (
            "POST",
            "/_dash-update-component",
            json.dumps(
                {
                    "output": _REFRESH,
                    "outputs": [
                        *pages,
                        [],
                        *({"id": name, "property": part} for name, part in around),
                    ],
                    "inputs": [
                        {"id": "address", "property": "pathname", "value": path},
                        {"id": "address", "property": "search", "value": ""},
                        {"id": "tick", "property": "n_intervals", "value": 0},
                    ],
                    "state": [{"id": "shown", "property": "data", "value": None}],
                    "changedPropIds": ["address.pathname"],
                }
            ),
        ),
    ):
        connection.request(method, target, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, f"{method} {target}: {answer.status} {text[:200]!r}"
    connection.close()


def resident_megabytes(process: int) -> float:
    """Memory that a process holds, as Linux tells it."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


def measured(folder: Path, parts: Sequence[str], *, size: Size, loads: int) -> dict[str, float]:
    """The figures of these parts over stores that are made in the folder, or lie there."""
    figures: dict[str, float] = {}
    large = filled(folder / "large.db", size)
    if "live" in parts:
        figures |= live_update(large)
    if "speed" in parts:
        wide = filled(folder / "wide.db", TEN_THOUSAND)
        with chromium() as browser:
            with serving(large) as (address, _):
                figures["first_page_seconds"] = first_page(browser, address)
                figures["picker_change_seconds"] = picker_change(browser, address)
            with serving(wide) as (address, _):
                figures["next_hundred_of_10000_trials_seconds"] = next_hundred(browser, address)
    if "memory" in parts:
        with chromium() as browser, serving(large) as (address, process):
            figures["memory_growth_megabytes"] = memory_growth(
                browser, address, process, loads=loads, num_sweeps=size.sweeps
            )
    return figures


def main() -> None:
    """Fill, measure, print; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="a part; may be repeated")
    parser.add_argument("--sweeps", type=int, default=Size().sweeps)
    parser.add_argument("--loads", type=int, default=1_000)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    given = parser.parse_args()
    size = Size(sweeps=given.sweeps)
    with tempfile.TemporaryDirectory(prefix="bitsweep-dashboard-") as made:
        folder = given.keep or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        figures = measured(folder, given.only or PARTS, size=size, loads=given.loads)
    limits = {name: limit for name, limit in LIMITS.items() if name in figures}
    for name, limit in limits.items():
        print(f"{name}: {figures[name]:.3f} (limit {limit:g})")
    is_whole = (
        size.measurements >= 1_000_000 and given.loads >= 1_000 and figures.keys() == LIMITS.keys()
    )
    holds = is_whole and all(figures[name] <= limit for name, limit in limits.items())
    document = {"benchmark": "dashboard", "figures": figures, "limits": limits, "holds": holds}
    print(json.dumps(document))


if __name__ == "__main__":
    main()
