"""Is it healthy, and where does it hurt, on one screen."""

from __future__ import annotations

from dataclasses import replace

from grafana_foundation_sdk.builders import dashboard

from dashboards.src.kit import colours
from dashboards.src.kit.boards import board as made
from dashboards.src.kit.links import RUNBOOK
from dashboards.src.kit.panels import PER_SECOND, Column, Look, Panel, graph, listing, number
from dashboards.src.kit.queries import BAD, FINAL, burn, gauge, now, of, quantile, recorded, top

SMALL = Look(width=4, height=4)
ENDED = "job:celery_task_outcomes:rate5m"


def board() -> dashboard.Dashboard:
    """Return the board."""
    rows = {"": [*_work(), *_means(), *_graphs(), *_alerts(), *_worst()]}
    return made(
        "overview", "Is it healthy, and where does it hurt? Each number leads to the board that tells more.", rows
    )


def _work() -> list[Panel]:
    """What is done, and how well."""
    return [
        number(
            "Alerts that fire",
            "Of all rules in alerts/rules. Below they are listed with their runbooks.",
            (f"count({of('ALERTS', _FIRING)}) or vector(0)", ""),
            look=replace(SMALL, steps=((1, colours.BAD),)),
        ),
        number(
            "Attempts that end",
            "Each second, however they end.",
            (recorded(ENDED), ""),
            look=replace(SMALL, board="tasks", unit=PER_SECOND, base=colours.NEUTRAL),
        ),
        number(
            "Failing",
            "Of what ended for good, the part that failed, expired or was unknown to its worker; no retries.",
            (f"{recorded(ENDED, where=BAD)} / ({recorded(ENDED, where=FINAL)} > 0)", ""),
            look=replace(SMALL, board="tasks", unit="percentunit", steps=((0.01, colours.ODD), (0.05, colours.BAD))),
        ),
        number(
            "Greatest burn rate",
            "Of the error budget of any task, over the last hour. At 1 it lasts for the promised window, at 14.4 an "
            "alert pages.",
            (f"max({burn('1h')})", ""),
            look=replace(SMALL, board="tasks", steps=((1, colours.ODD), (14.4, colours.BAD)), decimals=1),
            alerts=["CeleryErrorBudgetBurn"],
        ),
        number(
            "Running now",
            "Attempts that execute at this moment.",
            (now("celery_task_running"), ""),
            look=replace(SMALL, board="tasks", base=colours.NEUTRAL),
        ),
        number(
            "Runtime, p95",
            "Of all attempts of the last five minutes, whatever their outcome.",
            (quantile(0.95, recorded("job:celery_task_runtime_seconds_bucket:rate5m", "le")), ""),
            look=replace(SMALL, board="tasks", unit="s", base=colours.NEUTRAL),
        ),
    ]


def _means() -> list[Panel]:
    """What it is done with, and whether these numbers can be believed."""
    return [
        number(
            "Waiting",
            "Messages in all queues that no worker has taken.",
            (recorded("queue:celery_queue_waiting:sum"), ""),
            look=replace(SMALL, board="queues", base=colours.NEUTRAL),
        ),
        number(
            "Oldest message",
            "How long the oldest message of any queue has waited since it was published, or due.",
            (f"max({of('queue:celery_queue_oldest_age_seconds:max')})", ""),
            look=replace(SMALL, board="queues", unit="s", steps=((300, colours.ODD), (3600, colours.BAD))),
            alerts=["CeleryQueueOldestMessageTooOld"],
        ),
        number(
            "Workers up",
            "Workers whose heartbeats are fresh.",
            (recorded("job:celery_worker_up:count"), ""),
            look=replace(SMALL, board="workers", base=colours.BAD, steps=((1, colours.GOOD),)),
            alerts=["CeleryAllWorkersDown"],
        ),
        number(
            "Workers in trouble",
            "Workers that take no task though messages wait, and those that were lost within ten minutes.",
            (f"{_STALLED} + ({_LOST} or vector(0))", ""),
            look=replace(SMALL, board="workers", steps=((1, colours.BAD),)),
            alerts=["CeleryWorkerStalled", "CeleryWorkerLost"],
        ),
        number(
            "Busy slots",
            "Of the tasks that all workers could execute at once, how many they do.",
            (f"{recorded('worker:celery_worker_active:max')} / {recorded('worker:celery_worker_slots:max')}", ""),
            look=replace(SMALL, board="workers", unit="percentunit", steps=((0.8, colours.ODD), (0.95, colours.BAD))),
            alerts=["CeleryWorkerSaturated"],
        ),
        number(
            "Not observed",
            "Of the tasks that workers say they accepted within the time shown, the part of which we saw nothing. At 0 "
            "the rest can be believed.",
            (f"{_UNOBSERVED} / clamp_min({_ACCEPTED}, 1)", ""),
            look=replace(
                SMALL, board="observer", unit="percentunit", steps=((0.001, colours.ODD), (0.01, colours.BAD))
            ),
            alerts=["CeleryObserverLosing"],
        ),
    ]


def _graphs() -> list[Panel]:
    return [
        graph(
            "How attempts end",
            "Attempts each second, by outcome.",
            (recorded(ENDED, "outcome"), "{{outcome}}"),
            look=Look(unit=PER_SECOND, height=7, colours=colours.OUTCOMES, stacked=True),
        ),
        graph(
            "How long they take, and waited before",
            "The 95th percentile of all tasks together.",
            (quantile(0.95, recorded("job:celery_task_runtime_seconds_bucket:rate5m", "le")), "runtime"),
            (quantile(0.95, recorded("queue:celery_task_queue_wait_seconds_bucket:rate5m", "le")), "wait in the queue"),
            look=Look(unit="s", height=7, colours={"runtime": colours.NEUTRAL, "wait in the queue": colours.ODD}),
        ),
        graph(
            "What waits",
            "Messages in the ten queues with the most of them.",
            (top(recorded("queue:celery_queue_waiting:sum", "queue"), "queue"), "{{queue}}"),
            look=Look(height=7),
            alerts=["CeleryQueueGrowing"],
        ),
    ]


def _alerts() -> list[Panel]:
    """What fires."""
    return [
        listing(
            "What fires",
            "The alerts that fire now, what they are about, and what to do.",
            Column(name="", query=_FIRING_ROWS),
            keys=["severity", "alertname", "about", RUNBOOK],
            look=Look(width=10, height=9),
        ),
    ]


def _worst() -> list[Panel]:
    """Where it hurts."""
    failing = f"topk(10, {recorded('task:celery_task_outcomes:rate5m', 'task', BAD)})"
    fullest = f"topk(10, {recorded('queue:celery_queue_waiting:sum', 'queue')})"
    return [
        listing(
            "Tasks that fail most",
            "Within the last five minutes.",
            Column(name="Failing", query=failing, unit=PER_SECOND),
            Column(
                name="Part",
                query=f"{recorded('task:celery_task_outcomes:rate5m', 'task', BAD)}"
                f" / ({recorded('task:celery_task_outcomes:rate5m', 'task', FINAL)} > 0) and on (task) {failing}",
                unit="percentunit",
                steps=((0.01, colours.ODD), (0.05, colours.BAD)),
            ),
            Column(
                name="Burn rate",
                query=f"max by (task) ({burn('1h')}) and on (task) {failing}",
                steps=((1, colours.ODD), (14.4, colours.BAD)),
            ),
            keys=["task"],
            look=Look(width=7, height=9),
            alerts=["CeleryErrorBudgetBurn"],
        ),
        listing(
            "Fullest queues",
            "Those with the most messages.",
            Column(name="Waiting", query=fullest),
            Column(
                name="Oldest",
                query=f"max by (queue) ({of('queue:celery_queue_oldest_age_seconds:max')}) and on (queue) {fullest}",
                unit="s",
                steps=((300, colours.ODD), (3600, colours.BAD)),
            ),
            Column(
                name="Consumers",
                query=f"sum by (queue) (max without (instance, pod) ({of('celery_queue_consumers')}))"
                f" and on (queue) {fullest}",
                words={"0": ("none", colours.BAD)},
            ),
            keys=["queue"],
            look=Look(width=7, height=9),
            alerts=["CeleryQueueWithoutConsumers"],
        ),
    ]


_FIRING = 'alertname=~"Celery.+", alertstate="firing"'
_FIRING_ROWS = (
    "sum by (severity, alertname, about, runbook) (label_join(label_replace("
    f'{of("ALERTS", _FIRING)}, "{RUNBOOK}", "$1", "alertname", "(.+)"), '
    '"about", " ", "task", "queue", "worker", "entry"))'
)
_KIND = 'kind="lost"'
_STALLED = f"sum({gauge('celery_worker_stalled')} or 0 * {of('worker:celery_worker_up:max')})"
_LOST = f"sum({of('worker:celery_worker_exits:increase10m', _KIND)} > bool 0)"
_UNOBSERVED = f"max(sum by (job, instance) (increase({of('celery_observe_tasks_unobserved_total')}[$__range])))"
_ACCEPTED = f"sum(max without (instance, pod) (increase({of('celery_worker_processed_total')}[$__range])))"
