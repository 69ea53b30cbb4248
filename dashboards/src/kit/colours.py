"""One meaning, one colour, on every board. The names are those of Grafana's palette, which follow its theme."""

from __future__ import annotations

from celery_observe.fact import Cause, Departure, Ending, Exit, Outcome, Stage

GOOD, ODD, BAD, NEUTRAL, MUTED = "green", "orange", "red", "blue", "#8e8e8e"

OUTCOMES: dict[str, str] = {
    Outcome.SUCCEEDED: GOOD,
    Outcome.FAILED: BAD,
    Outcome.RETRIED: "yellow",
    Outcome.REVOKED: "purple",
    Outcome.EXPIRED: ODD,
    Outcome.TERMINATED: "dark-purple",
    Outcome.REJECTED: "light-orange",
    Outcome.IGNORED: MUTED,
    Outcome.REPLACED: "light-blue",
    Outcome.CANCELLED: "light-purple",
    Outcome.UNREGISTERED: "dark-red",
    Outcome.VANISHED: "semi-dark-orange",
}

CAUSES: dict[str, str] = {
    Cause.EXCEPTION: BAD,
    Cause.SOFT_TIME_LIMIT: "yellow",
    Cause.HARD_TIME_LIMIT: ODD,
    Cause.WORKER_LOST: "purple",
    Cause.OOM_OR_SIGNAL: "dark-purple",
    Cause.UNREGISTERED: "dark-red",
    Cause.ENCODE_ERROR: NEUTRAL,
    Cause.RETRIES_EXHAUSTED: "light-red",
}

ENDINGS: dict[str, str] = {
    Ending.SUCCEEDED: OUTCOMES[Outcome.SUCCEEDED],
    Ending.FAILED: OUTCOMES[Outcome.FAILED],
    Ending.REVOKED: OUTCOMES[Outcome.REVOKED],
    Ending.ABANDONED: OUTCOMES[Outcome.VANISHED],
}

EXITS: dict[str, str] = {Exit.SHUTDOWN: NEUTRAL, Exit.LOST: BAD, Exit.RESTARTED: ODD}

DEPARTURES: dict[str, str] = {
    Departure.REPLACED: GOOD,
    Departure.SCALED_DOWN: "light-blue",
    Departure.STOPPED: "yellow",
    Departure.UNKNOWN: MUTED,
}

STAGES: dict[str, str] = {
    Stage.SCHEDULED: "purple",
    Stage.QUEUE: ODD,
    Stage.RATE_LIMIT: "yellow",
    Stage.WORKER: NEUTRAL,
    Stage.RUN: GOOD,
    Stage.UNKNOWN: MUTED,
}

QUANTILES: dict[str, str] = {"p50": "light-blue", "p95": NEUTRAL, "p99": "dark-blue", "mean": "light-green"}
