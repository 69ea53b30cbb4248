"""One task: how often, how it ends, how long it takes, why it fails, what runs now."""

from __future__ import annotations

from dataclasses import replace

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models

from dashboards.src.kit import colours
from dashboards.src.kit.boards import board as made
from dashboards.src.kit.boards import choice
from dashboards.src.kit.links import of_traces
from dashboards.src.kit.panels import PER_SECOND, Column, Look, Panel, graph, heat, listing, number
from dashboards.src.kit.queries import (
    BAD,
    FINAL,
    burn,
    counted,
    gauge,
    increase,
    now,
    of,
    otherwise,
    quantile,
    rate,
    ratio,
    recorded,
    total,
    zero,
)

TASK = 'task="$task"'
WHERE = f'{TASK}, queue=~"$queue"'
OUTCOMES = "celery_task_outcomes_total"
TOLD = "What it tells of itself (update_state)"
SMALL = Look(width=3, height=4, base=colours.NEUTRAL)
RATE = Look(unit=PER_SECOND)
SECONDS = Look(unit="s", colours=colours.QUANTILES)


def board() -> dashboard.Dashboard:
    """Return the board."""
    rows = {
        "": [*_results(), *_present()],
        "What happens to it": _course(),
        "How long it takes": _durations(),
        "Why it fails": _failures(),
        "What was promised": _promises(),
        "What it does now": _running(),
        "What it needs (told by instrumented workers)": _needs(),
        TOLD: _told(),
        "Which task? The busiest": [_busiest()],
    }
    variables = [
        choice("queue", f"label_values({of(OUTCOMES)}, queue)"),
        choice("task", f"label_values({of(OUTCOMES, _QUEUE)}, task)", several=False),
    ]
    finished = made(
        "tasks",
        "One task: how often it runs, how it ends, how long it takes and waits, why it fails, what of it runs now.",
        rows,
        folded=[TOLD],
        variables=variables,
        alerts='task=~"|$task"',
    )
    finished.with_variable(
        dashboard.DatasourceVariable("traces").label("Traces").type("tempo").hide(models.VariableHide.HIDE_VARIABLE)
    )
    finished.link(dashboard.DashboardLink("This task in Flower").url("${flower}/tasks?name=${task:percentencode}"))
    return finished.link(of_traces(_TRACES))


def _durations_of(family: str, where: str = WHERE) -> str:
    return rate(f"{family}_bucket", "le", where)


def _results() -> list[Panel]:
    """How it goes."""
    runtimes = _durations_of("celery_task_runtime_seconds")
    return [
        number(
            "Ends",
            "Attempts that end each second.",
            (rate(OUTCOMES, where=WHERE), ""),
            look=replace(SMALL, unit=PER_SECOND),
        ),
        number(
            "Failing",
            "Of what ended for good, the part that failed, expired or was unknown to its worker; no retries.",
            (ratio(rate(OUTCOMES, where=f"{WHERE}, {BAD}"), rate(OUTCOMES, where=f"{WHERE}, {FINAL}")), ""),
            look=replace(
                SMALL, unit="percentunit", base=colours.GOOD, steps=((0.01, colours.ODD), (0.05, colours.BAD))
            ),
            alerts=["CeleryErrorBudgetBurn"],
        ),
        number(
            "Runtime, p50",
            "Half of the attempts take no longer.",
            (quantile(0.5, runtimes), ""),
            look=replace(SMALL, unit="s"),
        ),
        number(
            "Runtime, p95",
            "Of twenty attempts, nineteen take no longer.",
            (quantile(0.95, runtimes), ""),
            look=replace(SMALL, unit="s"),
        ),
    ]


def _present() -> list[Panel]:
    """How it waits, and what it does now."""
    waits = _durations_of("celery_task_queue_wait_seconds")
    oldest = f"max({gauge('celery_task_oldest_running_seconds', TASK)})"
    return [
        number(
            "Wait, p95",
            "From publish, or ETA, to start. Needs task_send_sent_event in the publishers.",
            (quantile(0.95, waits), ""),
            look=replace(SMALL, unit="s"),
        ),
        number("Running", "Attempts that execute now.", (now("celery_task_running", where=WHERE), ""), look=SMALL),
        number(
            "Longest running",
            "How long the attempt that started first, of those that execute, has been running.",
            (otherwise(oldest, zero(of(OUTCOMES, WHERE))), ""),
            look=replace(SMALL, unit="s"),
            alerts=["CeleryTaskHung"],
        ),
        number(
            "Burn rate, 1 h",
            "Of its error budget: at 1 it lasts for the promised window, at 14.4 an alert pages. The greatest, if "
            "several things are promised.",
            (f"max({burn('1h', TASK)})", ""),
            look=replace(SMALL, base=colours.GOOD, steps=((1, colours.ODD), (14.4, colours.BAD)), decimals=1),
            alerts=["CeleryErrorBudgetBurn"],
        ),
    ]


def _course() -> list[Panel]:
    return [
        graph(
            "How attempts end",
            "Each attempt has one outcome, however often Celery announces it.",
            (rate(OUTCOMES, "outcome", WHERE), "{{outcome}}"),
            look=replace(RATE, width=12, colours=colours.OUTCOMES, stacked=True),
            alerts=["CeleryRetryStorm", "CeleryTasksVanished"],
        ),
        graph(
            "From publish to start",
            "If more is published than starts, messages pile up; what is received and does not start waits in workers.",
            (rate("celery_task_published_total", where=WHERE), "published"),
            (rate("celery_task_received_total", where=WHERE), "received"),
            (rate("celery_task_started_total", where=WHERE), "started"),
            look=replace(RATE, width=12),
        ),
    ]


def _durations() -> list[Panel]:
    runtimes = _durations_of("celery_task_runtime_seconds")
    buckets = counted(f"increase({of('celery_task_runtime_seconds_bucket', WHERE)}[$__rate_interval])")
    return [
        heat(
            "Runtime of each",
            "How many attempts took how long, whatever their outcome. A point is an attempt that was traced.",
            total("le", buckets),
            look=Look(unit="s", width=12, height=9),
        ),
        graph(
            "Runtime of most",
            "Of all attempts that ended, failed and retried ones included. A point is an attempt that was traced.",
            (quantile(0.5, runtimes), "p50"),
            (quantile(0.95, runtimes), "p95"),
            (quantile(0.99, runtimes), "p99"),
            look=replace(SECONDS, width=12, height=9),
        ),
        graph(
            "Runtime by outcome",
            "The mean: a task that fails at once, or only after its timeout, is easily told.",
            (_mean("celery_task_runtime_seconds", "outcome"), "{{outcome}}"),
            look=replace(SECONDS, colours=colours.OUTCOMES),
        ),
        graph(
            "Wait before it starts",
            "p95 of the wait in the queue, from publish or ETA to start, and of that part which it spends in the "
            "worker.",
            (quantile(0.95, _durations_of("celery_task_queue_wait_seconds")), "publish to start"),
            (quantile(0.95, _durations_of("celery_task_worker_wait_seconds")), "in the worker"),
            look=SECONDS,
        ),
        graph(
            "From first publish to last end",
            "What whoever sent it waits for: retries and ETAs included. Needs task_send_sent_event in the publishers.",
            (quantile(0.5, _durations_of("celery_task_total_seconds")), "p50"),
            (quantile(0.95, _durations_of("celery_task_total_seconds")), "p95"),
            look=SECONDS,
        ),
    ]


def _mean(family: str, by: str = "") -> str:
    return ratio(rate(f"{family}_sum", by, WHERE), rate(f"{family}_count", by, WHERE))


def _failures() -> list[Panel]:
    known = of(OUTCOMES, WHERE)
    failures = "celery_task_failures_total"
    return [
        graph(
            "Failures by cause",
            "The true cause: a kill by a time limit is told from one by the kernel.",
            (otherwise(rate(failures, "cause", WHERE), zero(known, cause="none")), "{{cause}}"),
            look=replace(RATE, colours=colours.CAUSES, stacked=True),
            alerts=["CeleryTasksKilledByTimeLimit", "CeleryTasksKilled", "CeleryTasksUnregistered"],
        ),
        listing(
            "Failures by exception",
            "Within the time shown.",
            Column(
                name="Failures",
                decimals=0,
                query=otherwise(
                    increase(failures, "exception, cause", WHERE), zero(known, exception="none", cause="none")
                ),
            ),
            keys=["exception", "cause"],
            look=Look(),
        ),
        graph(
            "Done twice, done again",
            "Retries, messages delivered again, and attempts that were started once more.",
            (rate(OUTCOMES, where=f'{WHERE}, outcome="retried"'), "retried"),
            (otherwise(rate("celery_task_redeliveries_total", where=WHERE), zero(known)), "redelivered"),
            (otherwise(rate("celery_task_duplicate_executions_total", where=WHERE), zero(known)), "executed twice"),
            look=replace(RATE, colours={**colours.OUTCOMES, "redelivered": colours.ODD, "executed twice": colours.BAD}),
            alerts=["CeleryTasksExecutedTwice"],
        ),
    ]


def _promises() -> list[Panel]:
    burnt = "{{slo}} {{le}}"
    return [
        graph(
            "Burn rate of the error budget",
            "1: the budget lasts for exactly the window that is promised. Over one hour and over six.",
            (burn("1h", TASK), f"1 h: {burnt}"),
            (burn("6h", TASK), f"6 h: {burnt}"),
            look=Look(width=12, steps=((1, colours.ODD), (14.4, colours.BAD))),
            alerts=["CeleryErrorBudgetBurn"],
        ),
        graph(
            "What breaks the promise",
            "The part of attempts that failed or came too late, and what objectives.yml allows.",
            (of("task:celery_slo_bad:ratio_rate5m", TASK), burnt),
            (f"max by (slo, le) (1 - task:celery_slo_objective:ratio{{{TASK}}})", f"allowed: {burnt}"),
            look=Look(unit="percentunit", width=12, dashed=("allowed",)),
        ),
    ]


def _running() -> list[Panel]:
    known = of(OUTCOMES, WHERE)
    return [
        graph(
            "Running, by queue",
            "Attempts that execute, and those among them that wait for the result of another task.",
            (now("celery_task_running", "queue", WHERE), "{{queue}}"),
            (otherwise(now("celery_task_blocked", where=TASK), zero(known)), "blocked"),
            look=Look(width=12, colours={"blocked": colours.BAD}),
        ),
        graph(
            "Longest running, over time",
            "How long the attempt that started first has been running.",
            (otherwise(f"max({gauge('celery_task_oldest_running_seconds', TASK)})", zero(known)), "longest"),
            look=Look(unit="s", width=12),
            alerts=["CeleryTaskHung"],
        ),
    ]


def _told() -> list[Panel]:
    return [
        graph(
            "Progress",
            "How much is done of those that run, as they tell it: the mean. No task has to.",
            (f"max({gauge('celery_task_progress_ratio', TASK)})", "done"),
            look=Look(unit="percentunit", width=12, greatest=1),
        ),
        graph(
            "States of its own",
            "Attempts that execute, by the state that they gave themselves with update_state.",
            (now("celery_task_in_state", "state", TASK), "{{state}}"),
            look=Look(width=12, stacked=True),
        ),
    ]


def _needs() -> list[Panel]:
    known = of(OUTCOMES, WHERE)
    return [
        graph(
            "CPU time",
            "Of an attempt.",
            (_mean("celery_task_cpu_seconds"), "mean"),
            (quantile(0.95, _durations_of("celery_task_cpu_seconds")), "p95"),
            look=replace(SECONDS, width=6),
        ),
        graph(
            "Peak memory",
            "Resident memory of the process at the end of an attempt: an upper bound of what the attempt used.",
            (_mean("celery_task_peak_memory_bytes"), "mean"),
            (quantile(0.95, _durations_of("celery_task_peak_memory_bytes")), "p95"),
            look=replace(SECONDS, unit="bytes", width=6),
        ),
        graph(
            "Time to publish",
            "What sending its message cost the sender.",
            (_mean("celery_task_publish_seconds"), "mean"),
            (quantile(0.95, _durations_of("celery_task_publish_seconds")), "p95"),
            look=replace(SECONDS, width=6),
        ),
        graph(
            "Not published",
            "Messages that could not be sent, by exception.",
            (
                otherwise(
                    rate("celery_task_publish_failures_total", "exception", WHERE), zero(known, exception="none")
                ),
                "{{exception}}",
            ),
            look=replace(RATE, width=6),
            alerts=["CeleryPublishFailing"],
        ),
    ]


def _busiest() -> Panel:
    ended = recorded("task:celery_task_outcomes:rate5m", "task", _QUEUE)
    failing = recorded("task:celery_task_outcomes:rate5m", "task", f"{_QUEUE}, {BAD}")
    running = now("celery_task_running", "task", _QUEUE)
    longest = f"max by (task) ({gauge('celery_task_oldest_running_seconds')})"
    busiest = f"topk(100, {ended})"
    return listing(
        "Tasks",
        "The hundred that end most often, of the queues that were chosen. Choose one by its name.",
        Column(name="Ends", query=busiest, unit=PER_SECOND),
        Column(
            name="Failing",
            query=f"{ratio(failing, ended)} and on (task) {busiest}",
            unit="percentunit",
            steps=((0.01, colours.ODD), (0.05, colours.BAD)),
        ),
        Column(
            name="Mean runtime",
            query=f"avg by (task) ({of('task:celery_task_runtime_seconds:mean5m')}) and on (task) {busiest}",
            unit="s",
        ),
        Column(name="Running", query=f"({running} or 0 * {ended}) and on (task) {busiest}"),
        Column(
            name="Longest running",
            query=f"({longest} or 0 * {ended}) and on (task) {busiest}",
            unit="s",
        ),
        Column(
            name="Hangs after",
            query=f"max by (task) (task:celery_task_hung_after_seconds) and on (task) {busiest}",
            unit="s",
        ),
        Column(
            name="Burn rate",
            query=f"max by (task) ({burn('1h')}) and on (task) {busiest}",
            steps=((1, colours.ODD), (14.4, colours.BAD)),
        ),
        keys=["task"],
        look=Look(width=24, height=12),
    )


_QUEUE = 'queue=~"$queue"'
_TRACES = '{ span.celery.task.name = "$task" }'
