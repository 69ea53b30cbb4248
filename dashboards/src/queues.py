"""Queues: what waits, since when, and who is there to do it."""

from __future__ import annotations

from dataclasses import replace

from grafana_foundation_sdk.builders import dashboard

from dashboards.src.kit import colours
from dashboards.src.kit.boards import board as made
from dashboards.src.kit.boards import choice
from dashboards.src.kit.panels import PER_SECOND, Column, Look, Panel, graph, listing, number
from dashboards.src.kit.queries import gauge, of, otherwise, own_rate, quantile, rate, recorded, top, zero

WHERE = 'queue=~"$queue"'
WAITING = recorded("queue:celery_queue_waiting:sum", "queue", WHERE)
DESIRED = gauge("celery_queue_desired_slots", WHERE)
STARTED = recorded("queue:celery_task_started:rate5m", "queue", WHERE)
DRAIN = f"{WAITING} / ({STARTED} > 0)\nor\n{WAITING} == 0"
"""Seconds in which all that waits would start, at the pace of the last minutes; nothing if nothing starts."""

SMALL = Look(width=3, height=4, base=colours.NEUTRAL)


def board() -> dashboard.Dashboard:
    """Return the board."""
    rows = {
        "": [*_messages(), *_prospects()],
        "What is in them": [*_waiting(), *_held()],
        "How long it takes": _pace(),
        "Who is there to do it": _capacity(),
        "What RabbitMQ counts": _rabbitmq(),
        "One by one": [_table()],
    }
    return made(
        "queues",
        "What waits, by priority, in flight or for its ETA; how old it is, when it will be done, and whether there are "
        "slots enough.",
        rows,
        folded=["What RabbitMQ counts"],
        variables=[choice("queue", f"label_values({of('celery_queue_waiting')}, queue)")],
        alerts='queue=~"|$queue"',
    )


def _each(family: str, how: str = "sum") -> str:
    return f"{how} by (queue) ({gauge(family, WHERE)})"


def _all(family: str, how: str = "sum") -> str:
    return f"{how}({gauge(family, WHERE)})"


def _messages() -> list[Panel]:
    """What is in them."""
    return [
        number("Waiting", "Messages that no worker has taken.", (f"sum({WAITING})", ""), look=SMALL),
        number(
            "In flight",
            "Messages that workers hold and have not acknowledged.",
            (_all("celery_queue_in_flight"), ""),
            look=SMALL,
        ),
        number("Scheduled", "Messages that wait for their ETA.", (_all("celery_queue_scheduled"), ""), look=SMALL),
        number(
            "Oldest message",
            "The longest wait of a message that is still in a queue.",
            (_all("celery_queue_oldest_age_seconds", "max"), ""),
            look=replace(SMALL, unit="s", base=colours.GOOD, steps=((300, colours.ODD), (3600, colours.BAD))),
            alerts=["CeleryQueueOldestMessageTooOld"],
        ),
    ]


def _prospects() -> list[Panel]:
    """What will become of it."""
    return [
        number(
            "Drained in",
            "Until all that waits in the slowest queue has started, at the pace of the last five minutes.",
            (f"max({DRAIN})", ""),
            look=replace(SMALL, unit="s", base=colours.GOOD, steps=((300, colours.ODD), (3600, colours.BAD))),
        ),
        number(
            "Slots short",
            "Slots that are missing to finish what is there within drain_target, in all queues that are short.",
            (
                f"sum(clamp_min({DESIRED} - {gauge('celery_queue_slots', WHERE)}, 0))",
                "",
            ),
            look=replace(SMALL, base=colours.GOOD, steps=((1, colours.ODD),)),
            alerts=["CeleryQueueSlotsShort"],
        ),
        number(
            "Dead letters",
            "Messages that were given up and lie in a queue that dead_letter names.",
            (otherwise(f"sum({gauge('celery_queue_dead_letters')})", zero(of("celery_queue_waiting"))), ""),
            look=replace(SMALL, base=colours.GOOD, steps=((1, colours.ODD),)),
            alerts=["CeleryDeadLettersGrowing"],
        ),
        number(
            "Without consumers",
            "Queues in which messages wait and that nobody consumes.",
            (
                otherwise(
                    f"count({_each('celery_queue_consumers', 'max')} == 0 and {WAITING} > 0)",
                    zero(of("celery_queue_consumers")),
                ),
                "",
            ),
            look=replace(SMALL, base=colours.GOOD, steps=((1, colours.BAD),)),
            alerts=["CeleryQueueWithoutConsumers"],
        ),
    ]


def _waiting() -> list[Panel]:
    """What no worker has taken."""
    return [
        graph(
            "Waiting, by queue",
            "The ten with the most messages.",
            (top(WAITING, "queue"), "{{queue}}"),
            look=Look(),
            alerts=["CeleryQueueGrowing"],
        ),
        graph(
            "Waiting, by priority",
            "Of all queues that were chosen; the broker says what is urgent. One without name: this broker has no "
            "priorities.",
            (f"sum by (priority) ({gauge('celery_queue_waiting', WHERE)})", "priority {{priority}}"),
            look=Look(stacked=True),
        ),
        graph(
            "Taken, by priority",
            "Messages that workers took each second. Told by instrumented workers.",
            (rate("celery_task_received_priority_total", "priority", WHERE), "priority {{priority}}"),
            look=Look(unit=PER_SECOND, stacked=True),
        ),
    ]


def _held() -> list[Panel]:
    """What workers hold, and what lies where it should not."""
    return [
        graph(
            "In flight, by queue",
            "Held by workers, unacknowledged: they execute, or wait to.",
            (top(_each("celery_queue_in_flight"), "queue"), "{{queue}}"),
            look=Look(),
        ),
        graph(
            "Scheduled, by queue",
            "Waiting for their ETA: retries and countdowns.",
            (top(_each("celery_queue_scheduled"), "queue"), "{{queue}}"),
            look=Look(),
        ),
        graph(
            "Trouble ahead",
            "Scheduled messages that Redis will deliver twice, those of which no queue can be told, and queues of "
            "clients that left.",
            (
                otherwise(_all("celery_queue_eta_beyond_visibility_timeout"), zero(of("celery_queue_waiting"))),
                "ETA beyond visibility timeout",
            ),
            (
                otherwise(f"sum({gauge('celery_queue_unattributed')})", zero(of("celery_queue_waiting"))),
                "of no known queue",
            ),
            (otherwise(f"sum({gauge('celery_queue_orphans')})", zero(of("celery_queue_waiting"))), "orphaned queues"),
            look=Look(
                colours={
                    "ETA beyond visibility timeout": colours.BAD,
                    "of no known queue": colours.ODD,
                    "orphaned queues": colours.MUTED,
                }
            ),
            alerts=["CeleryQueueEtaBeyondVisibilityTimeout"],
        ),
    ]


def _pace() -> list[Panel]:
    waits = recorded("queue:celery_task_queue_wait_seconds_bucket:rate5m", "queue, le", WHERE)
    return [
        graph(
            "Age of the oldest message",
            "Of the ten queues where it is oldest. What is promised at the most stands in the table below.",
            (top(_each("celery_queue_oldest_age_seconds", "max"), "queue"), "{{queue}}"),
            look=Look(unit="s"),
            alerts=["CeleryQueueOldestMessageTooOld"],
        ),
        graph(
            "Time to drain",
            "What waits, divided by what starts each second. Nothing is drawn of a queue from which nothing starts.",
            (f"topk(10, {DRAIN})", "{{queue}}"),
            look=Look(unit="s"),
        ),
        graph(
            "Wait until start, p95",
            "From publish, or ETA. Needs task_send_sent_event in the publishers.",
            (f"topk(10, {quantile(0.95, waits)})", "{{queue}}"),
            look=Look(unit="s"),
        ),
        graph(
            "Starts",
            "Attempts that start each second.",
            (top(STARTED, "queue"), "{{queue}}"),
            look=Look(unit=PER_SECOND, width=12),
        ),
        graph(
            "In and out",
            "Of all queues that were chosen, each second. What comes in above what goes out piles up.",
            (rate("celery_task_published_total", where=WHERE), "published"),
            (f"sum({STARTED})", "started"),
            look=Look(unit=PER_SECOND, width=12, colours={"published": colours.ODD, "started": colours.GOOD}),
        ),
    ]


def _capacity() -> list[Panel]:
    return [
        graph(
            "Slots, and how many it takes",
            "Of all queues that were chosen: what workers could execute at once, and what would finish what is there "
            "within drain_target. An autoscaler reads the same.",
            (_all("celery_queue_slots"), "slots"),
            (_all("celery_queue_desired_slots"), "desired"),
            look=Look(width=12, colours={"slots": colours.GOOD, "desired": colours.ODD}),
            alerts=["CeleryQueueSlotsShort"],
        ),
        graph(
            "Consumers",
            "By queue. None, and nothing of it is done.",
            (top(_each("celery_queue_consumers"), "queue"), "{{queue}}"),
            look=Look(width=12),
            alerts=["CeleryQueueWithoutConsumers"],
        ),
    ]


def _rabbitmq() -> list[Panel]:
    return [
        graph(
            title,
            f"Messages each second, as RabbitMQ counts them. {meaning}",
            (
                f"topk(10, {own_rate(family, 'queue', WHERE)})",
                "{{queue}}",
            ),
            look=Look(unit=PER_SECOND, width=6, empty="Only RabbitMQ counts this."),
        )
        for title, family, meaning in (
            ("Published", "celery_queue_published_total", "What went into a queue."),
            ("Delivered", "celery_queue_delivered_total", "What went to consumers."),
            ("Acknowledged", "celery_queue_acknowledged_total", "What is done."),
            (
                "Redelivered",
                "celery_queue_redelivered_total",
                "What went to consumers again: some worker did not finish it.",
            ),
        )
    ]


def _table() -> Panel:
    fullest = f"topk(100, {WAITING})"
    columns = [
        ("In flight", _each("celery_queue_in_flight"), "short"),
        ("Scheduled", _each("celery_queue_scheduled"), "short"),
        ("Oldest", _each("celery_queue_oldest_age_seconds", "max"), "s"),
        ("At most", f"max by (queue) (queue:celery_queue_max_age_seconds{{{WHERE}}})", "s"),
        ("Starts", STARTED, PER_SECOND),
        ("Drained in", f"({DRAIN})", "s"),
        ("Slots", _each("celery_queue_slots"), "short"),
        ("Desired", _each("celery_queue_desired_slots"), "short"),
    ]
    return listing(
        "Queues",
        "The hundred with the most messages.",
        Column(name="Waiting", query=fullest),
        *[Column(name=name, query=f"{query} and on (queue) {fullest}", unit=unit) for name, query, unit in columns],
        Column(
            name="Consumers",
            query=f"{_each('celery_queue_consumers')} and on (queue) {fullest}",
            words={"0": ("none", colours.BAD)},
        ),
        keys=["queue"],
        look=Look(width=24, height=10),
    )
