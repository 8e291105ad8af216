"""Outside parts that only some machines have: a test that needs one skips, or fails in CI."""

import os
from typing import NoReturn

import pytest

REQUIRED = os.environ.get("BITSWEEP_REQUIRE_REAL") == "1"


def missing(reason: str) -> NoReturn:
    """Skip with the reason; fail with it where BITSWEEP_REQUIRE_REAL=1."""
    if REQUIRED:
        pytest.fail(f"{reason} (BITSWEEP_REQUIRE_REAL=1 makes this a failure)")
    pytest.skip(reason)
