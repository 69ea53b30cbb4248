"""What each scenario means, written by hand: how its attempts ended and why they failed."""

from __future__ import annotations

from collections import Counter
from fnmatch import fnmatch
from typing import NamedTuple

import pytest

from golden.replay import RECORDINGS, Replay, recordings
from services.exporter import Samples

ALL, PREFORK, GREEN, SOLO = "*", "*/prefork", "*/gevent", "*/solo"
THREADS = "5.7/threads"
"""Before 5.7 threads lose events on their way out of the worker: only what is left of a scenario was recorded."""
OLDER = "5.[56]/*"
NEW = "5.7/*"


class Meaning(NamedTuple):
    """The attempts of a scenario where it was recorded on one of these: how they ended, and what made them fail."""

    scenario: str
    recorded: tuple[str, ...]
    outcomes: Counter[str]
    failures: Counter[str]


def meaning(scenario: str, recorded: str, outcomes: str, *failures: str) -> Meaning:
    """Write a meaning down: `"fetch retried, fetch succeeded"`, `"add succeeded x3"`."""
    counted: Counter[str] = Counter()
    for part in filter(None, outcomes.split(", ")):
        ended, _, times = part.partition(" x")
        counted[ended] += int(times or 1)
    return Meaning(scenario, tuple(recorded.split()), counted, Counter(failures))


HARD_LIMIT = "TimeLimitExceeded hard_time_limit"
KILLED = "WorkerLostError oom_or_signal"
LOST = "WorkerLostError worker_lost"

MEANINGS = (
    meaning("success", ALL, "add succeeded"),
    meaning("success_rabbitmq", ALL, "add succeeded"),
    meaning("success_late_ack", ALL, "wait_late succeeded"),
    meaning("failure", ALL, "pay failed", "CardDeclinedError exception"),
    meaning("failure_chained", ALL, "refund failed", "ValueError exception"),
    meaning("failure_unpicklable", ALL, "order failed", "OutOfStockError exception"),
    meaning("retry", ALL, "fetch retried, fetch succeeded"),
    meaning("retry_rabbitmq", ALL, "fetch retried, fetch succeeded"),
    meaning("retry_without_exception", ALL, "poll retried, poll succeeded"),
    meaning("retries_exhausted", ALL, "poll retried, poll failed", "MaxRetriesExceededError retries_exhausted"),
    meaning("retries_exhausted_exc", ALL, "fetch retried, fetch failed", "KeyError retries_exhausted"),
    meaning("retries_exhausted_autoretry", ALL, "autofetch retried, autofetch failed", "KeyError retries_exhausted"),
    meaning("soft_limit", PREFORK, "soft failed", "SoftTimeLimitExceeded soft_time_limit"),
    meaning("soft_limit", f"{THREADS} {GREEN} {SOLO}", "soft succeeded"),  # these pools know no soft limit
    meaning("soft_limit_caught", ALL, "soft_caught succeeded"),
    meaning("hard_limit", f"{PREFORK} 5.7/gevent", "hard failed", HARD_LIMIT),
    meaning("hard_limit", "5.[56]/gevent", "hard vanished"),  # the greenlet is killed, and nothing said
    meaning("hard_limit", f"{THREADS} {SOLO}", "hard succeeded"),  # these pools know no hard limit
    meaning("hard_limit_rabbitmq", ALL, "hard failed", HARD_LIMIT),
    # Celery 5.7 says both, in this order on prefork and in the other on gevent: the first is the outcome.
    meaning("hard_limit_late_ack", "5.7/prefork", "hard_late rejected, hard_late succeeded", HARD_LIMIT),
    meaning("hard_limit_late_ack", "5.7/gevent", "hard_late failed, hard_late succeeded", HARD_LIMIT),
    meaning("hard_limit_late_ack", "5.[56]/prefork", "hard_late rejected, hard_late succeeded"),
    meaning("hard_limit_late_ack", "5.[56]/gevent", "hard_late vanished"),
    meaning("soft_and_hard_limit", f"{PREFORK} 5.7/gevent", "soft_hard failed", HARD_LIMIT),
    meaning("soft_and_hard_limit", "5.[56]/gevent", "soft_hard vanished"),
    meaning("soft_and_hard_limit", f"{THREADS} {SOLO}", "soft_hard succeeded"),
    meaning("sigkill", PREFORK, "sigkill failed", KILLED),
    meaning("sigkill", GREEN, "sigkill vanished"),  # with its worker
    meaning("sigkill", f"{SOLO} {THREADS}", ""),  # the worker is dead before it can say that the task started
    meaning("segfault", ALL, "segfault failed", KILLED),
    meaning("oom_kill", ALL, "wait failed", KILLED),
    meaning("idle_child_killed", ALL, "add succeeded x2"),
    meaning("memory_error", f"{PREFORK} {SOLO} 5.[56]/gevent", "memory vanished"),
    meaning("memory_error", f"{THREADS} 5.7/gevent", "memory ignored"),  # cannot be told from Ignore in these pools
    meaning("sigkill_late_ack_reject", ALL, "sigkill_late rejected, sigkill_late succeeded"),
    meaning("sigkill_retry", ALL, "sigkill_retry retried, sigkill_retry succeeded"),
    meaning("sys_exit", "5.7/prefork", "leave failed", LOST),
    meaning("sys_exit", f"5.[56]/prefork {THREADS} {GREEN} {SOLO}", "leave vanished"),
    meaning("os_exit", PREFORK, "leave_now failed", LOST),
    meaning("os_exit", GREEN, "leave_now vanished"),
    meaning("os_exit", f"{SOLO} {THREADS}", ""),
    meaning("revoked_before_received", ALL, "add revoked"),
    meaning("revoked_before_start", PREFORK, "wait succeeded, add revoked"),
    meaning(
        "revoked_before_start", f"{THREADS} {GREEN} {SOLO}", "wait succeeded, add succeeded"
    ),  # these ask too early
    meaning("revoked_before_eta", ALL, "add revoked"),
    meaning("revoked_terminate", f"{PREFORK} {GREEN}", "wait terminated"),
    meaning("revoked_terminate", f"{THREADS} {SOLO}", "wait succeeded"),  # these pools cannot end a task
    meaning("revoked_terminate_sigkill", ALL, "wait terminated"),
    meaning("expired", ALL, "add expired"),
    meaning("expired_reserved", PREFORK, "wait succeeded, add expired"),
    meaning("expired_reserved", f"{THREADS} {GREEN} {SOLO}", "wait succeeded, add succeeded"),
    meaning("expires_in_time", ALL, "add succeeded"),
    meaning("reject", ALL, "reject rejected"),
    meaning("reject_requeue", ALL, "reject rejected, reject succeeded"),
    meaning("reject_early_ack", NEW, "reject_early rejected"),
    meaning("reject_early_ack", OLDER, "reject_early vanished"),  # nothing is said
    meaning("ignore", NEW, "ignore ignored"),
    meaning("ignore", OLDER, "ignore vanished"),  # cannot be told from sys.exit
    meaning("replace", ALL, "replace ignored, add succeeded"),
    meaning("replace_chain", ALL, "replace_chain ignored, add succeeded x2"),
    meaning("unregistered", ALL, "gone unregistered", "NotRegistered unregistered"),
    meaning("success_then_lost", NEW, "lost_after_success succeeded"),
    meaning("success_then_lost", OLDER, "lost_after_success failed", KILLED),
    meaning("custom_event", ALL, "pack succeeded"),
    meaning("send_events_off", ALL, ""),
    meaning("result_not_encodable", ALL, "unprintable failed", "EncodeError encode_error"),
    meaning("eta", ALL, "add succeeded"),
    meaning("chain", ALL, "add succeeded x2"),
    meaning("group", ALL, "add succeeded x3"),
    meaning("chord", ALL, "add succeeded x3, total succeeded"),
    meaning("rapid", ALL, "add succeeded x10"),
    meaning("busy", ALL, "wait succeeded x3"),
    meaning("warm_shutdown", ALL, "wait succeeded"),
    meaning("cold_shutdown", f"{PREFORK} {GREEN}", "wait cancelled"),
    meaning("cold_shutdown", THREADS, "wait succeeded"),  # it cannot be ended
    meaning("cold_shutdown", "5.7/solo", "wait vanished"),
    meaning("cold_shutdown", "5.[56]/solo", "wait failed", "NotImplementedError exception"),  # so says Celery
    meaning("cold_shutdown_late_ack", ALL, "wait_late cancelled"),
    meaning("worker_killed", f"{PREFORK} {THREADS} {GREEN}", "wait vanished"),
    meaning("worker_killed", SOLO, ""),
    meaning("worker_restart", ALL, "add succeeded x2"),
    meaning("worker_killed_restart", ALL, "add succeeded x2"),
    meaning("connection_loss", ALL, "wait_late succeeded"),
    meaning("connection_loss_cancel", f"{PREFORK} {THREADS} {SOLO}", "wait_late succeeded"),
    meaning("connection_loss_cancel", GREEN, "wait_late cancelled, wait_late succeeded"),
    meaning("visibility_timeout", ALL, "wait_late succeeded"),
    meaning("without_task_sent", ALL, "add succeeded, pay failed", "CardDeclinedError exception"),
    meaning("time_zone", ALL, "add succeeded"),
)

NAMES = [
    name
    for file in recordings()
    if not fnmatch(name := str(file.relative_to(RECORDINGS).with_suffix("")), "5.[56]/threads/*")
]


def counted(samples: Samples, family: str, *labels: str) -> Counter[str]:
    """The samples of a counter that are not 0, by some of their labels; the shop's prefix is left out."""
    found: Counter[str] = Counter()
    for (name, pairs), value in samples.items():
        if name == family and value:
            found[" ".join(dict(pairs)[label].removeprefix("shop.") for label in labels)] += int(value)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_means_what_its_scenario_means(name: str) -> None:
    """Attempts end as the scenario says, failures name their cause, and the queue is that of the message."""
    where, scenario = name.rsplit("/", 1)
    (expected,) = [
        each for each in MEANINGS if each.scenario == scenario and any(fnmatch(where, on) for on in each.recorded)
    ]

    samples = Replay(worker_timeout=20).play(RECORDINGS / f"{name}.jsonl").wait(35).samples()

    assert counted(samples, "celery_task_outcomes_total", "task", "outcome") == expected.outcomes
    assert counted(samples, "celery_task_failures_total", "exception", "cause") == expected.failures
    queue = "unknown" if scenario == "without_task_sent" else "celery"
    assert set(counted(samples, "celery_task_outcomes_total", "queue")) <= {queue}
