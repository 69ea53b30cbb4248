"""Whether all clocks agree."""

from __future__ import annotations

from celery_observe.doctor.evidence import Evidence
from celery_observe.doctor.registry import Found, Unknown, Verdicts, checks
from celery_observe.findings import Severity

_SKEWED = 2.0
"""Seconds; less may be the way of an event, or a busy machine."""


@checks(
    "clock-skew",
    Severity.WARNING,
    alerts=("CeleryWorkerClockSkewed",),
    metrics=("celery_worker_clock_skew_seconds",),
)
def clock_skew(evidence: Evidence) -> Verdicts:
    """Clocks disagree.

    ETAs, `expires`, `countdown` and rate limits compare the publisher's clock with the worker's: tasks expire before
    they are executed, or run early. Waits are wrong by as much, and the visibility timeout of Redis is reckoned by
    the clock of whichever worker looks.

    Fix: run chrony or systemd-timesyncd on all machines.
    """
    if evidence.heard is None:
        yield Unknown(evidence.why_no("heard"))
        return
    lags = {name: worker.lag for name, worker in evidence.heard.workers.items() if worker.lag is not None}
    ours = evidence.redis.skew if evidence.redis and evidence.redis.skew is not None else 0.0
    skewed = {name: ours - lag for name, lag in lags.items() if abs(lag - ours) > _SKEWED}
    if skewed:
        worst = max(skewed, key=lambda name: abs(skewed[name]))
        ahead = "ahead of" if skewed[worst] > 0 else "behind"
        whom = "the broker" if evidence.redis else "this machine"
        yield Found(
            message=f"{len(skewed)} of {len(lags)} workers have a clock of their own.",
            evidence=f"{worst} is {abs(skewed[worst]):.1f} s {ahead} {whom}",
            fix="timedatectl set-ntp true",
            subject=worst,
        )
    if abs(ours) > _SKEWED:
        yield Found(
            message="This machine's clock and the broker's disagree.",
            evidence=f"ours is {abs(ours):.1f} s {'ahead' if ours > 0 else 'behind'}",
            fix="timedatectl set-ntp true",
            severity=Severity.INFO,
        )
