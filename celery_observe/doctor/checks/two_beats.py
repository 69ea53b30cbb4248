"""Whether one beat alone looks after a schedule."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity, listed

_LOCKED = "redbeat"


@checks("two-beats", Severity.CRITICAL, alerts=("CeleryBeatDoubled",), metrics=("celery_beat_instances",))
def two_beats(evidence: Evidence) -> Verdicts:
    """More than one beat sends the schedule.

    Each sends every entry: mails, charges and reports twice. A worker that was started with `-B` is a beat too, and so
    is each of its replicas. Schedulers with a lock of their own (RedBeat) may run several, of which one sends.

    A beat can be asked from Celery 5.7 on, with `beat_enable_remote_control`. Before that, two processes that send the
    task of the same entry within a few seconds tell of it.

    Fix: run one beat, with the deploy strategy `Recreate`; or RedBeat.
    """
    if evidence.beats is not None and evidence.beats > 1:
        has_lock = evidence.app is not None and _LOCKED in evidence.app.conf["beat_scheduler"].lower()
        lock = "; beat_scheduler has a lock" if has_lock else ""
        yield Found(
            message=f"{evidence.beats} beats are running.",
            evidence=f"{evidence.beats} answers to ping of celerybeat@*{lock}",
            fix="Stop all but one; drop -B from workers",
            severity=Severity.INFO if has_lock else None,
        )
    entries = evidence.app.entries if evidence.app else {}
    tasks = evidence.heard.tasks if evidence.heard else {}
    doubled = {entry for task, entry in entries.items() if task in tasks and len(tasks[task].senders) > 1}
    if doubled and evidence.heard:
        yield Found(
            message="Several processes send the task of the same entry of beat.",
            evidence=f"more than one sender of {listed(doubled)} in {evidence.heard.seconds:.0f} s",
            fix="Stop all beats but one; drop -B from workers",
            severity=Severity.WARNING if evidence.beats is None else Severity.INFO,
        )
    if evidence.beats is None and not doubled:
        yield Unknown(
            evidence.missing.get("beats")
            or "no beat answers: before Celery 5.7, or without beat_enable_remote_control, none does"
        )
