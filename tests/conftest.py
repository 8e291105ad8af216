"""What every suite shares: a clean environment and the settings of the property tests."""

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# A developer's own store, tracking server or cluster must never be written to by a test.
for _name in ("BITSWEEP_STORE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
    os.environ.pop(_name, None)

# A background job of a shell ignores SIGINT, and so would what tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# CI draws the same examples each time: a change is judged by what it changes. A developer's runs
# draw new ones, and what they find is pinned by @example.
settings.register_profile(
    "suite",
    deadline=None,
    derandomize="CI" in os.environ,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")

# Few tests of minutes each: a worker that began with them last would keep the other one waiting.
LONGEST = ("test_faults.py", "test_kills.py", "test_precedence.py", "test_two_drivers.py")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; all else in its order."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else 99)
