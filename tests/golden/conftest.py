"""The option that writes the golden pages anew."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --update-golden, for `pytest tests/golden --update-golden`."""
    parser.addoption("--update-golden", action="store_true", help="Write the golden pages instead of comparing them.")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden pages are to be written."""
    return bool(request.config.getoption("--update-golden", default=False))
