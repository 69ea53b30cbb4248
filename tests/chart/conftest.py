"""The option that writes the golden manifests anew."""

from __future__ import annotations

import pytest


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden manifests are to be written: `pytest tests/golden tests/chart --update-golden`."""
    return bool(request.config.getoption("--update-golden", default=False))
