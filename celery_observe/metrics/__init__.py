"""THE catalogue: every metric family, declared once.

A declaration names the family, its labels and the Fact that feeds it. The recorder, ``celery-observe metrics`` and
``docs/metrics.md`` derive from it. Each module of this package is one subsystem and is found by itself.
"""

from __future__ import annotations

import importlib
import pkgutil

from celery_observe.metrics.family import MEMORY_BUCKETS, RUNTIME_BUCKETS, WAIT_BUCKETS, Family, Join, Kind

__all__ = ["CATALOGUE", "MEMORY_BUCKETS", "RUNTIME_BUCKETS", "WAIT_BUCKETS", "Family", "Join", "Kind"]


def _declared() -> tuple[Family, ...]:
    modules = [
        importlib.import_module(f"{__name__}.{module.name}")
        for module in pkgutil.iter_modules(__path__)
        if module.name != "family"
    ]
    return tuple(value for module in modules for value in vars(module).values() if isinstance(value, Family))


CATALOGUE: tuple[Family, ...] = _declared()
"""All families, by subsystem and in the order of their declaration."""
