"""The fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from services.observed import Observed


@pytest.fixture
def observe() -> Iterator[Callable[..., Observed]]:
    """Open a stream: `observe(url, event_exchange="other")`; closed after the test."""
    opened = []

    def start(url: str, **settings: Any) -> Observed:
        observed = Observed(url, **settings)
        opened.append(observed)
        observed.stream.open()
        return observed

    yield start
    for observed in opened:
        observed.stream.close()
