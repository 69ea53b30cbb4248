"""`celery-observe doctor`: a live system against a checklist for production.

Evidence is gathered once, by questions that change nothing; checks are pure functions of it. One file per check in
`celery_observe.doctor.checks`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from celery_observe.doctor.gathering import LISTEN, gather
from celery_observe.doctor.registry import diagnose
from celery_observe.findings import Place, Report
from celery_observe.settings import Settings

__all__ = ["LISTEN", "examine"]


def examine(settings: Settings, celery: Any = None, *, listen: float = LISTEN) -> Report:
    """Look at the system behind the broker of the settings, and at the user's app if given; takes some seconds."""
    began = time.monotonic()
    evidence = gather(settings, celery, listen=listen)
    diagnosis = diagnose(evidence)
    place = _place_of(settings.app)
    queues = "queues unknown" if evidence.queues is None else _counted(len(evidence.queues), "queue")
    return Report(
        tool="doctor",
        subject=f"{evidence.broker.url}, {_counted(len(evidence.workers), 'worker')}, {queues}",
        rules=diagnosis.rules,
        findings=tuple(msgspec.structs.replace(each, place=place) for each in diagnosis.findings),
        unchecked=diagnosis.unchecked,
        seconds=time.monotonic() - began,
    )


def _place_of(app: str | None) -> Place | None:
    """Return the file of the user's app, if it is below the working directory."""
    name = (app or "").partition(":")[0]
    module = sys.modules.get(f"{name}.celery") or sys.modules.get(name)
    file = Path(getattr(module, "__file__", None) or "")
    return Place(file.relative_to(Path.cwd()).as_posix()) if file.name and file.is_relative_to(Path.cwd()) else None


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
