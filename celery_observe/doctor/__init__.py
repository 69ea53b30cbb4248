"""`celery-observe doctor`: a live system against a checklist for production.

Evidence is gathered once, by questions that change nothing; checks are pure functions of it. One file per check in
`celery_observe.doctor.checks`.
"""

from __future__ import annotations

import time
from typing import Any

from celery_observe.doctor.gathering import LISTEN, gather
from celery_observe.doctor.registry import diagnose
from celery_observe.findings import Report
from celery_observe.settings import Settings

__all__ = ["LISTEN", "examine"]


def examine(settings: Settings, celery: Any = None, *, listen: float = LISTEN) -> Report:
    """Look at the system behind the broker of the settings, and at the user's app if given; takes some seconds."""
    began = time.monotonic()
    evidence = gather(settings, celery, listen=listen)
    diagnosis = diagnose(evidence)
    queues = "queues unknown" if evidence.queues is None else _counted(len(evidence.queues), "queue")
    return Report(
        tool="doctor",
        subject=f"{evidence.broker.url}, {_counted(len(evidence.workers), 'worker')}, {queues}",
        rules=diagnosis.rules,
        findings=diagnosis.findings,
        unchecked=diagnosis.unchecked,
        seconds=time.monotonic() - began,
    )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
