"""How fast the dashboard is over a large store, in a real browser, and what it costs to keep it.

python benchmarks/dashboard.py [--sweeps 40] [--loads 1000] [--keep FOLDER]

Needs Chromium (make system-packages). --keep leaves the stores there, and uses those that exist.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
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


def memory_growth(address: str, process: int, loads: int) -> float:
    """Megabytes that the server has grown by over so many page loads, after a hundred."""
    paths = ["/", *(f"/sweep/{sweep_name(number)}" for number in range(8))]
    begin = 0.0
    for load in range(_WARM_LOADS + loads):
        if load == _WARM_LOADS:
            begin = resident_megabytes(process)
        load_page(address, paths[load % len(paths)])
    end = resident_megabytes(process)
    print(f"memory: {begin:.0f} MB after {_WARM_LOADS} loads, {end:.0f} MB {loads} later")
    return end - begin


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


def main() -> None:
    """Fill, measure, print; the last line is one JSON object."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", type=int, default=Size().sweeps)
    parser.add_argument("--loads", type=int, default=1_000)
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    given = parser.parse_args()
    size = Size(sweeps=given.sweeps)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="bitsweep-dashboard-") as made:
        folder = given.keep or Path(made)
        large = filled(folder / "large.db", size)
        wide = filled(folder / "wide.db", TEN_THOUSAND)
        figures |= live_update(large)
        with sync_playwright() as playwright:
            flags = ["--no-sandbox", "--disable-gpu"]
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
            with serving(large) as (address, _):
                figures["first_page_seconds"] = first_page(browser, address)
                figures["picker_change_seconds"] = picker_change(browser, address)
            with serving(wide) as (address, _):
                figures["next_hundred_of_10000_trials_seconds"] = next_hundred(browser, address)
            browser.close()
        with serving(large) as (address, process):
            figures["memory_growth_megabytes"] = memory_growth(address, process, given.loads)
    for name, limit in LIMITS.items():
        print(f"{name}: {figures[name]:.3f} (limit {limit:g})")
    is_whole = size.measurements >= 1_000_000 and given.loads >= 1_000
    holds = is_whole and all(figures[name] <= limit for name, limit in LIMITS.items())
    document = {"benchmark": "dashboard", "figures": figures, "limits": LIMITS, "holds": holds}
    print(json.dumps(document))


if __name__ == "__main__":
    main()
