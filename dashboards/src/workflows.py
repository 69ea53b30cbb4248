"""Workflows: chains, groups and chords as wholes, where their time goes, and chords that do not come to an end."""

from __future__ import annotations

from dataclasses import replace

from grafana_foundation_sdk.builders import dashboard

from dashboards.src.kit import colours
from dashboards.src.kit.boards import board as made
from dashboards.src.kit.boards import choice
from dashboards.src.kit.panels import PER_SECOND, Column, Look, Panel, graph, heat, listing, number
from dashboards.src.kit.queries import counted, increase, now, of, otherwise, quantile, rate, ratio, top, total, zero

WHERE = 'root=~"$root"'
ENDED = "celery_workflow_outcomes_total"
DURATION = "celery_workflow_duration_seconds"
KNOWN = of(ENDED, WHERE)
SMALL = Look(width=4, height=4, base=colours.NEUTRAL)
TROUBLE = replace(SMALL, base=colours.GOOD, steps=((1, colours.BAD),))


def board() -> dashboard.Dashboard:
    """Return the board."""
    rows = {
        "": _numbers(),
        "How they end, and when": _course(),
        "Where their time goes": _time(),
        "Groups and chords": _parts(),
        "One by one": [_table()],
    }
    return made(
        "workflows",
        "Chains, groups and chords as wholes, by the task with which they began: how they end, where their time goes, "
        "and chords whose body does not come.",
        rows,
        variables=[choice("root", f"label_values({of(ENDED)}, root)")],
    )


def _numbers() -> list[Panel]:
    return [
        number(
            "Active",
            "Workflows that have not ended.",
            (otherwise(now("celery_workflow_active", where=WHERE), zero(KNOWN)), ""),
            look=SMALL,
        ),
        number(
            "Open tasks",
            "Of these workflows.",
            (otherwise(now("celery_workflow_open_tasks", where=WHERE), zero(KNOWN)), ""),
            look=SMALL,
        ),
        number(
            "Failing",
            "Of those that ended within the time shown.",
            (
                ratio(otherwise(increase(ENDED, where=_FAILED), zero(KNOWN)), increase(ENDED, where=WHERE)),
                "",
            ),
            look=replace(
                SMALL, unit="percentunit", base=colours.GOOD, steps=((0.01, colours.ODD), (0.05, colours.BAD))
            ),
        ),
        number(
            "Duration, p95",
            "From first publish to last end.",
            (quantile(0.95, rate(f"{DURATION}_bucket", "le", WHERE, "$__range")), ""),
            look=replace(SMALL, unit="s"),
        ),
        number(
            "Chords that wait",
            "Chords whose header is not complete.",
            (otherwise(now("celery_chord_waiting", where=WHERE), zero(KNOWN)), ""),
            look=SMALL,
        ),
        number(
            "Chords stalled",
            "Chords whose body does not come.",
            (otherwise(now("celery_chord_stalled", where=WHERE), zero(KNOWN)), ""),
            look=TROUBLE,
            alerts=["CeleryChordStalled"],
        ),
    ]


def _course() -> list[Panel]:
    return [
        graph(
            "How workflows end",
            "Each second; failed if one of their tasks did for good, abandoned if nothing was heard of them for a day.",
            (rate(ENDED, "outcome", WHERE), "{{outcome}}"),
            look=Look(unit=PER_SECOND, colours=colours.ENDINGS, stacked=True),
            alerts=["CeleryWorkflowsAbandoned"],
        ),
        heat(
            "Duration",
            "How many took how long.",
            total("le", counted(f"increase({of(f'{DURATION}_bucket', WHERE)}[$__rate_interval])")),
            look=Look(unit="s"),
        ),
        graph(
            "Active, by kind",
            "Workflows that have not ended: the ten kinds with the most.",
            (
                otherwise(top(now("celery_workflow_active", "root", WHERE), "root"), zero(KNOWN, root="none")),
                "{{root}}",
            ),
            look=Look(),
        ),
    ]


def _time() -> list[Panel]:
    spent = rate("celery_workflow_critical_path_seconds_total", "stage", WHERE)
    ended = rate(f"{DURATION}_count", where=WHERE)
    return [
        graph(
            "Mean seconds on the critical path, by stage",
            "Of each workflow that ended: had this been faster, so had the workflow. The stages add up to the "
            "duration.",
            (f"{spent}\n/ on () group_left ()\n(\n{ended}\n> 0)", "{{stage}}"),
            look=Look(unit="s", width=12, colours=colours.STAGES, stacked=True),
        ),
        graph(
            "Length",
            "Tasks of a workflow, and those one after the other on its critical path: the mean.",
            (_mean("celery_workflow_tasks"), "tasks"),
            (_mean("celery_workflow_critical_path_tasks"), "on the path"),
            look=Look(width=6),
        ),
        graph(
            "Retries",
            "Of tasks of workflows, each second: the ten kinds with the most.",
            (
                otherwise(top(rate("celery_workflow_retries_total", "root", WHERE), "root"), zero(KNOWN, root="none")),
                "{{root}}",
            ),
            look=Look(unit=PER_SECOND, width=6),
        ),
    ]


def _mean(family: str) -> str:
    return ratio(rate(f"{family}_sum", where=WHERE), rate(f"{family}_count", where=WHERE))


def _parts() -> list[Panel]:
    return [
        graph(
            "Progress of groups",
            "Tasks of groups that are not finished, and those of them that have ended. Told by instrumented processes.",
            (otherwise(now("celery_workflow_group_tasks", where=WHERE), zero(KNOWN)), "tasks"),
            (otherwise(now("celery_workflow_group_tasks_ended", where=WHERE), zero(KNOWN)), "ended"),
            look=Look(width=6, colours={"tasks": colours.NEUTRAL, "ended": colours.GOOD}),
        ),
        graph(
            "Chords",
            "That wait for their header, and that are stalled.",
            (otherwise(now("celery_chord_waiting", where=WHERE), zero(KNOWN)), "waiting"),
            (otherwise(now("celery_chord_stalled", where=WHERE), zero(KNOWN)), "stalled"),
            look=Look(width=6, colours={"waiting": colours.NEUTRAL, "stalled": colours.BAD}),
            alerts=["CeleryChordStalled"],
        ),
        graph(
            "Broken chords",
            "Chords whose body will not be executed, by what the worker says that found it; within ten minutes each.",
            (
                otherwise(increase("celery_chord_errors_total", "reason", WHERE, "10m"), zero(KNOWN, reason="none")),
                "{{reason}}",
            ),
            look=Look(width=6),
            alerts=["CeleryChordsBroken"],
        ),
        graph(
            "Items of maps",
            "Each second, in map, starmap and chunks, by the task that is executed for each in place. Told by "
            "instrumented processes.",
            (f"topk(10,\n{rate('celery_workflow_map_items_sum', 'task')}\n)", "{{task}}"),
            look=Look(unit=PER_SECOND, width=6),
        ),
    ]


def _table() -> Panel:
    ended = increase(ENDED, "root", WHERE)
    most = f"topk(100, {ended})"
    failing = ratio(increase(ENDED, "root", _FAILED), ended)
    duration = ratio(increase(f"{DURATION}_sum", "root", WHERE), increase(f"{DURATION}_count", "root", WHERE))
    return listing(
        "Workflows",
        "The hundred kinds that ended most often within the time shown.",
        Column(name="Ended", decimals=0, query=most),
        Column(
            name="Failing",
            query=f"{failing} and on (root) {most}",
            unit="percentunit",
            steps=((0.01, colours.ODD), (0.05, colours.BAD)),
        ),
        Column(
            name="Mean duration",
            query=f"{duration} and on (root) {most}",
            unit="s",
        ),
        Column(name="Active", query=f"{now('celery_workflow_active', 'root', WHERE)} and on (root) {most}"),
        keys=["root"],
        look=Look(width=24, height=9),
    )


_FAILED = f'{WHERE}, outcome="failed"'
