"""The table of scenarios: what is played, on which pools, and why it is worth a recording."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from celery import chain, chord, group

from recordings import shop

if TYPE_CHECKING:
    from recordings.stage import Stage

ALL = ("prefork", "threads", "gevent", "solo")
PREFORK = ("prefork",)
VERSIONS = ("5.7.0", "5.6.3", "5.5.3")
LATEST = ("5.7.0",)

#: Why a scenario is not recorded on some pools.
NO_CHILD = "the task runs in the worker's main process: there is no child to lose"
SAME = "the pool makes no difference"


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One thing that happens to tasks and workers."""

    name: str
    description: str
    play: Callable[[Stage], object]
    pools: tuple[str, ...] = ALL
    versions: tuple[str, ...] = VERSIONS
    #: Why the pools or versions left out are left out.
    skipped: str = ""
    #: Seconds that pass after the play before the recording may end.
    lasts: float = 1.0
    broker: str = "redis"
    #: Workers that are online before the play begins.
    workers: tuple[str, ...] = ("worker",)
    concurrency: int = 2
    options: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


def revoke_unseen(_: Stage) -> None:
    """Revoke an id before anything is published under it."""
    task_id = str(uuid.uuid4())
    while not shop.app.control.ping(timeout=0.5):
        pass
    shop.app.control.revoke(task_id)
    time.sleep(0.5)
    shop.add.apply_async((2, 3), task_id=task_id)


def revoke_reserved(stage: Stage) -> None:
    """Revoke a task that waits in the worker behind another."""
    shop.wait.delay(2)
    stage.wait_for("task-started", seconds=2)
    waiting = shop.add.delay(2, 3)
    stage.wait_for("task-received", 2, seconds=2)
    waiting.revoke()


def revoke_scheduled(stage: Stage) -> None:
    """Revoke a task that waits for its ETA."""
    later = shop.add.apply_async((2, 3), countdown=1.5)
    stage.wait_for("task-received")
    later.revoke()


def terminate(number: str) -> Callable[[Stage], None]:
    """Revoke a running task with a signal to its process."""

    def play(stage: Stage) -> None:
        running = shop.wait.delay(3)
        stage.wait_for("task-started", seconds=2)
        running.revoke(terminate=True, signal=number)

    return play


def expire_in_queue(stage: Stage) -> None:
    """Let a message expire before any worker is there."""
    shop.add.apply_async((2, 3), expires=0.5)
    time.sleep(1)
    stage.start_worker()


def expire_reserved(stage: Stage) -> None:
    """Let a task expire while it waits in the worker behind another."""
    shop.wait.delay(2)
    stage.wait_for("task-started", seconds=2)
    shop.add.apply_async((2, 3), expires=1)


def kill_child(stage: Stage) -> None:
    """Kill the child that runs a task from outside, as the kernel does when memory is short."""
    shop.wait.delay(5)
    stage.wait_for("task-started")
    os.kill(stage.running_pid(), signal.SIGKILL)


def kill_idle_child(stage: Stage) -> None:
    """Kill a child that has no task to run, and run one afterwards."""
    shop.add.delay(2, 3)
    stage.wait_for("task-succeeded")
    [stats] = shop.app.control.inspect().stats().values()
    os.kill(stats["pool"]["processes"][0], signal.SIGKILL)
    time.sleep(2)
    shop.add.delay(2, 3)


def stop_worker(number: signal.Signals, task: str = "wait", seconds: float = 2) -> Callable[[Stage], None]:
    """Send a signal to the worker while a task runs."""

    def play(stage: Stage) -> None:
        getattr(shop, task).delay(seconds)
        stage.wait_for("task-started", seconds=2)
        stage.workers["worker"].send_signal(number)
        with suppress(subprocess.TimeoutExpired):  # a solo worker before 5.7 hangs after SIGQUIT
            stage.workers["worker"].wait(10)

    return play


def restart_worker(number: signal.Signals) -> Callable[[Stage], None]:
    """End the worker and start it again under the same name, with a task before and after."""

    def play(stage: Stage) -> None:
        shop.add.delay(2, 3)
        stage.wait_for("task-succeeded")
        stage.workers["worker"].send_signal(number)
        stage.workers["worker"].wait(30)
        stage.start_worker()
        shop.add.delay(2, 3)

    return play


def lose_connection(stage: Stage) -> None:
    """Cut the worker's connections while a task with late acknowledgement runs."""
    shop.wait_late.delay(4)
    stage.wait_for("task-started", seconds=2)
    shop.app.backend.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def outlive_visibility(stage: Stage) -> None:
    """Start a second worker while a task outlives the visibility timeout: a worker restores on start."""
    shop.wait_late.delay(8)
    time.sleep(3)
    stage.start_worker("second")


def publish_many(_: Stage) -> None:
    """Publish tasks faster than the worker tells of them."""
    for number in range(10):
        shop.add.delay(number, 1)


def succeed_and_fail(_: Stage) -> None:
    """Publish a task that succeeds and one that fails."""
    shop.add.delay(2, 3)
    shop.pay.delay()


def heartbeat_while_busy(stage: Stage) -> None:
    """Keep two tasks running over several heartbeats, and a third waiting."""
    for _ in range(3):
        shop.wait.delay(5)
    stage.wait_for("task-started", 2)


CANCEL = {"worker_cancel_long_running_tasks_on_connection_loss": True}
VISIBILITY = {"broker_transport_options": {"visibility_timeout": 2}, "worker_prefetch_multiplier": 1}

_TABLE = (
    Scenario(
        name="success",
        description="A task returns a value.",
        play=lambda _: shop.add.delay(2, 3),
    ),
    Scenario(
        name="success_late_ack",
        description="A task returns a value; its message is acknowledged afterwards.",
        play=lambda _: shop.wait_late.delay(0.2),
        pools=PREFORK,
        skipped=SAME,
    ),
    Scenario(
        name="failure",
        description="A task raises an exception of the application's own.",
        play=lambda _: shop.pay.delay(),
    ),
    Scenario(
        name="failure_chained",
        description="A task raises one exception from another.",
        play=lambda _: shop.refund.delay(),
    ),
    Scenario(
        name="failure_unpicklable",
        description="A task raises an exception that cannot be pickled.",
        play=lambda _: shop.order.delay(),
    ),
    Scenario(
        name="retry",
        description="A task fails, retries with the exception at hand, and succeeds.",
        play=lambda _: shop.fetch.delay(1),
        lasts=2,
    ),
    Scenario(
        name="retry_without_exception",
        description="A task retries although nothing was raised, and succeeds.",
        play=lambda _: shop.poll.delay(1),
        lasts=2,
    ),
    Scenario(
        name="retries_exhausted",
        description="`raise self.retry()` without an exception, once more than max_retries allows.",
        play=lambda _: shop.poll.delay(9),
        lasts=2,
    ),
    Scenario(
        name="retries_exhausted_exc",
        description="`self.retry(exc=error)`, once more than max_retries allows.",
        play=lambda _: shop.fetch.delay(9),
        lasts=2,
    ),
    Scenario(
        name="retries_exhausted_autoretry",
        description="`autoretry_for`, once more than max_retries allows.",
        play=lambda _: shop.autofetch.delay(),
        lasts=2,
    ),
    Scenario(
        name="soft_limit",
        description="A task runs into its soft time limit.",
        play=lambda _: shop.soft.delay(),
        lasts=4,
    ),
    Scenario(
        name="soft_limit_caught",
        description="A task catches SoftTimeLimitExceeded and returns.",
        play=lambda _: shop.soft_caught.delay(),
        lasts=4,
        pools=PREFORK,
        skipped="no other pool raises SoftTimeLimitExceeded",
    ),
    Scenario(
        name="hard_limit",
        description="A task runs into its hard time limit.",
        play=lambda _: shop.hard.delay(),
        lasts=4,
    ),
    Scenario(
        name="hard_limit_late_ack",
        description="A hard time limit with acks_late, without acks_on_failure_or_timeout; then a fast run.",
        play=lambda _: shop.hard_late.delay(),
        lasts=4,
        pools=("prefork", "gevent"),
        skipped="no other pool has a hard time limit",
    ),
    Scenario(
        name="soft_and_hard_limit",
        description="A task catches SoftTimeLimitExceeded, works on and runs into its hard time limit.",
        play=lambda _: shop.soft_hard.delay(),
        lasts=5,
    ),
    Scenario(
        name="sigkill",
        description="A task kills its own process with SIGKILL; outside prefork that is the worker.",
        play=lambda _: shop.sigkill.delay(),
        lasts=14,
    ),
    Scenario(
        name="segfault",
        description="A task ends its own process with SIGSEGV.",
        play=lambda _: shop.segfault.delay(),
        lasts=14,
        pools=PREFORK,
        skipped=NO_CHILD,
    ),
    Scenario(
        name="oom_kill",
        description="The process of a running task is killed with SIGKILL from outside.",
        play=kill_child,
        lasts=14,
        pools=PREFORK,
        skipped=NO_CHILD,
    ),
    Scenario(
        name="idle_child_killed",
        description="A child that runs nothing is killed with SIGKILL; a task before and one after.",
        play=kill_idle_child,
        lasts=3,
        pools=PREFORK,
        skipped=NO_CHILD,
    ),
    Scenario(
        name="memory_error",
        description="A task asks for more memory than RLIMIT_AS allows: MemoryError.",
        play=lambda _: shop.memory.delay(),
        lasts=3,
    ),
    Scenario(
        name="sigkill_late_ack_reject",
        description="SIGKILL in the first run, with acks_late and reject_on_worker_lost; then a success.",
        play=lambda _: shop.sigkill_late.delay(),
        lasts=14,
        pools=PREFORK,
        skipped=NO_CHILD,
    ),
    Scenario(
        name="sigkill_retry",
        description="SIGKILL in the first run, with retry_on_worker_lost (new in 5.7); then a success.",
        play=lambda _: shop.sigkill_retry.delay(),
        lasts=14,
        pools=PREFORK,
        versions=LATEST,
        skipped=NO_CHILD,
    ),
    Scenario(
        name="sys_exit",
        description="A task calls sys.exit(1).",
        play=lambda _: shop.leave.delay(),
        lasts=4,
    ),
    Scenario(
        name="os_exit",
        description="A task calls os._exit(3); outside prefork that ends the worker.",
        play=lambda _: shop.leave_now.delay(),
        lasts=14,
    ),
    Scenario(
        name="revoked_before_received",
        description="An id is revoked before the task is published.",
        play=revoke_unseen,
        lasts=2,
    ),
    Scenario(
        name="revoked_before_start",
        description="A task is revoked while it waits in the worker behind another.",
        play=revoke_reserved,
        lasts=3,
        concurrency=1,
    ),
    Scenario(
        name="revoked_before_eta",
        description="A task is revoked while it waits for its ETA.",
        play=revoke_scheduled,
        lasts=3,
    ),
    Scenario(
        name="revoked_terminate",
        description="A running task is revoked with terminate=True and SIGTERM.",
        play=terminate("SIGTERM"),
        lasts=4,
    ),
    Scenario(
        name="revoked_terminate_sigkill",
        description="A running task is revoked with terminate=True and SIGKILL.",
        play=terminate("SIGKILL"),
        lasts=4,
        pools=PREFORK,
        skipped=NO_CHILD,
    ),
    Scenario(
        name="expired",
        description="A message expires in the queue, before the worker starts.",
        play=expire_in_queue,
        lasts=2,
        workers=(),
    ),
    Scenario(
        name="expired_reserved",
        description="A task expires while it waits in the worker behind another.",
        play=expire_reserved,
        lasts=3,
        concurrency=1,
    ),
    Scenario(
        name="expires_in_time",
        description="A task with an expiry starts before it.",
        play=lambda _: shop.add.apply_async((2, 3), expires=60),
        pools=PREFORK,
        skipped=SAME,
    ),
    Scenario(
        name="reject",
        description="Reject(requeue=False) with acks_late.",
        play=lambda _: shop.reject.delay(requeue=False),
    ),
    Scenario(
        name="reject_requeue",
        description="Reject(requeue=True) with acks_late; the second run succeeds.",
        play=lambda _: shop.reject.delay(requeue=True),
        lasts=2,
    ),
    Scenario(
        name="reject_early_ack",
        description="Reject(requeue=False) of a message that is acknowledged already.",
        play=lambda _: shop.reject_early.delay(),
    ),
    Scenario(
        name="ignore",
        description="A task raises Ignore.",
        play=lambda _: shop.ignore.delay(),
        lasts=2,
    ),
    Scenario(
        name="replace",
        description="A task is replaced by another, under the same id.",
        play=lambda _: shop.replace.delay(),
        lasts=2,
    ),
    Scenario(
        name="replace_chain",
        description="A task is replaced by a chain of two.",
        play=lambda _: shop.replace_chain.delay(),
        lasts=2,
    ),
    Scenario(
        name="unregistered",
        description="A task that the worker does not know.",
        play=lambda _: shop.app.send_task("shop.gone", (2, 3)),
        lasts=2,
    ),
    Scenario(
        name="success_then_lost",
        description="A child stores its result and is killed in on_success: 5.7 says runtime null.",
        play=lambda _: shop.lost_after_success.delay(),
        lasts=14,
        pools=PREFORK,
        skipped=NO_CHILD,
    ),
    Scenario(
        name="custom_event",
        description="A task sends events of its own, one of them in the group of tasks.",
        play=lambda _: shop.pack.delay(),
    ),
    Scenario(
        name="send_events_off",
        description="A task with send_events=False: only its publisher tells of it.",
        play=lambda _: shop.quiet.delay(),
        lasts=2,
        pools=PREFORK,
        skipped=SAME,
    ),
    Scenario(
        name="result_not_encodable",
        description="A task returns what JSON cannot hold.",
        play=lambda _: shop.unprintable.delay(),
    ),
    Scenario(
        name="eta",
        description="A task with a countdown of one second.",
        play=lambda _: shop.add.apply_async((2, 3), countdown=1),
        lasts=2,
    ),
    Scenario(
        name="chain",
        description="Two tasks in a row.",
        play=lambda _: chain(shop.add.s(2, 3), shop.add.s(4)).delay(),
        lasts=2,
    ),
    Scenario(
        name="group",
        description="Three tasks at once.",
        play=lambda _: group(shop.add.s(number, 1) for number in range(3)).delay(),
        lasts=2,
    ),
    Scenario(
        name="chord",
        description="Three tasks at once and one with their results.",
        play=lambda _: chord([shop.add.s(number, 1) for number in range(3)], shop.total.s()).delay(),
        lasts=2,
    ),
    Scenario(
        name="rapid",
        description="Ten tasks published at once: events come in lists.",
        play=publish_many,
        lasts=2,
    ),
    Scenario(
        name="busy",
        description="Three tasks of five seconds on two slots: heartbeats while they run.",
        play=heartbeat_while_busy,
        lasts=11,
    ),
    Scenario(
        name="warm_shutdown",
        description="SIGTERM to the worker while a task runs: it ends the task first.",
        play=stop_worker(signal.SIGTERM),
    ),
    Scenario(
        name="cold_shutdown",
        description="SIGQUIT to the worker while a task runs.",
        play=stop_worker(signal.SIGQUIT, seconds=5),
    ),
    Scenario(
        name="cold_shutdown_late_ack",
        description="SIGQUIT to the worker while a task with acks_late runs.",
        play=stop_worker(signal.SIGQUIT, "wait_late", 5),
        pools=PREFORK,
        skipped="only prefork can end a task",
    ),
    Scenario(
        name="worker_killed",
        description="SIGKILL to the worker's main process while a task runs.",
        play=stop_worker(signal.SIGKILL, seconds=5),
    ),
    Scenario(
        name="worker_restart",
        description="A worker ends in good order and starts again: same name, another pid.",
        play=restart_worker(signal.SIGTERM),
    ),
    Scenario(
        name="worker_killed_restart",
        description="A worker is killed and starts again: same name, another pid, no worker-offline.",
        play=restart_worker(signal.SIGKILL),
        pools=PREFORK,
        skipped=SAME,
    ),
    Scenario(
        name="connection_loss",
        description="The worker's connections are cut while a task with acks_late runs.",
        play=lose_connection,
        lasts=9,
    ),
    Scenario(
        name="connection_loss_cancel",
        description="The same with worker_cancel_long_running_tasks_on_connection_loss.",
        play=lose_connection,
        lasts=9,
        settings=CANCEL,
    ),
    Scenario(
        name="visibility_timeout",
        description="A task with acks_late outlives the visibility timeout and runs on a second worker too.",
        play=outlive_visibility,
        lasts=12,
        workers=("first",),
        pools=("prefork", "threads", "solo"),
        skipped="a gevent worker restores messages by chance",
        concurrency=1,
        settings=VISIBILITY,
    ),
    Scenario(
        name="without_task_sent",
        description="A success and a failure without task_send_sent_event.",
        play=succeed_and_fail,
        settings={"task_send_sent_event": False},
    ),
    Scenario(
        name="time_zone",
        description="A worker that runs in Tokyo's time zone: utcoffset is -9, timestamps are the epoch's.",
        play=lambda _: shop.add.delay(2, 3),
        environment={"TZ": "Asia/Tokyo"},
        pools=PREFORK,
        skipped=SAME,
    ),
    *(
        Scenario(
            name=f"{name}_rabbitmq",
            description=f"{name} on RabbitMQ.",
            play=play,
            lasts=4,
            broker="rabbitmq",
            pools=PREFORK,
            versions=LATEST,
            skipped="the broker makes no difference to the events, only to their arrival",
        )
        for name, play in {
            "success": lambda _: shop.add.delay(2, 3),
            "retry": lambda _: shop.fetch.delay(1),
            "hard_limit": lambda _: shop.hard.delay(),
        }.items()
    ),
)

#: Every scenario by name.
SCENARIOS = {scenario.name: scenario for scenario in _TABLE}
