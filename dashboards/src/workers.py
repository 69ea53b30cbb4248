"""Workers: who is up, who does nothing, how full they are, what they need."""

from __future__ import annotations

from dataclasses import replace

from grafana_foundation_sdk.builders import dashboard

from dashboards.src.kit import colours
from dashboards.src.kit.boards import board as made
from dashboards.src.kit.boards import choice
from dashboards.src.kit.panels import PER_SECOND, Column, Look, Panel, graph, listing, number
from dashboards.src.kit.queries import age, counted, gauge, increase, of, otherwise, own_rate, rate, top, total, zero

WHERE = 'worker=~"$worker"'
UP = f"max without (instance, pod) ({of('celery_worker_up', WHERE)})"
SMALL = Look(width=3, height=4, base=colours.NEUTRAL)


def board() -> dashboard.Dashboard:
    """Return the board."""
    rows = {
        "": [*_health(), *_room()],
        "Are they there": [*_comings(), *_contact()],
        "How full are they": [*_spread(), *_fullest()],
        "What they need": _needs(),
        "Their children (told by instrumented workers), and what they run": [*_children(), _versions()],
        "One by one": [_table()],
    }
    return made(
        "workers",
        "Who is up, who is online and takes nothing, how full they are, what they hold, what they need, and which "
        "versions they run.",
        rows,
        variables=[choice("worker", f"label_values({of('celery_worker_up')}, worker)")],
        alerts='worker=~"|$worker"',
    )


def _all(family: str, how: str = "sum") -> str:
    return f"{how}({gauge(family, WHERE)})"


def _each(family: str, how: str = "max") -> str:
    return f"{how} by (worker) ({gauge(family, WHERE)})"


def _troubled(condition: str) -> str:
    return f"count({condition})\nor\n{zero(of('celery_worker_up', WHERE))}"


def _health() -> list[Panel]:
    """Who is there, and works."""
    fine = replace(SMALL, base=colours.GOOD, steps=((1, colours.BAD),))
    return [
        number(
            "Up",
            "Workers whose heartbeats are fresh.",
            (_all("celery_worker_up"), ""),
            look=replace(SMALL, base=colours.BAD, steps=((1, colours.GOOD),)),
            alerts=["CeleryAllWorkersDown"],
        ),
        number(
            "Down",
            "Workers that were there within the retention of the exporter, and are not.",
            (_troubled(f"{UP} == 0"), ""),
            look=replace(SMALL, base=colours.GOOD, steps=((1, colours.ODD),)),
            alerts=["CeleryWorkerLost"],
        ),
        number(
            "Stalled",
            "Online and free, though messages wait in their queues.",
            (_troubled(f"{gauge('celery_worker_stalled', WHERE)} == 1"), ""),
            look=fine,
            alerts=["CeleryWorkerStalled"],
        ),
        number(
            "Disconnected",
            "Without a connection to the broker, as instrumented workers tell.",
            (_troubled(f"{gauge('celery_worker_connected', WHERE)} == 0"), ""),
            look=fine,
            alerts=["CeleryWorkerDisconnected"],
        ),
    ]


def _room() -> list[Panel]:
    """How much they can do."""
    return [
        number(
            "Busy slots",
            "Of the tasks that they could execute at once, how many they do.",
            (f"{_all('celery_worker_active')} / {_all('celery_worker_slots')}", ""),
            look=replace(SMALL, unit="percentunit", base=colours.GOOD, steps=((0.8, colours.ODD), (0.95, colours.BAD))),
            alerts=["CeleryWorkerSaturated"],
        ),
        number("Slots", "Tasks that they can execute at once.", (_all("celery_worker_slots"), ""), look=SMALL),
        number(
            "Held",
            "Tasks that they hold and have not started, those for their ETA aside.",
            (_all("celery_worker_reserved"), ""),
            look=SMALL,
        ),
        number(
            "Versions",
            "How many versions of Celery they run. During an upgrade two.",
            (f"count(count by (version) ({of('celery_worker_info', WHERE)}))", ""),
            look=replace(SMALL, base=colours.GOOD, steps=((2, colours.ODD),)),
        ),
    ]


def _comings() -> list[Panel]:
    """Who is there, who left."""
    exits, departures = "celery_worker_exits_total", "celery_worker_departures_total"
    return [
        graph(
            "Up and down",
            "Workers, over time.",
            (_all("celery_worker_up"), "up"),
            (_troubled(f"{UP} == 0"), "down"),
            look=Look(colours={"up": colours.GOOD, "down": colours.BAD}),
        ),
        graph(
            "How they left",
            "With a goodbye, by silence, or replaced by a new process of the same name. After a goodbye, two minutes "
            "later, whether another took the place. Within ten minutes each.",
            (
                otherwise(increase(exits, "kind", WHERE, "10m"), zero(of("celery_worker_up", WHERE), kind="none")),
                "{{kind}}",
            ),
            (increase(departures, "kind", WHERE, "10m"), "{{kind}}"),
            look=Look(colours={**colours.EXITS, **colours.DEPARTURES}),
            alerts=["CeleryWorkerFlapping"],
        ),
        graph(
            "Oldest heartbeat",
            "The ten workers that have been silent for longest, of those that are up.",
            (
                f"topk(10, {age(_each('celery_worker_last_heartbeat_timestamp_seconds'))} and on (worker) {UP} == 1)",
                "{{worker}}",
            ),
            look=Look(unit="s", steps=((60, colours.BAD),)),
        ),
    ]


def _contact() -> list[Panel]:
    """Whether they are heard and understood."""
    return [
        graph(
            "Connected again",
            "How often workers lost their broker and found it again, within ten minutes each. Told by instrumented "
            "workers.",
            (
                otherwise(
                    increase("celery_worker_consumer_restarts_total", "", WHERE, "10m"),
                    zero(of("celery_worker_up", WHERE)),
                ),
                "restarts",
            ),
            look=Look(),
        ),
        graph(
            "Clocks",
            "The ten that are furthest from ours. ETAs and all times are wrong by as much.",
            (top(f"max by (worker) (abs({gauge('celery_worker_clock_skew_seconds', WHERE)}))", "worker"), "{{worker}}"),
            look=Look(unit="s", steps=((10, colours.BAD),)),
            alerts=["CeleryWorkerClockSkewed"],
        ),
        graph(
            "Messages refused",
            "That were no task which a worker can read, each second. Told by instrumented workers.",
            (
                otherwise(rate("celery_worker_messages_refused_total", "", WHERE), zero(of("celery_worker_up", WHERE))),
                "refused",
            ),
            look=Look(unit=PER_SECOND, colours={"refused": colours.BAD}),
        ),
    ]


def _spread() -> list[Panel]:
    """How the work is spread, and what waits in workers."""
    busy = f"{_each('celery_worker_active')} / ({_each('celery_worker_slots')} > 0)"
    return [
        graph(
            "Busy slots, from the emptiest worker to the fullest",
            "How the work is spread: a wide band is a fleet in which some are full while others have nothing to do.",
            (f"max({busy})", "fullest"),
            (f"quantile(0.5, {busy})", "median"),
            (f"min({busy})", "emptiest"),
            look=Look(
                unit="percentunit",
                greatest=1,
                colours={"fullest": colours.ODD, "median": colours.NEUTRAL, "emptiest": colours.GOOD},
            ),
            alerts=["CeleryWorkerSaturated"],
        ),
        graph(
            "What they hold",
            "Executing, waiting for a slot, for their rate limit, for their ETA.",
            (_all("celery_worker_active"), "executing"),
            (_all("celery_worker_reserved"), "reserved"),
            (otherwise(_all("celery_worker_rate_limited"), zero(of("celery_worker_up", WHERE))), "rate limited"),
            (_all("celery_worker_scheduled"), "scheduled"),
            look=Look(
                stacked=True,
                colours={
                    "executing": colours.GOOD,
                    "reserved": colours.NEUTRAL,
                    "rate limited": "yellow",
                    "scheduled": "purple",
                },
            ),
        ),
        graph(
            "Prefetch",
            "Messages that they may hold, and should be allowed to. Less means that they work below their speed "
            "since they lost a connection; 0 is no limit.",
            (_all("celery_worker_prefetch"), "allowed"),
            (_all("celery_worker_prefetch_configured"), "configured"),
            look=Look(dashed=("configured",)),
            alerts=["CeleryWorkerPrefetchReduced"],
        ),
    ]


def _fullest() -> list[Panel]:
    """Which workers, and which tasks."""
    busy = f"{_each('celery_worker_active')} / ({_each('celery_worker_slots')} > 0)"
    return [
        graph(
            "Fullest workers",
            "The ten with the most busy slots on the average of the time shown.",
            (top(f"({busy})", "worker"), "{{worker}}"),
            look=Look(unit="percentunit", greatest=1, width=8),
        ),
        graph(
            "Accepted",
            "Tasks that workers say they accepted, each second: the ten with the most.",
            (
                top(
                    own_rate("celery_worker_processed_total", "worker", WHERE),
                    "worker",
                ),
                "{{worker}}",
            ),
            look=Look(unit=PER_SECOND),
        ),
        graph(
            "Held back by rate limits",
            "Tasks that workers hold until their rate limit lets them start: the ten with the most. Told by "
            "instrumented workers.",
            (top(f"sum by (task) ({gauge('celery_worker_rate_limited', WHERE)})", "task"), "{{task}}"),
            look=Look(),
        ),
    ]


def _needs() -> list[Panel]:
    return [
        graph(
            "CPU of main processes",
            "The ten with the most; the tasks' too, unless the pool is prefork. 1 is a whole core.",
            (
                top(
                    own_rate("celery_worker_cpu_seconds_total", "worker", WHERE),
                    "worker",
                ),
                "{{worker}}",
            ),
            look=Look(unit="percentunit"),
        ),
        graph(
            "Memory of main processes",
            "The most that each was ever resident with, on Linux: the ten with the most.",
            (top(_each("celery_worker_peak_resident_memory_bytes"), "worker"), "{{worker}}"),
            look=Look(unit="bytes"),
        ),
        graph(
            "Load of hosts",
            "The load average over one minute of the hosts of the ten workers where it is greatest.",
            (top(_each("celery_worker_load1"), "worker"), "{{worker}}"),
            look=Look(),
        ),
    ]


def _children() -> list[Panel]:
    known = of("celery_worker_up", WHERE)
    gone = counted(f"increase({of('celery_worker_child_exits_total', WHERE)}[10m])")
    return [
        graph(
            "Children that are gone",
            "By reason, within ten minutes each. Recycled ones had done their share (max_tasks_per_child); a "
            "signal's name is a kill.",
            (otherwise(total("reason", gone), zero(known, reason="none")), "{{reason}}"),
            look=Look(
                stacked=True,
                colours={
                    "recycled": colours.GOOD,
                    "shrunk": "light-blue",
                    "exited": colours.NEUTRAL,
                    "failed": "yellow",
                },
            ),
            alerts=["CeleryWorkerChildrenDying"],
        ),
        graph(
            "Children started",
            "By pools, within ten minutes each: the ten workers with the most.",
            (
                top(f"sum by (worker) (increase({of('celery_worker_children_total', WHERE)}[10m]))", "worker"),
                "{{worker}}",
            ),
            look=Look(),
        ),
    ]


def _versions() -> Panel:
    workers = f"count by (version, pool) (max without (instance, pod) ({of('celery_worker_info', WHERE)}))"
    return listing(
        "Versions and pools",
        "How many workers run which version of Celery, on which pool. The pool is empty until a worker was asked.",
        Column(name="Workers", query=workers),
        keys=["version", "pool"],
        look=Look(),
    )


def _table() -> Panel:
    stalled = {"0": ("no", "text"), "1": ("yes", colours.BAD)}
    up = {"0": ("no", colours.BAD), "1": ("yes", colours.GOOD)}
    return listing(
        "Workers",
        "All that were chosen.",
        Column(name="Active", query=_each("celery_worker_active")),
        Column(name="Up", query=_each("celery_worker_up"), words=up),
        Column(name="Stalled", query=_each("celery_worker_stalled"), words=stalled),
        Column(name="Slots", query=_each("celery_worker_slots")),
        Column(name="Reserved", query=_each("celery_worker_reserved")),
        Column(name="Scheduled", query=_each("celery_worker_scheduled")),
        Column(name="Prefetch", query=_each("celery_worker_prefetch")),
        Column(name="Memory", query=_each("celery_worker_peak_resident_memory_bytes"), unit="bytes"),
        Column(name="Uptime", query=_each("celery_worker_uptime_seconds"), unit="s"),
        Column(
            name="Clock skew", query=_each("celery_worker_clock_skew_seconds"), unit="s", steps=((10, colours.BAD),)
        ),
        keys=["worker"],
        look=Look(width=24, height=11),
    )
