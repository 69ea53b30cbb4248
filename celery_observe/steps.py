"""Report → Step: what instrumented processes tell of the tasks that belong together.

Pure: nothing is kept here. A report names the place of its task, if it has one; the first task of a workflow may not
know that it is one, so its end is told if ``followed`` says that others came of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_observe.attempt import unix_time
from celery_observe.cause import UNKNOWN
from celery_observe.fact import Canvas, ChordBroken, Fact, Mapped, Outcome, Polled, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from celery_observe.report import ChordFailure, Execution, Placement, Publication, Running

_GOES_ON = frozenset({Outcome.RETRIED, Outcome.CANCELLED})


class Steps:
    """Turns reports to steps, and hands them to ``emit``."""

    def __init__(
        self, emit: Callable[[Fact], None], label_of: Callable[[str], str], followed: Container[str] = frozenset()
    ) -> None:
        self._emit = emit
        self._label_of = label_of
        self._followed = followed

    def published(self, report: Publication) -> None:
        """Tell that a task was published."""
        if report.canvas is not None and report.uuid is not None:
            published = report.timestamp - (report.seconds or 0.0)
            self._tell(report, report.uuid, report.canvas, worker="", published=published)

    def placed(self, report: Placement) -> None:
        """Tell that a worker took a task."""
        self._tell(
            report,
            report.uuid,
            report.canvas,
            worker=report.hostname,
            published=report.published,
            received=report.timestamp,
        )

    def started(self, attempt: Running, worker: str, *, vanished: bool = False) -> None:
        """Tell that a task executes, or that it did and has vanished."""
        if attempt.canvas is None and attempt.uuid not in self._followed:
            return
        end: dict[str, Any] = {"outcome": Outcome.VANISHED, "open": False} if vanished else {}
        self._tell(
            attempt,
            attempt.uuid,
            attempt.canvas,
            worker=worker,
            published=attempt.published,
            received=attempt.received,
            started=attempt.started,
            **end,
        )

    def executed(self, report: Execution) -> None:
        """Tell that an attempt ended."""
        if report.mapped is not None:
            queue = report.queue or UNKNOWN
            self._emit(Mapped(self._label_of(report.mapped), queue, report.hostname, report.items))
        canvas = report.canvas
        if canvas is not None and canvas.polls is not None and report.outcome is Outcome.RETRIED:
            self._emit(Polled(report.uuid, canvas.root, canvas.polls, report.retries + 1))
        if report.uuid not in self._followed and (canvas is None or canvas.polls is not None):
            return
        self._tell(
            report,
            report.uuid,
            canvas,
            worker=report.hostname,
            published=report.published,
            received=report.received,
            started=report.started,
            ended=report.timestamp,
            outcome=report.outcome,
            open=report.outcome in _GOES_ON or report.requeued,
        )

    def broken(self, report: ChordFailure) -> None:
        """Tell that a chord cannot be completed."""
        self._emit(ChordBroken(report.reason, report.root, report.group, report.body))

    def _tell(
        self,
        report: Publication | Placement | Execution | Running,
        uuid: str,
        canvas: Canvas | None,
        *,
        worker: str,
        **known: Any,
    ) -> None:
        """Emit what a report says; the parent of a retry is the task itself."""
        place = canvas or Canvas(uuid)
        if canvas is not None and canvas.root_task is not None:
            canvas.root_task = self._label_of(canvas.root_task)
        self._emit(
            Step(
                self._label_of(report.name),
                report.queue or UNKNOWN,
                worker,
                uuid,
                place.root,
                place.parent if place.parent != uuid else None,
                turn=report.retries + place.nesting,
                retries=report.retries,
                eta=unix_time(report.eta) if report.eta else None,
                released=place.released,
                canvas=canvas,
                **known,
            )
        )
