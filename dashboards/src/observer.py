"""The observer: can these numbers be believed, and what do they cost."""

from __future__ import annotations

from dataclasses import replace

from grafana_foundation_sdk.builders import dashboard

from dashboards.src.kit import colours
from dashboards.src.kit.boards import board as made
from dashboards.src.kit.panels import PER_SECOND, Column, Look, Panel, graph, listing, number
from dashboards.src.kit.queries import age, increase, of, otherwise, quantile, ratio, zero

OURS = f"and on (job, instance) group by (job, instance) ({of('celery_observe_build_info')})"
KNOWN = of("celery_observe_stream_up")
SMALL = Look(width=3, height=4, base=colours.NEUTRAL)
TROUBLE = replace(SMALL, base=colours.GOOD, steps=((1, colours.BAD),), decimals=0)
BY_TARGET = "{{job}} {{instance}}"


def board() -> dashboard.Dashboard:
    """Return the board."""
    rows = {
        "": [*_trust(), *_state()],
        "What it reads": _reads(),
        "What it loses": [*_lost(), *_odd()],
        "What it asks": _asks(),
        "What it costs": _costs(),
        "What it tells (alert hooks)": _hooks(),
        "Target by target": [_targets(), _plugins()],
    }
    return made(
        "observer",
        "Can these numbers be believed? What celery-observe reads, how far it is behind, what it misses, and what it "
        "costs.",
        rows,
        folded=["What it tells (alert hooks)"],
    )


def _process(name: str) -> str:
    """Return a series that every process has, of ours only. It has no label `broker`."""
    return f'{name}{{cluster=~"$cluster", job=~"$job"}} {OURS}'


def _each(family: str, by: str) -> str:
    return f"sum by ({by}) (rate({of(family)}[$__rate_interval]))"


def _most(family: str) -> str:
    """Return what was counted within the time shown by the target that counted most: replicas count the same."""
    return f"max(sum by (job, instance) (increase({of(family)}[$__range])))\nor\n{zero(KNOWN)}"


def _trust() -> list[Panel]:
    """Whether the rest can be believed."""
    connected = {"0": ("lost", colours.BAD), "1": ("connected", colours.GOOD)}
    return [
        number(
            "Event streams",
            "Whether every one is connected.",
            (f"min({of('celery_observe_stream_up')})", ""),
            look=replace(SMALL, words=connected),
            alerts=["CeleryObserverBlind"],
        ),
        number(
            "Lag",
            "Age of the newest event when it was read.",
            (f"max({of('celery_observe_event_lag_seconds')})", ""),
            look=replace(SMALL, unit="s", base=colours.GOOD, steps=((5, colours.ODD), (30, colours.BAD))),
            alerts=["CeleryObserverLagging"],
        ),
        number(
            "Not observed",
            "Tasks that workers say they accepted within the time shown, of whose start no event came. At 0 the rest "
            "can be believed.",
            (_most("celery_observe_tasks_unobserved_total"), ""),
            look=TROUBLE,
            alerts=["CeleryObserverLosing"],
        ),
        number(
            "Blind for",
            "Time within the time shown without a connected stream: events sent then are lost.",
            (_most("celery_observe_stream_gap_seconds_total"), ""),
            look=replace(TROUBLE, unit="s"),
            alerts=["CeleryObserverBlind"],
        ),
    ]


def _state() -> list[Panel]:
    """What it does at this moment."""
    return [
        number(
            "Events",
            "Read each second, of all targets.",
            (f"sum(rate({of('celery_observe_events_total')}[$__rate_interval]))", ""),
            look=replace(SMALL, unit=PER_SECOND),
        ),
        number(
            "Failing plug-ins",
            "Streams, probes and collectors whose last run failed.",
            (f"count({of('celery_observe_plugin_up')} == 0)\nor\n{zero(of('celery_observe_plugin_up'))}", ""),
            look=TROUBLE,
            alerts=["CeleryObserverProbeFailing"],
        ),
        number(
            "Samples", "On the pages of all targets.", (f"sum({_process('scrape_samples_scraped')})", ""), look=SMALL
        ),
        number(
            "Rules",
            "Whether Prometheus has loaded alerts/rules, of which boards need some.",
            ("count(celery_observe:links) or vector(0)", ""),
            look=replace(SMALL, words={"0": ("not loaded", colours.BAD), "1": ("loaded", colours.GOOD)}),
        ),
    ]


def _reads() -> list[Panel]:
    return [
        graph(
            "Events, by type",
            "Each second, of all targets; reports of instrumented processes too.",
            (_each("celery_observe_events_total", "type"), "{{type}}"),
            look=Look(unit=PER_SECOND, width=12, stacked=True, listed=True),
        ),
        graph(
            "Lag of each target",
            "Age of the newest event when it was read, by our clock less the skew of its sender.",
            (f"max by (job, instance) ({of('celery_observe_event_lag_seconds')})", BY_TARGET),
            look=Look(unit="s", width=6),
            alerts=["CeleryObserverLagging"],
        ),
        graph(
            "Streams connected",
            "Of each target: 0 is lost, 1 connected.",
            (f"min by (job, instance) ({of('celery_observe_stream_up')})", BY_TARGET),
            look=Look(width=6, greatest=1, decimals=0),
            alerts=["CeleryObserverBlind", "CeleryObserverShardBlind", "CeleryObserverShardsDoubled"],
        ),
    ]


def _lost() -> list[Panel]:
    """What was not seen, or not kept."""
    ten = "10m"
    return [
        graph(
            "Not observed, by worker",
            "Tasks accepted of whose start no event came, within ten minutes each: the ten workers with the most.",
            (
                f"topk(10, max by (worker) (increase({of('celery_observe_tasks_unobserved_total')}[{ten}])))",
                "{{worker}}",
            ),
            look=Look(),
            alerts=["CeleryObserverLosing"],
        ),
        graph(
            "Other losses",
            "Events that could not be read, reports that nobody took, tasks let go of for want of room, and our own "
            "errors in workers; within ten minutes each.",
            (
                otherwise(f"sum(increase({of('celery_observe_events_malformed_total')}[{ten}]))", zero(KNOWN)),
                "malformed",
            ),
            (otherwise(increase("celery_observe_reports_dropped_total", "", "", ten), zero(KNOWN)), "reports dropped"),
            (f"sum(increase({of('celery_observe_tracker_evictions_total')}[{ten}]))", "tasks evicted"),
            (f"sum(increase({of('celery_observe_workflows_evicted_total')}[{ten}]))", "workflows evicted"),
            (otherwise(increase("celery_observe_handler_errors_total", "", "", ten), zero(KNOWN)), "errors in workers"),
            look=Look(),
            alerts=["CeleryObserverEvicting", "CeleryObserverMalformedEvents", "CeleryInstrumentationFailing"],
        ),
        graph(
            "Gaps",
            "Seconds without a connected stream, within ten minutes each.",
            (f"sum by (job, instance) (increase({of('celery_observe_stream_gap_seconds_total')}[{ten}]))", BY_TARGET),
            look=Look(unit="s"),
            alerts=["CeleryObserverBlind"],
        ),
    ]


def _odd() -> list[Panel]:
    """What was cut short, or said twice."""
    ten = "10m"
    return [
        graph(
            "Series over the limit",
            "Samples counted under __other__, each second, by family or label of your own.",
            (
                otherwise(
                    _each("celery_observe_series_overflow_total", "family"),
                    zero(KNOWN, family="none"),
                ),
                "{{family}}",
            ),
            (
                otherwise(
                    _each("celery_observe_label_overflow_total", "label"),
                    zero(KNOWN, label="no label"),
                ),
                "{{label}}",
            ),
            look=Look(unit=PER_SECOND),
            alerts=["CeleryObserverSeriesCapped"],
        ),
        graph(
            "Said twice, told too early",
            "Ends that Celery announced again, and workflows that went on after their end had been told; within ten "
            "minutes each.",
            (f"sum(increase({of('celery_observe_duplicate_outcomes_total')}[{ten}]))", "duplicate outcomes"),
            (f"sum(increase({of('celery_observe_workflows_reopened_total')}[{ten}]))", "workflows reopened"),
            look=Look(),
        ),
        graph(
            "Connected again",
            "Streams, after a loss, within ten minutes each.",
            (f"sum by (job, instance) (increase({of('celery_observe_stream_reconnects_total')}[{ten}]))", BY_TARGET),
            look=Look(),
        ),
    ]


def _asks() -> list[Panel]:
    duration = "celery_observe_plugin_duration_seconds"
    return [
        graph(
            "Time of a run",
            "The mean of each plug-in: stream, probe, collector. A stream's is the time to connect.",
            (
                ratio(_each(f"{duration}_sum", "plugin"), _each(f"{duration}_count", "plugin")),
                "{{plugin}}",
            ),
            look=Look(unit="s"),
        ),
        graph(
            "Age of what probes told",
            "Since the last good answer.",
            (f"min by (plugin) ({age(of('celery_observe_probe_last_success_timestamp_seconds'))})", "{{plugin}}"),
            look=Look(unit="s"),
            alerts=["CeleryObserverProbeFailing"],
        ),
        graph(
            "Failed runs",
            "Of plug-ins, within ten minutes each.",
            (f"sum by (plugin) (increase({of('celery_observe_plugin_errors_total')}[10m]))", "{{plugin}}"),
            look=Look(),
            alerts=["CeleryObserverProbeFailing"],
        ),
    ]


def _costs() -> list[Panel]:
    narrow = Look(width=6)
    return [
        graph(
            "CPU",
            "Of each target. 1 is a whole core.",
            (_rate_of("process_cpu_seconds_total"), BY_TARGET),
            look=replace(narrow, unit="percentunit"),
        ),
        graph(
            "Memory",
            "Resident, of each target.",
            (_process("process_resident_memory_bytes"), BY_TARGET),
            look=replace(narrow, unit="bytes"),
        ),
        graph(
            "Time of a scrape",
            "As Prometheus measures it.",
            (_process("scrape_duration_seconds"), BY_TARGET),
            look=replace(narrow, unit="s"),
        ),
        graph(
            "Samples of a scrape",
            "How many series each page has.",
            (_process("scrape_samples_scraped"), BY_TARGET),
            look=narrow,
        ),
        graph(
            "Tasks kept",
            "That wait or run, or ended lately. max_tracked_tasks is their limit.",
            (f"sum by (job, instance) ({of('celery_observe_tracker_tasks')})", BY_TARGET),
            look=replace(narrow, width=8),
        ),
        graph(
            "Tasks of workflows kept",
            "The same limit.",
            (f"sum by (job, instance) ({of('celery_observe_workflow_tasks_kept')})", BY_TARGET),
            look=replace(narrow, width=8),
        ),
        graph(
            "Open files", "Of each target.", (_process("process_open_fds"), BY_TARGET), look=replace(narrow, width=8)
        ),
    ]


def _rate_of(name: str) -> str:
    return f'rate({name}{{cluster=~"$cluster", job=~"$job"}}[$__rate_interval]) {OURS}'


def _hooks() -> list[Panel]:
    ten = "10m"
    none = "No alert hooks are set."
    return [
        graph(
            "Raised",
            "Alerts, by rule, and those that were told as a number only; within ten minutes each.",
            (f"sum by (rule) (increase({of('celery_observe_alerts_raised_total')}[{ten}]))", "{{rule}}"),
            (f"sum by (rule) (increase({of('celery_observe_alerts_limited_total')}[{ten}]))", "{{rule}}, limited"),
            look=Look(width=6, empty=none),
        ),
        graph(
            "Sent and dropped",
            "Messages, by sink, within ten minutes each.",
            (f"sum by (sink) (increase({of('celery_observe_alerts_sent_total')}[{ten}]))", "{{sink}}"),
            (
                f"sum by (sink, reason) (increase({of('celery_observe_alerts_dropped_total')}[{ten}]))",
                "{{sink}} dropped: {{reason}}",
            ),
            look=Look(width=6, empty=none),
            alerts=["CeleryAlertsNotDelivered"],
        ),
        graph(
            "Until delivered, p95",
            "From the first thing that a message tells to its delivery.",
            (
                quantile(0.95, _each("celery_observe_alerts_latency_seconds_bucket", "sink, le")),
                "{{sink}}",
            ),
            look=Look(unit="s", width=6, empty=none),
        ),
        graph(
            "Waiting, and not looked at",
            "Messages that wait for their sink, and facts dropped since too many waited.",
            (f"sum by (sink) ({of('celery_observe_alerts_waiting')})", "{{sink}}"),
            (f"sum(increase({of('celery_observe_alerts_facts_dropped_total')}[{ten}]))", "facts dropped"),
            look=Look(width=6),
        ),
    ]


def _targets() -> Panel:
    return listing(
        "Targets",
        "Exporters, sidecars and instrumented processes that are scraped.",
        Column(name="Up", query=f"{_process('up')}", words={"0": ("no", colours.BAD), "1": ("yes", colours.GOOD)}),
        Column(
            name="Asks the broker",
            query=f"max by (job, instance) ({of('celery_observe_leader')})",
            words={"0": ("no", "text"), "1": ("yes", "text")},
        ),
        Column(
            name="",
            query=f"max by (job, instance, version) ({of('celery_observe_build_info')})",
        ),
        keys=["job", "instance", "version"],
        look=Look(width=12, height=9),
        alerts=["CeleryObserverDown"],
    )


def _plugins() -> Panel:
    return listing(
        "Plug-ins",
        "Streams, probes and collectors of each target.",
        Column(
            name="Works",
            query=f"min by (plugin) ({of('celery_observe_plugin_up')})",
            words={"0": ("no", colours.BAD), "1": ("yes", colours.GOOD)},
        ),
        Column(
            name="Errors",
            query=f"sum by (plugin) ({of('celery_observe_plugin_errors_total')})",
            steps=((1, colours.ODD),),
        ),
        Column(
            name="Last answer",
            query=f"min by (plugin) ({age(of('celery_observe_probe_last_success_timestamp_seconds'))})",
            unit="s",
        ),
        keys=["plugin"],
        look=Look(width=12, height=9),
        alerts=["CeleryObserverProbeFailing"],
    )
