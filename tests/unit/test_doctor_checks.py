"""Each check of the doctor finds what is bad, leaves alone what is good, and says when it cannot tell."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import pytest

from celery_observe.doctor.evidence import (
    Broker,
    ConsumedQueue,
    Evidence,
    HeardTask,
    HeardWorker,
    OutputLimit,
    Peek,
    Queue,
    Running,
    Scheduled,
)
from celery_observe.doctor.registry import diagnose, registered
from celery_observe.findings import Finding, Severity
from unit.healthy import (
    HEALTHY,
    HEALTHY_RABBITMQ,
    NOTHING,
    NOW,
    WORKER,
    app,
    but,
    conf,
    declared,
    heard,
    heard_worker,
    redis,
    task,
    told,
    worker,
)

CRITICAL, WARNING, INFO = Severity
DEAF = heard(workers={WORKER: heard_worker(), "deaf@h": heard_worker()})
"""One worker sends events and does not answer."""
BOTH = frozenset({"gen1@web", "gen2@web"})


class Bad(NamedTuple):
    """A system in which a check finds something: how severe, and what the finding says somewhere."""

    evidence: Evidence
    severity: Severity
    says: str


def remote(**changes: object) -> Evidence:
    """A system whose broker is on another machine."""
    broker = {"url": "redis://:***@h:6379/0", "transport": "redis", "hosts": ("h",), "tls": True, "has_password": True}
    return but(broker=Broker(**(broker | changes)))  # type: ignore[arg-type]  # as the tests give them


def on_rabbitmq(**changes: object) -> Evidence:
    """A system on RabbitMQ that differs in its worker."""
    return but(HEALTHY_RABBITMQ, workers=(worker(**changes),), app=None)


def sent(name: str, queue: str) -> Evidence:
    """A system in which a task was sent to a queue."""
    tasks = {name: HeardTask(sent=1, queues=frozenset({queue}))}
    return but(heard=heard(tasks=tasks))


BAD: dict[str, list[Bad]] = {
    "acknowledgement-timeout": [
        Bad(on_rabbitmq(scheduled=(Scheduled("shop.charge", NOW + 7200),)), WARNING, "consumer_timeout = 14400000"),
        Bad(on_rabbitmq(running=(Running("shop.sum", NOW - 3600, acknowledged=False),)), WARNING, "3600 s: shop.sum"),
    ],
    "acks-late": [Bad(declared(reject_on_worker_lost=False), WARNING, "reject_on_worker_lost is off: shop.charge")],
    "broker-exposed": [
        Bad(remote(has_password=False), CRITICAL, "no password"),
        Bad(remote(user="guest"), CRITICAL, "guest"),
        Bad(remote(tls=False), WARNING, "without TLS"),
    ],
    "broker-unreachable": [Bad(but(NOTHING, missing={"broker": "refused"}), CRITICAL, "refused")],
    "child-recycling": [
        Bad(but(workers=(worker(max_tasks=None, conf=conf(worker_max_tasks_per_child=None)),)), INFO, "never replaced")
    ],
    "chord-backend": [
        Bad(told(result_backend="rpc://"), WARNING, "rpc does not support chords"),
        Bad(told(result_backend=None), INFO, "no result back end"),
        Bad(but(told(result_backend="rpc://"), heard=heard(tasks={"celery.chord": HeardTask()})), CRITICAL, "rpc"),
        Bad(
            but(told(task_ignore_result=True), heard=heard(tasks={"celery.chord_unlock": HeardTask(received=4)})),
            CRITICAL,
            "bodies never run",
        ),
        Bad(
            but(heard=heard(tasks={"celery.chord_unlock": HeardTask(received=4)})), INFO, "4 celery.chord_unlock in 5 s"
        ),
    ],
    "clock-skew": [
        Bad(but(heard=heard(workers={WORKER: heard_worker(lag=-30.0)})), WARNING, "30.0 s ahead of the broker"),
        Bad(but(heard=heard(workers={WORKER: heard_worker(lag=30.0)})), WARNING, "30.0 s behind the broker"),
        Bad(but(redis=redis(skew=30.0), heard=heard(workers={WORKER: heard_worker(lag=30.0)})), INFO, "ours is 30.0 s"),
        Bad(
            but(HEALTHY_RABBITMQ, heard=heard(workers={WORKER: heard_worker(lag=9.0)})), WARNING, "behind this machine"
        ),
    ],
    "double-counting": [
        Bad(but(app=app(families="all")), WARNING, 'families="process"'),
        Bad(but(app=None, redis=redis(peeks=(Peek(queue="celery", stamped=True),))), INFO, "do not both"),
    ],
    "duplicate-names": [
        Bad(but(heard=heard(workers={WORKER: heard_worker(pids=frozenset({1, 2}))})), WARNING, f"process: {WORKER}")
    ],
    "early-acks": [Bad(declared(acks_late=False), INFO, "1 of 1 tasks")],
    "idempotency": [Bad(HEALTHY, INFO, "only their authors know")],
    "mixed-versions": [
        Bad(
            but(heard=heard(workers={"a@h": heard_worker(), "b@h": heard_worker(version="5.6.3")})),
            WARNING,
            "5.6.3: 1 (b@h); 5.7.0: 1 (a@h)",
        ),
        Bad(
            but(heard=heard(workers={"a@h": heard_worker(), "b@h": heard_worker(version="5.7.10")})),
            INFO,
            "celery==5.7.10 everywhere",
        ),
    ],
    "orphan-keys": [
        Bad(but(redis=redis(orphans=3)), INFO, "3 named"),
        Bad(but(redis=redis(orphans=100_000)), WARNING, "100000 named"),
    ],
    "pickle": [
        Bad(told(accept_content=["json", "pickle"]), CRITICAL, f"of the app, {WORKER} has pickle"),
        Bad(told(accept_content=["application/x-python-serialize"]), CRITICAL, "Pickle is accepted"),
        Bad(told(result_accept_content=["pickle"]), CRITICAL, "Pickle is accepted"),
        Bad(told(task_serializer="pickle"), WARNING, "task_serializer of the app"),
        Bad(
            but(redis=redis(peeks=(Peek(queue="q", content_types=frozenset({"application/x-python-serialize"})),))),
            WARNING,
            "messages in q",
        ),
    ],
    "pool-limits": [
        Bad(but(workers=(worker(pool="threads", limits=None),)), WARNING, "threads pool enforces no time limit"),
        Bad(
            but(workers=(worker(pool="solo", limits=None, tasks={}, conf=conf(task_time_limit=9)),)),
            WARNING,
            "task_time_limit = 9; on w@h",
        ),
        Bad(
            but(workers=(worker(pool="gevent", limits=None, tasks={"a": task(soft_time_limit=2.0)}),)),
            WARNING,
            "no soft time limit",
        ),
    ],
    "prefetch": [
        Bad(told(worker_prefetch_multiplier=0), WARNING, "as many messages as there are"),
        Bad(
            but(
                workers=(
                    worker(
                        conf=conf(worker_prefetch_multiplier=4),
                        running=(Running("shop.report", NOW - 42.0, acknowledged=True),),
                        reserved=7,
                    ),
                )
            ),
            WARNING,
            "shop.report ran for 42 s, 7 messages held; multiplier 4",
        ),
        Bad(
            but(
                told(worker_prefetch_multiplier=4),
                workers=(worker(conf=conf(worker_prefetch_multiplier=4), running=()),),
                heard=heard(tasks={"shop.report": HeardTask(longest=77.0)}),
            ),
            WARNING,
            "a task ran for 77 s",
        ),
    ],
    "priorities": [
        Bad(told(task_queue_max_priority=10), WARNING, "nothing on Redis"),
        Bad(but(workers=(worker(queues=(ConsumedQueue("celery", max_priority=10),)),)), WARNING, "queue celery"),
        Bad(declared(priority=5), INFO, "5 of shop.charge; steps [0, 3, 6, 9]"),
        Bad(on_rabbitmq(tasks={"shop.charge": task(priority=5)}), WARNING, "without x-max-priority: celery"),
        Bad(on_rabbitmq(conf=conf(task_default_priority=3)), WARNING, "task_default_priority of w@h"),
        Bad(on_rabbitmq(queues=(ConsumedQueue("celery", 10, "quorum"),)), WARNING, "Quorum queues do not heed"),
    ],
    "queue-consumers": [
        Bad(but(queues=(Queue(name="mail", waiting=40, consumers=0),)), CRITICAL, "40 messages in mail"),
        Bad(but(queues=(Queue(name="old", consumers=0),)), INFO, "old"),
        Bad(
            but(queues=(Queue(name="mail", waiting=40, consumers=0),), heard=DEAF),
            WARNING,
            "but deaf@h may, and did not answer",
        ),
        Bad(
            but(HEALTHY_RABBITMQ, queues=(Queue(name="mail", waiting=4, consumers=0),), heard=DEAF), CRITICAL, "in mail"
        ),
        Bad(
            but(NOTHING, queues=(Queue(name="a", consumers=2), Queue(name="mail", waiting=1, consumers=0))),
            CRITICAL,
            "-Q mail",
        ),
    ],
    "redis-eviction": [
        Bad(but(redis=redis(policy="allkeys-lru", max_memory=2**30, evicted=7)), CRITICAL, "1024 MiB, 7 keys evicted"),
        Bad(but(redis=redis(policy="allkeys-random")), INFO, "not set yet"),
    ],
    "redis-output-limit": [
        Bad(but(redis=redis(output_limit=OutputLimit(2**20, 0, 0))), WARNING, "hard 1.0 MiB"),
        Bad(but(redis=redis(output_limit=OutputLimit(2**25, 2**20, 60))), WARNING, "soft 1.0 MiB"),
        Bad(but(redis=redis(output_limit=OutputLimit(2**25, 2**23, 5))), WARNING, "for 5 s"),
        Bad(but(redis=redis(output_limit=OutputLimit(0, 0, 0))), INFO, "not limited"),
        Bad(but(redis=redis(disconnected=4)), WARNING, "is 4 since its start"),
    ],
    "redis-persistence": [
        Bad(but(redis=redis(appends=False, save="")), WARNING, "nothing on disk"),
        Bad(but(redis=redis(appends=False)), INFO, "snapshots only"),
    ],
    "result-expiry": [
        Bad(told(result_expires=None), WARNING, "kept for ever"),
        Bad(told(result_expires=0), WARNING, "kept for ever"),
        Bad(told(result_expires=86_400 * 90), INFO, "90 days"),
        Bad(told(result_backend="db+postgresql://u:p@h/d"), INFO, "cleaned by celery.backend_cleanup"),
    ],
    "retries": [
        Bad(declared(max_retries=None), WARNING, "max_retries is None: shop.charge"),
        Bad(declared(retries_by_itself=True), INFO, "retry_backoff=True"),
    ],
    "routes": [
        Bad(but(app=app(routes={"mail.*": "mial"})), WARNING, "mail.* to mial"),
        Bad(but(app=app(default_queue="default")), WARNING, "any other task to default"),
        Bad(sent("mail.send", "mial"), CRITICAL, "mail.send to mial"),
        Bad(
            but(heard=msgspec.structs.replace(DEAF, tasks={"mail.send": HeardTask(queues=frozenset({"mail"}))})),
            WARNING,
            "mail.send to mail; but deaf@h may",
        ),
    ],
    "sent-events": [
        Bad(told(task_send_sent_event=False), WARNING, f"False for the app, {WORKER}"),
        Bad(but(heard=heard(tasks={"shop.charge": HeardTask(received=3)})), INFO, "never announced: shop.charge"),
    ],
    "silent-dispatcher": [
        Bad(but(heard=heard(workers={})), WARNING, f"asked for a heartbeat: {WORKER}"),
        Bad(but(heard=heard(workers={})), WARNING, "--event-exchange"),
        Bad(but(heard=heard(workers={"other@h": heard_worker()})), WARNING, "drop --without-heartbeat"),
    ],
    "task-events": [
        Bad(
            but(heard=heard(workers={WORKER: HeardWorker(heartbeats=2)})), WARNING, "5 tasks accepted, no task-started"
        ),
        Bad(
            but(
                workers=(worker(pool="threads", accepted=17),),
                heard=heard(workers={WORKER: heard_worker(started=5)}),
            ),
            WARNING,
            "17 tasks accepted, 5 task-started arrived",
        ),
    ],
    "time-limits": [
        Bad(
            but(workers=(worker(limits=(0.0, 0.0), tasks={"shop.charge": task(time_limit=None)}),)),
            WARNING,
            "no time limit: shop.charge",
        )
    ],
    "two-beats": [
        Bad(but(beats=2), CRITICAL, "2 answers to ping"),
        Bad(but(beats=2, app=app(conf=conf(beat_scheduler="redbeat.RedBeatScheduler"))), INFO, "has a lock"),
        Bad(
            but(beats=None, heard=heard(tasks={"shop.nightly": HeardTask(senders=BOTH)})), WARNING, "sender of nightly"
        ),
    ],
    "unregistered-tasks": [
        Bad(sent("shop.new", "celery"), CRITICAL, "shop.new in celery"),
        Bad(
            but(redis=redis(peeks=(Peek(queue="celery", tasks=frozenset({"shop.old"})),))),
            CRITICAL,
            "shop.old in celery",
        ),
        Bad(but(heard=heard(unregistered=2)), CRITICAL, "2 failed with NotRegistered"),
    ],
    "visibility-timeout": [
        Bad(but(workers=(worker(scheduled=(Scheduled("shop.charge", NOW + 7200),)),)), CRITICAL, "7200 s away"),
        Bad(
            but(workers=(worker(running=(Running("shop.sum", NOW - 4000, acknowledged=False),)),)),
            CRITICAL,
            "4000 s, not acknowledged",
        ),
        Bad(but(queues=(Queue(name="celery", consumers=1, beyond=2),)), CRITICAL, "2 entries of unacked"),
        Bad(declared(default_retry_delay=7200.0), WARNING, "up to 7200 s"),
        Bad(
            declared(retries_by_itself=True, retry_backoff=1.0, retry_backoff_max=5000.0),
            WARNING,
            "up to 5000 s, visibility_timeout 3600 s: shop.charge",
        ),
        Bad(declared(time_limit=7200.0), WARNING, "time_limit up to 7200 s"),
        Bad(
            but(app=app(conf=conf(broker_transport_options={"visibility_timeout": 43_200}))),
            WARNING,
            "from 3600 s to 43200 s",
        ),
        Bad(
            but(
                told(broker_transport_options={"visibility_timeout": 60}),
                workers=(
                    worker(
                        conf=conf(broker_transport_options={"visibility_timeout": 60}),
                        scheduled=(Scheduled("shop.charge", NOW + 90),),
                    ),
                ),
            ),
            CRITICAL,
            "90 s away, visibility_timeout 60 s",
        ),
    ],
    "workers-answer": [
        Bad(but(NOTHING), WARNING, "No worker answers"),
        Bad(
            but(heard=heard(workers={WORKER: heard_worker(), "deaf@h": heard_worker()})),
            WARNING,
            "1 silent: deaf@h",
        ),
    ],
}
GOOD: dict[str, list[Evidence]] = {
    "acks-late": [declared(acks_late=False, reject_on_worker_lost=False)],
    "acknowledgement-timeout": [on_rabbitmq(running=(Running("shop.sum", NOW - 9999, acknowledged=True),))],
    "broker-exposed": [remote(), but(HEALTHY_RABBITMQ, broker=Broker(url="amqp://localhost//", transport="amqp"))],
    "chord-backend": [but(heard=heard(tasks={"celery.chord": HeardTask()}))],
    "clock-skew": [but(redis=redis(skew=1.5), heard=heard(workers={WORKER: heard_worker(lag=1.6)}))],
    "double-counting": [
        but(app=app(families="process")),
        but(app=app(families="all"), observers=0),
        but(redis=redis(peeks=(Peek(queue="celery", stamped=True),)), observers=0),
    ],
    "idempotency": [declared(acks_late=False)],
    "pool-limits": [
        but(workers=(worker(pool="threads", limits=None, tasks={"a": task(time_limit=None)}),)),
        but(workers=(worker(pool="gevent", limits=None),)),
    ],
    "prefetch": [
        told(worker_prefetch_multiplier=4),
        but(workers=(worker(running=(Running("shop.report", NOW - 42.0, acknowledged=True),)),)),
    ],
    "priorities": [
        declared(priority=6),
        on_rabbitmq(tasks={"a": task(priority=5)}, queues=(ConsumedQueue("celery", max_priority=10),)),
        told(task_default_priority=4, broker_transport_options={"priority_steps": list(range(10))}),
    ],
    "result-expiry": [told(result_backend=None, result_expires=None), told(result_backend="rpc://", result_expires=0)],
    "retries": [declared(retries_by_itself=True, retry_backoff=1.0)],
    "routes": [
        but(
            sent("mail.send", "mail"),
            queues=(Queue(name="mail", consumers=1), Queue(name="celery", consumers=1)),
        )
    ],
    "silent-dispatcher": [but(heard=heard(seconds=0.5, workers={}))],
    "task-events": [
        but(workers=(worker(accepted=0),), heard=heard(workers={WORKER: HeardWorker(heartbeats=2)})),
        but(workers=(worker(accepted=100),), heard=heard(workers={WORKER: heard_worker(started=95)})),
        but(workers=(worker(accepted=3),), heard=heard(workers={WORKER: heard_worker(started=1)})),
    ],
    "time-limits": [but(workers=(worker(limits=(0.0, 60.0), tasks={"a": task(time_limit=None)}),))],
    "unregistered-tasks": [sent("celery.backend_cleanup", "celery"), sent("others.task", "of_another_app")],
    "visibility-timeout": [
        declared(acks_late=False, time_limit=7200.0),
        declared(retry_backoff_max=5000.0),
        but(workers=(worker(running=(Running("shop.sum", NOW - 4000, acknowledged=True),)),)),
    ],
}
"""Beside the healthy system: what is near to bad, and is not."""
RABBITMQ_ONLY = {"acknowledgement-timeout"}


def of(name: str, evidence: Evidence) -> list[Finding]:
    """What one check finds."""
    return [finding for finding in diagnose(evidence).findings if finding.rule.name == name]


def test_every_check_has_its_bad() -> None:
    """A check that nobody saw finding anything is none."""
    assert [each.rule.name for each in registered()] == sorted(BAD)


@pytest.mark.parametrize(("name", "bad"), [(name, bad) for name, cases in BAD.items() for bad in cases])
def test_a_check_finds_what_is_bad(name: str, bad: Bad) -> None:
    """With evidence on one line, and a fix."""
    found = of(name, bad.evidence)

    matching = [each for each in found if bad.says in f"{each.message} {each.evidence} {each.fix}"]
    assert [each.severity for each in matching] == [bad.severity], found
    assert all(each.message and each.evidence and each.fix and "\n" not in each.evidence for each in found)


@pytest.mark.parametrize("system", [HEALTHY, HEALTHY_RABBITMQ], ids=["redis", "rabbitmq"])
def test_a_healthy_system_has_nothing_above_info(system: Evidence) -> None:
    """But the list of tasks to go through."""
    assert {finding.rule.name for finding in diagnose(system).findings} == {"idempotency"}


@pytest.mark.parametrize(("name", "good"), [(name, good) for name, cases in GOOD.items() for good in cases])
def test_a_check_leaves_alone_what_is_good(name: str, good: Evidence) -> None:
    """However near it is to what is bad."""
    assert not of(name, good)


@pytest.mark.parametrize("nothing", [NOTHING, but(NOTHING, broker=HEALTHY_RABBITMQ.broker)], ids=["redis", "rabbitmq"])
def test_checks_say_that_they_could_not_look(nothing: Evidence) -> None:
    """None passes for want of evidence, but those that look at nothing else than the URL, or at what is missing."""
    diagnosis = diagnose(nothing)

    unchecked = {each.rule.name for each in diagnosis.unchecked}
    judged = {"broker-exposed", "broker-unreachable", "workers-answer"}
    assert {rule.name for rule in diagnosis.rules} - unchecked == judged
    assert [finding.rule.name for finding in diagnosis.findings] == ["workers-answer"]
    assert all(each.reason for each in diagnosis.unchecked)


def test_what_is_asked_of_some_workers_only_is_said() -> None:
    """Nobody takes 100 for 1000."""
    partly = diagnose(but(missing={"details": "100 of 1000 workers were asked for settings and tasks"}))

    assert [each.rule.name for each in partly.unchecked] == ["workers-answer"]


def test_an_idle_worker_is_not_judged() -> None:
    """Whether it was started with -E cannot be asked."""
    idle = but(
        workers=(worker(accepted=0, conf=conf(worker_send_task_events=False)),),
        heard=heard(workers={WORKER: HeardWorker(heartbeats=2)}),
    )

    (unknown,) = [each for each in diagnose(idle).unchecked if each.rule.name == "task-events"]
    assert not of("task-events", idle)
    assert unknown.reason.startswith(WORKER)


def test_checks_are_for_the_brokers_that_they_make_sense_for() -> None:
    """Nothing of Redis is said of RabbitMQ."""
    names = {rule.name for rule in diagnose(HEALTHY_RABBITMQ).rules}

    assert not [name for name in names if name.startswith("redis")]
    assert names >= RABBITMQ_ONLY
    assert not RABBITMQ_ONLY & {rule.name for rule in diagnose(HEALTHY).rules}
