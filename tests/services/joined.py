"""The pages of several shards as one, joined as the catalogue says of each family."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from celery_observe.metrics import CATALOGUE, Join, Kind

SUFFIXES = ("_bucket", "_count", "_sum")
LAST_BIT = 1e-9
"""How far sums of seconds may be apart, since what is added up in another order is rounded in another way."""
_JOINED: dict[Join, Callable[[Iterable[float]], float]] = {Join.SUM: sum, Join.MAX: max}

Numbers = dict[str, float]
"""A page: samples as they are written → values."""


def _joins() -> Iterator[tuple[str, Join]]:
    for family in CATALOGUE:
        suffixes = SUFFIXES if family.kind is Kind.HISTOGRAM else ("",)
        yield from ((family.name + suffix, family.join) for suffix in suffixes)


JOINS = dict(_joins())


def name_of(sample: str) -> str:
    """The name of a sample, without its labels."""
    return sample.partition("{")[0]


def joined(pages: Iterable[str], leave_out: Callable[[str], bool] = lambda _name: False) -> Numbers:
    """Return what these pages say together; a single one as it is, less what processes tell of themselves."""
    values: dict[str, list[float]] = {}
    for page in pages:
        for line in page.splitlines():
            sample, _, value = line.rpartition(" ")
            if not line.startswith("#") and _is_joined(name_of(sample), leave_out):
                values.setdefault(sample, []).append(float(value))
    return {sample: _JOINED[JOINS[name_of(sample)]](each) for sample, each in values.items()}


def _is_joined(name: str, leave_out: Callable[[str], bool]) -> bool:
    return JOINS.get(name, Join.EACH) is not Join.EACH and not leave_out(name)


def differences(shards: Numbers, one: Numbers) -> dict[str, tuple[float | None, float | None]]:
    """Return what two pages do not agree in; sums of seconds agree to the last bit, all else exactly."""
    return {
        sample: (shards.get(sample), one.get(sample))
        for sample in shards.keys() | one.keys()
        if not _agree(name_of(sample), shards.get(sample), one.get(sample))
    }


def _agree(name: str, left: float | None, right: float | None) -> bool:
    if left == right or left is None or right is None:
        return left == right
    return name.endswith(("_sum", "_seconds_total")) and left == pytest.approx(right, rel=LAST_BIT, abs=LAST_BIT)
