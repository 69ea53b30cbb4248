"""Whether chords can end."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence, whose
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed

_CHORDS = {"celery.chord", "celery.chord_unlock"}
_POLLED = "celery.chord_unlock"


@checks(
    "chord-backend",
    Severity.WARNING,
    alerts=("CeleryChordStalled", "CeleryChordsBroken"),
    metrics=("celery_chord_stalled", "celery_chord_errors_total"),
)
def chord_backend(evidence: Evidence) -> Verdicts:
    """The result back end cannot carry chords, or only by polling.

    A chord begins its body when all tasks of its header have stored their results. Without a back end, or with `rpc`,
    `chord()` raises or its body never runs; with `task_ignore_result` nothing is stored, and it never runs either.
    Back ends without a counter (databases, `cache` without memcached) are polled by the task `celery.chord_unlock`
    each second, one for each chord.

    Fix: `result_backend = "redis://…"` (or memcached, DynamoDB, MongoDB), and `ignore_result=False` on the tasks of a
    chord's header.
    """
    confs = list(evidence.configurations)
    if not confs:
        yield Unknown(evidence.no_workers("conf"))
        return
    seen = _CHORDS & set(evidence.heard.tasks if evidence.heard else ())
    worse = Severity.CRITICAL if seen else None
    rpc = whose(evidence, "result_backend", ["rpc"])
    if rpc:
        yield Found(
            message="The result back end rpc does not support chords.",
            evidence=f"result_backend is rpc for {listed(rpc)}",
            fix='result_backend = "redis://…"',
            severity=worse,
        )
    none = whose(evidence, "result_backend", [None])
    if none:
        yield Found(
            message="There is no result back end: chords cannot end.",
            evidence=f"result_backend is not set for {listed(none)}",
            fix='result_backend = "redis://…", if chords are used',
            severity=worse or Severity.INFO,
        )
    ignored = [owner for owner in whose(evidence, "task_ignore_result", [True]) if owner not in none]
    if ignored and seen:
        yield Found(
            message="Chords are used, and results are ignored: their bodies never run.",
            evidence=f"task_ignore_result is True for {listed(ignored)}",
            fix="ignore_result=False on the tasks of chords",
            severity=Severity.CRITICAL,
        )
    if evidence.heard and _POLLED in evidence.heard.tasks:
        yield Found(
            message="Chords are polled for.",
            evidence=f"{evidence.heard.tasks[_POLLED].received} celery.chord_unlock in {evidence.heard.seconds:.0f} s",
            fix='result_backend = "redis://…"',
            severity=Severity.INFO,
        )
