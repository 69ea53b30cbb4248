"""Where boards lead to: one another, runbooks, Flower, traces.

The addresses of runbooks and Flower are those of alerts: labels of `celery_observe:links`, which
alerts/rules/links.yml sets.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from urllib.parse import quote

import yaml
from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

TAG = "celery-observe"
RUNBOOK = "runbook"
"""The label that leads from a row to the runbook of its alert, whose name it has as value."""

_RULES = Path(__file__).parents[3] / "alerts" / "rules"
_KEPT = "${__url_time_range}&${datasource:queryparam}&${cluster:queryparam}&${job:queryparam}&${broker:queryparam}"
_VALUE = "${__value.raw:percentencode}"


def _link(title: str, url: str, *, leaves: bool) -> models.DashboardLink:
    return models.DashboardLink(title=title, url=url, target_blank=leaves)


def _to_board(board: str, variable: str) -> models.DashboardLink:
    return _link(f"This {variable}", f"/d/celery-{board}?var-{variable}={_VALUE}&{_KEPT}", leaves=False)


ROWS: dict[str, list[models.DashboardLink]] = {
    "task": [_to_board("tasks", "task"), _link("Its tasks in Flower", f"${{flower}}/tasks?name={_VALUE}", leaves=True)],
    "queue": [_to_board("queues", "queue")],
    "worker": [_to_board("workers", "worker"), _link("In Flower", f"${{flower}}/worker/{_VALUE}", leaves=True)],
    "root": [_to_board("workflows", "root")],
    "entry": [_to_board("beat", "entry")],
    RUNBOOK: [_link("Its runbook", "${runbooks}/${__value.text}", leaves=True)],
}
"""The links of a cell in a table, by the label whose value is in it."""


@cache
def runbooks() -> dict[str, str]:
    """Return the section of each alert, to be appended to `${runbooks}/`: `queues.md#celeryqueuegrowing`."""
    files = {file.stem: yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(_RULES.glob("*.yml"))}
    return {
        rule["alert"]: f"{subsystem}.md#{rule['alert'].lower()}"
        for subsystem, file in files.items()
        for group in file["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }


def of_runbooks(alerts: Sequence[str]) -> list[Builder[models.DashboardLink]]:
    """Return the links of a panel to what to do when these alerts fire."""
    return [
        dashboard.DashboardLink(f"Runbook: {alert}")
        .url(f"${{runbooks}}/{runbooks()[alert]}")
        .target_blank(target_blank=True)
        for alert in alerts
    ]


def of_more(board: str) -> Builder[models.DashboardLink]:
    """Return the link of a number to the board that tells more."""
    return dashboard.DashboardLink(board.capitalize()).url(f"/d/celery-{board}?{_KEPT}")


def of_board() -> list[Builder[models.DashboardLink]]:
    """Return the links that every board has above its panels."""
    boards = dashboard.DashboardLink("Celery").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
    flower = dashboard.DashboardLink("Flower").url("${flower}").icon("external link").target_blank(target_blank=True)
    manual = dashboard.DashboardLink("Runbooks").url("${runbooks}").icon("doc").target_blank(target_blank=True)
    return [boards.include_vars(include_vars=True).keep_time(keep_time=True), flower, manual]


def of_traces(query: str) -> dashboard.DashboardLink:
    """Return a link to what a TraceQL query finds in the data source `$traces`, in the time that the board shows."""
    source = {"type": "tempo", "uid": "${traces}"}
    asked = {"refId": "A", "datasource": source, "queryType": "traceql", "query": query}
    span = {"from": "${__from}", "to": "${__to}"}
    panes = json.dumps({"traces": {"datasource": "${traces}", "queries": [asked], "range": span}})
    url = f"/explore?schemaVersion=1&panes={quote(panes, safe='${}')}"
    return dashboard.DashboardLink("Traces").url(url).icon("gf-traces").target_blank(target_blank=True)
