"""Extract, transform, load: a canvas that grows with its data."""

from __future__ import annotations

from typing import Any

from celery import Signature, Task, chain, chord

from celery_observe.demo.shop import app, outside

_DAYS = 12
_PART = 4


@app.task(name="reports.extract")
def extract(days: int) -> list[int]:
    """Read the turnover of so many days."""
    return outside.ledger(days)


@app.task(bind=True, name="reports.spread")
def spread(self: Task, turnover: list[int]) -> Any:
    """Replace itself by a chord of as many members as there are data for: nobody knew that before."""
    parts = [turnover[start : start + _PART] for start in range(0, len(turnover), _PART)]
    return self.replace(chord([transform.s(part) for part in parts], load.s()))


@app.task(name="reports.transform", ignore_result=False)
def transform(part: list[int]) -> int:
    """Add up a part."""
    return sum(part)


@app.task(name="reports.load")
def load(sums: list[int]) -> int:
    """Add up the sums of the parts."""
    return sum(sums)


@app.task(name="reports.publish")
def publish(total: int) -> None:
    """Tell everybody."""
    outside.postman(f"everybody: {total}")


@app.task(name="reports.nightly")
def nightly() -> None:
    """Start the report of the last days."""
    report().apply_async()


def report() -> Signature:
    """Return the pipeline: extract, then a chord in place of `spread`, then publish."""
    return chain(extract.s(_DAYS), spread.s(), publish.s())
