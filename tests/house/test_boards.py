"""The dashboards are what their sources make of them, are what Grafana reads, and ask for what there is."""

from __future__ import annotations

import json
import re
import runpy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from celery_observe.fact import Cause, Departure, Ending, Exit, Outcome, Stage
from house import promql
from house.boards import BOARDS, EVERYTHING, Query, asked, content, filled, known, panels, queries
from house.rules import alerts, runbooks
from house.source import ROOT

GRAFANAS = {"__rate_interval", "__interval", "__range", "__url_time_range", "__value", "__from", "__to"}
WORDING = {"titleFormat", "textFormat", "tagKeys", "step", "useValueForTime"}
"""What Prometheus' data source reads of an annotation, of which Grafana's schema says nothing."""

every_board = pytest.mark.parametrize("board", BOARDS, ids=lambda file: file.stem)
every_query = pytest.mark.parametrize("query", queries(), ids=str)


def variables(board: Path) -> dict[str, dict[str, Any]]:
    """The variables of a board, by name."""
    return {variable["name"]: variable for variable in content(board)["templating"]["list"]}


def texts(value: Any) -> Iterator[str]:
    """All texts in a JSON document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from texts(each)


def urls(board: Path) -> Iterator[str]:
    """All addresses to which a board leads, with its variables in them."""
    return (text for text in texts(content(board)) if re.match(r"(/d/|/explore|\$\{(flower|runbooks)\})", text))


def test_the_boards_are_what_their_sources_make() -> None:
    """dashboards/*.json are written by scripts/render_dashboards.py: run it."""
    script = runpy.run_path(str(ROOT / "scripts" / "render_dashboards.py"))

    assert {board.name: board.read_text() for board in BOARDS} == script["rendered"]()


@every_board
def test_grafana_reads_all_that_a_board_says(board: Path) -> None:
    """Its own types take a board in and give it back, with nothing left out but the wording of annotations."""
    said = content(board)
    read = json.loads(json.dumps(Dashboard.from_json(said), cls=JSONEncoder))

    for annotation in said["annotations"]["list"]:
        assert set(annotation) >= WORDING
    worded = [{key: text for key, text in each.items() if key not in WORDING} for each in said["annotations"]["list"]]
    assert read == said | {"annotations": {"list": worded}}


@every_board
def test_a_board_can_be_found(board: Path) -> None:
    """By its uid, by a tag that all have, and by a title and a description that say what it is for."""
    said = content(board)

    assert said["uid"] == f"celery-{board.stem}"
    assert said["title"] == f"Celery / {board.stem.capitalize()}"
    assert said["tags"] == ["celery-observe"]
    assert said["description"].endswith((".", "?"))


@every_board
def test_a_panel_says_what_it_shows(board: Path) -> None:
    """Title, description, unit, the data source that was chosen, and an id; no title or id twice."""
    titles = Counter(panel["title"] for panel in panels(board))
    numbers = Counter(panel["id"] for panel in [*panels(board), *content(board)["panels"]])

    assert [title for title, count in titles.items() if count > 1] == []
    assert None not in numbers
    assert all(panel["description"].endswith(".") for panel in panels(board))
    for panel in panels(board):
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert {each["datasource"]["uid"] for each in [panel, *panel["targets"]]} == {"${datasource}"}


@every_board
def test_panels_stand_side_by_side(board: Path) -> None:
    """Each within the 24 columns, and none upon another."""
    taken: Counter[tuple[int, int]] = Counter()
    for panel in panels(board):
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken.update((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"]))

    assert not [cell for cell, count in taken.items() if count > 1]


@every_query
def test_a_query_asks_for_what_there_is(query: Query) -> None:
    """Families and labels of the catalogue, values that labels can have, what rules record; of the targets chosen."""
    promql.labels_of(query.filled(task="orders.validate"), known())
    for selector in re.findall(r"(?<![\w:])celery_\w+\{([^}]*)\}", query.expression):
        assert {"$cluster", "$job", "$broker"} <= set(re.findall(r"\$\w+", selector))


@every_board
def test_a_graph_has_no_more_series_than_one_can_tell_apart(board: Path) -> None:
    """Where there is one for each task, queue, worker, root or entry, only the first ten are drawn."""
    many = {"task", "queue", "worker", "root", "entry"}
    drawn = (query for query in queries() if query.board == board.stem and not query.instant)
    for query in drawn:
        if promql.labels_of(query.filled(task="orders.validate"), known()) & many and "$task" not in query.expression:
            assert "topk(10," in query.expression, query


@every_board
def test_variables_ask_for_what_there_is(board: Path) -> None:
    """A label of a series of the catalogue; and all that a board asks for is a variable of it, or Grafana's own."""
    for variable in variables(board).values():
        if variable["type"] != "query":
            continue
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
        assert found
        labels = promql.labels_of(filled(found[1], EVERYTHING), known() | LINKS)
        assert found[2] in labels

    wanted = {name for text in texts(content(board)["panels"]) for name in asked(text)}
    wanted |= {name for text in urls(board) for name in asked(text)}
    assert wanted - GRAFANAS <= variables(board).keys()


LINKS = {"celery_observe:links": frozenset({"flower", "runbooks"})}


@every_board
def test_alerts_are_marked_on_every_board(board: Path) -> None:
    """Those that fire, of the targets that were chosen."""
    (annotation,) = content(board)["annotations"]["list"]

    promql.labels_of(filled(annotation["expr"], EVERYTHING | {"task": "orders.validate"}), known())
    assert annotation["enable"]


def test_durations_of_tasks_lead_to_traces() -> None:
    """The heatmap and the quantiles of one task ask for exemplars, as all that draws its histogram over time does."""
    targets = [(panel, target) for board in BOARDS for panel in panels(board) for target in panel["targets"]]
    drawn = [each for each in targets if "celery_task_runtime_seconds_bucket" in each[1]["expr"] and each[1]["range"]]

    assert [panel["title"] for panel, target in drawn if not target.get("exemplar")] == []
    assert {("heatmap", False), ("timeseries", True)} <= {
        (panel["type"], "histogram_quantile" in target["expr"]) for panel, target in drawn
    }


def test_alerts_lead_to_boards_that_there_are() -> None:
    """By uid, and with a variable that the board has."""
    boards = {content(board)["uid"]: board for board in BOARDS}
    for alert in alerts():
        url = re.sub(r"\{\{.*?\}\}", "", alert.annotations["dashboard_url"])
        board = boards[url.split("?")[0].removeprefix("/d/")]
        assert set(re.findall(r"var-(\w+)=", url)) <= variables(board).keys()


@every_board
def test_a_board_leads_to_what_there_is(board: Path) -> None:
    """To other boards with variables that they have, and to sections of runbooks; every board to all the others."""
    boards = {content(each)["uid"]: each for each in BOARDS}
    sections = {f"{book.file.name}#{book.alert.lower()}" for book in runbooks()}
    for url in urls(board):
        if url.startswith("/d/"):
            parts = urlsplit(url)
            target = boards[parts.path.removeprefix("/d/")]
            assert set(re.findall(r"var-(\w+)=", parts.query)) <= variables(target).keys()
        if url.startswith("${runbooks}/") and "__value" not in url:
            assert url.removeprefix("${runbooks}/") in sections

    (others, *outside) = content(board)["links"]
    assert others["type"] == "dashboards"
    assert others["tags"] == ["celery-observe"]
    assert {"${flower}", "${runbooks}"} <= {link["url"] for link in outside}


def test_the_board_of_a_task_leads_to_its_traces() -> None:
    """Grafana's Explore is asked for them in TraceQL, of the data source that was chosen and the time that is shown."""
    (url,) = (url for board in BOARDS for url in urls(board) if url.startswith("/explore"))
    (pane,) = json.loads(parse_qs(urlsplit(url).query)["panes"][0]).values()
    (query,) = pane["queries"]

    assert query["query"] == '{ span.celery.task.name = "$task" }'
    assert query["datasource"] == {"type": "tempo", "uid": "${traces}"}
    assert pane["range"] == {"from": "${__from}", "to": "${__to}"}


def test_the_numbers_of_the_overview_lead_on() -> None:
    """Each to the board that tells more of it; that of alerts to their list below."""
    overview = next(board for board in BOARDS if board.stem == "overview")
    numbers = {panel["title"]: panel for panel in panels(overview) if panel["type"] == "stat"}
    leading = {title for title, panel in numbers.items() if panel["fieldConfig"]["defaults"].get("links")}

    assert numbers.keys() - leading == {"Alerts that fire"}


def test_every_alert_is_answered_by_a_panel() -> None:
    """The runbook of each alert is a link of some panel that shows what the alert is about."""
    linked = {url.rpartition("#")[2] for board in BOARDS for url in urls(board) if url.startswith("${runbooks}/")}

    assert {alert.name.lower() for alert in alerts()} - linked - UNSEEN.keys() == set()


UNSEEN = {"celeryobjectiveunmeasured": "it says that there is nothing to draw"}


@pytest.mark.parametrize(
    ("colours", "meanings"),
    [
        ("OUTCOMES", Outcome),
        ("CAUSES", Cause),
        ("ENDINGS", Ending),
        ("EXITS", Exit),
        ("DEPARTURES", Departure),
        ("STAGES", Stage),
    ],
)
def test_every_meaning_has_its_colour(colours: str, meanings: Any) -> None:
    """One of its own, the same on all boards."""
    chosen = runpy.run_path(str(ROOT / "dashboards" / "src" / "kit" / "colours.py"))[colours]

    assert chosen.keys() == set(meanings)
    assert len(set(chosen.values())) == len(chosen)


def test_grafana_is_provisioned_with_these_boards() -> None:
    """From files: a data source of Prometheus that leads from exemplars to traces, and the folder of the boards."""
    folder = ROOT / "dashboards" / "provisioning"
    (provider,) = yaml.safe_load((folder / "dashboards" / "celery-observe.yml").read_text())["providers"]
    sources = yaml.safe_load((folder / "datasources" / "celery-observe.yml").read_text())["datasources"]
    uids = {source["uid"]: source for source in sources}
    (prometheus,) = (source for source in sources if source["type"] == "prometheus")
    (exemplars,) = prometheus["jsonData"]["exemplarTraceIdDestinations"]

    assert provider["options"]["path"].endswith("celery-observe")
    assert prometheus["isDefault"]
    assert exemplars["name"] == "trace_id"
    assert uids[exemplars["datasourceUid"]]["type"] == "tempo"


def test_the_page_about_boards_shows_each() -> None:
    """docs/dashboards.md has a heading and a picture of every board, and no picture is large."""
    page = (ROOT / "docs" / "dashboards.md").read_text()
    for board in BOARDS:
        picture = ROOT / "docs" / "dashboards" / f"{board.stem}.png"
        assert f"## {board.stem.capitalize()}" in page
        assert f"(dashboards/{board.stem}.png)" in page
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.stat().st_size < 300_000
