"""Receivers of the signals of each task that do nothing: the least that measuring from signals can cost."""

from __future__ import annotations

from celery import signals


def forget(**_: object) -> None:
    """Do nothing."""


def connect() -> None:
    """Receive what a worker tells of each task: once in its main process, twice in the child."""
    for signal in (signals.task_received, signals.task_prerun, signals.task_postrun):
        signal.connect(forget, weak=False)
