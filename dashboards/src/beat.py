"""Beat: does it tick, what should it have sent, what has it, and when did that last succeed."""

from __future__ import annotations

from dataclasses import replace

from grafana_foundation_sdk.builders import dashboard

from dashboards.src.kit import colours
from dashboards.src.kit.boards import board as made
from dashboards.src.kit.boards import choice
from dashboards.src.kit.panels import Column, Look, Panel, graph, heat, listing, number
from dashboards.src.kit.queries import age, counted, gauge, increase, of, otherwise, quantile, rate, top, total, zero

WHERE = 'entry=~"$entry"'
DUE, SENT, UNSENT = (f"celery_beat_{name}_total" for name in ("due", "sent", "publish_failures"))
LATENESS = "celery_beat_lateness_seconds_bucket"
SUCCESS = f"max by (entry) ({gauge('celery_beat_last_success_timestamp_seconds', WHERE)})"
TICKED = of("job:celery_beat_tick_age_seconds:min")
SMALL = Look(width=4, height=4, base=colours.NEUTRAL)


def board() -> dashboard.Dashboard:
    """Return the board."""
    rows = {"": _numbers(), "What it sends": _sends(), "When it does": _times(), "Entry by entry": [_table()]}
    return made(
        "beat",
        "Does it tick, do two run at once, what was due and sent, how late, and when did each entry last succeed. "
        "Told by an instrumented beat.",
        rows,
        variables=[choice("entry", f"label_values({of(DUE)}, entry)")],
        alerts='entry=~"|$entry"',
    )


def _numbers() -> list[Panel]:
    return [
        number(
            "Beats that run",
            "Two without a common lock send everything twice. Where nobody can count them, whether one has ticked "
            "lately.",
            (otherwise(f"sum({of('job:celery_beat_instances:sum')})", f"count({TICKED} < 600)"), ""),
            look=replace(SMALL, base=colours.BAD, steps=((1, colours.GOOD), (2, colours.ODD))),
            alerts=["CeleryBeatDead", "CeleryBeatDoubled"],
        ),
        number(
            "Last tick",
            "How long ago beat last looked at its schedule. It sleeps for five minutes at the most, unless it is set "
            "otherwise.",
            (f"min({TICKED})", ""),
            look=replace(SMALL, unit="s", base=colours.GOOD, steps=((300, colours.ODD), (600, colours.BAD))),
            alerts=["CeleryBeatDead"],
        ),
        number("Entries", "In its schedule.", (f"max({gauge('celery_beat_entries')})", ""), look=SMALL),
        number(
            "Not sent",
            "Runs within the time shown that beat could not publish: it only logs that, and they are lost.",
            (otherwise(increase(UNSENT, where=WHERE), zero(of(DUE, WHERE))), ""),
            look=replace(SMALL, base=colours.GOOD, steps=((1, colours.BAD),), decimals=0),
            alerts=["CeleryBeatPublishFailing"],
        ),
        number(
            "Lateness, p95",
            "From when an entry was due to when its task was published, within the time shown.",
            (quantile(0.95, rate(LATENESS, "le", WHERE, "$__range")), ""),
            look=replace(SMALL, unit="s", steps=((60, colours.ODD),)),
            alerts=["CeleryBeatLate"],
        ),
        number(
            "Oldest success",
            "Of the entry whose task has not succeeded for longest.",
            (f"max({age(SUCCESS)})", ""),
            look=replace(SMALL, unit="s"),
            alerts=["CeleryBeatEntryOverdue"],
        ),
    ]


def _sends() -> list[Panel]:
    ten = "10m"
    return [
        graph(
            "Due, sent, not sent",
            "Runs within ten minutes each. What was due and is in neither of the others was lost with its beat.",
            (increase(DUE, "", WHERE, ten), "due"),
            (increase(SENT, "", WHERE, ten), "sent"),
            (otherwise(increase(UNSENT, "", WHERE, ten), zero(of(DUE, WHERE))), "not sent"),
            look=Look(width=12, colours={"due": colours.NEUTRAL, "sent": colours.GOOD, "not sent": colours.BAD}),
            alerts=["CeleryBeatPublishFailing"],
        ),
        graph(
            "Sent, by entry",
            "Within ten minutes each: the ten entries with the most.",
            (f"topk(10,\n{increase(SENT, 'entry', WHERE, ten)}\n)", "{{entry}}"),
            look=Look(width=12),
        ),
    ]


def _times() -> list[Panel]:
    return [
        graph(
            "Since the last tick",
            "Beat sleeps no longer than the dashed line. The cause of a longer pause may be a database or a broker "
            "that does not answer.",
            (f"min({TICKED})", "last tick"),
            look=Look(unit="s"),
            alerts=["CeleryBeatDead"],
        ),
        heat(
            "Lateness",
            "From when an entry was due to when its task was published.",
            total("le", counted(f"increase({of(LATENESS, WHERE)}[$__rate_interval])")),
            look=Look(unit="s"),
        ),
        graph(
            "Since the last success",
            "The ten entries whose task has not succeeded for longest.",
            (
                top(f"max by (entry) ({age(gauge('celery_beat_last_success_timestamp_seconds', WHERE))})", "entry"),
                "{{entry}}",
            ),
            look=Look(unit="s"),
            alerts=["CeleryBeatEntryOverdue"],
        ),
    ]


def _table() -> Panel:
    known = of(DUE, WHERE)
    return listing(
        "The schedule",
        "What was due and sent within the time shown, and when it last succeeded.",
        Column(name="Due", query=increase(DUE, "entry", WHERE)),
        Column(name="Sent", query=increase(SENT, "entry", WHERE)),
        Column(
            name="Not sent",
            query=f"{increase(UNSENT, 'entry', WHERE)}\nor\n0 * group by (entry) ({known})",
            steps=((1, colours.BAD),),
        ),
        Column(
            name="Lateness, p95",
            query=quantile(0.95, rate(LATENESS, "entry, le", WHERE, "$__range")),
            unit="s",
            steps=((60, colours.ODD),),
        ),
        Column(name="Last success", query=age(SUCCESS), unit="s"),
        keys=["entry"],
        look=Look(width=24, height=9),
    )
