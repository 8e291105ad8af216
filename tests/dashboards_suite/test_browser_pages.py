"""Every page in a real browser: no complaint, no outside request, both widths, accessible."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from tests.dashboards_suite.stores import reader_of
from tests.dashboards_suite.visits import NARROW, WIDE, drawn, visit
from tests.real_parts import missing

pytestmark = pytest.mark.real
SCREENSHOTS_VARIABLE = "BITSWEEP_SCREENSHOTS"
PAGES = {
    "overview": "/",
    "sweep": "/sweep/toy",
    "compare": "/compare?arm=toy/a&arm=toy/b&against=toy/a&published=yes",
    "space": "/space/toy?arm=b",
    "layers": "/layers/toy?arm=b",
    "trial": "/trial/TRIAL",
    "sql": "/sql?q=SELECT+arm,+allocation,+top1_percent+FROM+results",
    "unknown": "/sweep/tox",
}
ALLOWED_IMPACTS = (None, "minor", "moderate")


def findings(page: Any) -> list[str]:
    """What axe-core objects to, its serious and critical rules alone."""
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        missing("the package axe-playwright-python is missing: pip install -e '.[dev]'")
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: "
        + "; ".join(str(node["html"])[:160] for node in one["nodes"][:3])
        for one in found
        if one["impact"] not in ALLOWED_IMPACTS
    ]


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_sound_at_both_widths_and_in_both_themes(
    browser: Any, listen: Callable[..., str], toy_store: str, name: str
) -> None:
    reader = reader_of(toy_store)
    trial = next(row for row in reader.trial_rows(reader.sweep("toy").id) if row.arm == "b")
    page, complaints = visit(
        browser, listen(toy_store), PAGES[name].replace("TRIAL", trial.trial_id[:12])
    )
    drawn(page)
    wrong: dict[str, Any] = {}
    for theme, width in (("light", WIDE), ("dark", NARROW)):
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": 844})
        page.wait_for_timeout(400)  # figures fit themselves to the width
        if folder := os.environ.get(SCREENSHOTS_VARIABLE):
            page.screenshot(path=f"{folder}/{name}-{width}.png", full_page=True)
        if found := findings(page):
            wrong[f"axe, {theme} at {width}"] = found
        needed = page.evaluate("document.documentElement.scrollWidth")
        if needed > width:
            wrong[f"wider than {width}"] = needed
    if complaints:
        wrong["complaints"] = complaints

    assert wrong == {}
