"""Take the dashboard's pictures for the guide over a finished quickstart sweep.

.venv/bin/python docs/images/take.py --store results/bitsweep.db [--out docs/images]
.venv/bin/python docs/images/take.py --store large.db --only overview

The list of sweeps is of the benchmarks' large store (benchmarks/dashboard.py --keep FOLDER).
Each page at 1280 and at 390 px, in light; the page of the sweep in dark too. Needs Chromium
(make system-packages).
"""

import argparse
import threading
from pathlib import Path
from typing import Any

from PIL import Image
from werkzeug.serving import make_server

from bitsweep.store.database import open_to_read
from bitsweep.store.reader import Reader
from bitsweep_dashboards.app import create_app

CHROMIUM = "/usr/bin/chromium"
HEIGHTS = {1280: 1060, 390: 844}
SWEEP = "quickstart"
SQL = "SELECT arm, allocation, ROUND(AVG(top1_percent), 2) AS top1, COUNT(*) AS n"
SQL += f" FROM results WHERE sweep = '{SWEEP}' AND split = 'test' GROUP BY 1, 2 ORDER BY 3 DESC"
PAGES = {
    "overview": "/",
    "sweep": f"/sweep/{SWEEP}",
    "trials": f"/sweep/{SWEEP}?arm=lsq&sort=-epochs",
    "compare": f"/compare?arm={SWEEP}/lsq&arm={SWEEP}/cpq&against={SWEEP}/lsq",
    "space": f"/space/{SWEEP}?arm=cpq",
    "layers": f"/layers/{SWEEP}?arm=cpq",
    "trial": "/trial/TRIAL",
    "sql": f"/sql?q={SQL.replace(' ', '+')}",
}
SCROLLED_TO = {"trials": "#trials"}
DARK = ("sweep",)
_LONGEST_MILLISECONDS = 300_000
_COLOURS = 256
_DRAWN = (
    "() => !document.querySelector('.loading') &&"
    " !document.querySelector('.best')?.closest('ul').innerText.includes('reading ...') &&"
    " document.querySelectorAll('.graph').length ==="
    " document.querySelectorAll('.graph svg.main-svg:first-child').length"
)


def take(browser: Any, address: str, *, name: str, out: Path) -> None:
    """One page at both widths, and in dark where the guide shows it."""
    shots = [(width, "light") for width in HEIGHTS] + [(1280, "dark")] * (name in DARK)
    for width, theme in shots:
        context = browser.new_context(
            viewport={"width": width, "height": HEIGHTS[width]},
            color_scheme=theme,
            reduced_motion="reduce",
        )
        page = context.new_page()
        page.goto(address)
        page.wait_for_selector("#page h1")
        page.wait_for_function(_DRAWN, timeout=_LONGEST_MILLISECONDS)
        page.wait_for_timeout(600)
        if name in SCROLLED_TO:
            page.locator(SCROLLED_TO[name]).evaluate("one => one.scrollIntoView()")
        marks = ("" if width == 1280 else f"-{width}") + ("" if theme == "light" else f"-{theme}")
        path = out / f"dashboard-{name}{marks}.png"
        page.screenshot(path=str(path))
        # Rare colours are kept: those of marks are a few pixels each.
        palette = Image.open(path).convert("RGB").quantize(_COLOURS, Image.Quantize.MAXCOVERAGE)
        palette.save(path, optimize=True)
        context.close()


def shown_trial(store: str) -> str:
    """A confirmed trial of LSQ."""
    reader = Reader(open_to_read(store))
    rows = reader.trial_rows(reader.sweep(SWEEP).id)
    found = [row for row in rows if row.arm == "lsq" and row.stage == "confirm"]
    return found[0].trial_id[:12]


def main() -> None:
    """Serve the store and take all pictures."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="results/bitsweep.db")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--only", choices=PAGES, action="append")
    given = parser.parse_args()
    server = make_server("127.0.0.1", 0, create_app(given.store).server, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    names = given.only or list(PAGES)
    trial = shown_trial(given.store) if "trial" in names else ""
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        for name in names:
            take(browser, base + PAGES[name].replace("TRIAL", trial), name=name, out=given.out)
        browser.close()
    server.shutdown()


if __name__ == "__main__":
    main()
