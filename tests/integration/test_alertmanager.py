"""The shipped configuration of Alertmanager: who is told, once, and what is kept back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.prometheus import CONFIGURATION, SHIPPED, Alertmanager
from services.waiting import eventually
from services.webhook import Webhook

TEMPLATE = str(SHIPPED / "alertmanager" / "celery.tmpl")

CRITICAL = {
    "CeleryAllWorkersDown",
    "CeleryBeatDead",
    "CeleryObserverBlind",
    "CeleryObserverDown",
    "CeleryQueueWithoutConsumers",
    "CeleryWorkerStalled",
}
LINKS = {"runbook_url": "https://r", "dashboard_url": "https://d"}


def alert(name: str, *, resolved: bool = False, **labels: str) -> dict[str, Any]:
    """An alert as Prometheus sends it; it lasts for an hour, or is over."""
    severity = "critical" if name in CRITICAL else "warning"
    ends = datetime.now(UTC) + timedelta(hours=-1 if resolved else 1)
    return {
        "labels": {"alertname": name, "severity": severity, "job": "celery", **labels},
        "annotations": {"summary": f"{name} it is", "description": "It is so.", **LINKS},
        "startsAt": (ends - timedelta(hours=1)).isoformat(),
        "endsAt": ends.isoformat(),
    }


@pytest.fixture
def told(webhook: Webhook) -> Callable[[int], list[tuple[str, str, str]]]:
    """Wait until so much has been told; returns it, as receiver, alert and status."""

    def wait(count: int) -> list[tuple[str, str, str]]:
        eventually(lambda: len(webhook.summary()) >= count, what=f"{count} alerts told")
        return webhook.summary()

    return wait


def test_the_configuration_is_valid(amtool: str) -> None:
    """Says amtool, of the file as it is shipped."""
    checked = subprocess.run([amtool, "check-config", str(CONFIGURATION)], capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (("severity=critical",), "pager"),
        (("severity=warning",), "channel"),
        (("severity=critical", "team=payments"), "payments-pager"),
        (("severity=warning", "team=payments"), "payments-channel"),
        (("severity=critical", "team=unheard-of"), "pager"),
    ],
    ids=" ".join,
)
def test_severity_and_team_say_who_is_told(amtool: str, labels: tuple[str, ...], receiver: str) -> None:
    """A critical alert pages, a warning goes to the channel; a team has its own of both."""
    command = [amtool, "config", "routes", "test", f"--config.file={CONFIGURATION}", "alertname=CeleryX", *labels]

    routed = subprocess.run(command, capture_output=True, text=True, check=True)

    assert routed.stdout.split() == [receiver]


def test_a_message_says_what_and_where_to_look(amtool: str, tmp_path: Path) -> None:
    """The templates name the first alert, count the others, and give the links of each."""
    annotations = {"summary": "Queue mail grows", "description": "It does.", "runbook_url": "R", "dashboard_url": "D"}
    alerts = [
        {"status": "firing", "labels": {"alertname": name, "severity": "warning"}, "annotations": annotations}
        for name in ("CeleryQueueGrowing", "CeleryTaskHung")
    ]
    alerts[1]["annotations"] = annotations | {"flower_url": "F"}
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"receiver": "channel", "status": "firing", "alerts": alerts}))

    def render(template: str) -> str:
        command = [amtool, "template", "render", f"--template.glob={TEMPLATE}", f"--template.data={data}"]
        command += [f'--template.text={{{{ template "{template}" . }}}}']
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert render("celery.title").strip() == "[firing 2] Queue mail grows and 1 more"
    first, second = render("celery.text").strip().split("\n\n")
    assert first == "warning CeleryQueueGrowing: It does.\nRunbook: R\nDashboard: D"
    assert second.endswith("Flower: F")


def test_each_alert_is_told_once_and_so_is_its_end(
    alertmanager: Alertmanager, told: Callable[[int], list[tuple[str, str, str]]]
) -> None:
    """Though Prometheus repeats it, as it does all the time."""
    for _ in range(3):
        alertmanager.tell(alert("CeleryWorkerStalled", worker="w1@h"))
    first = told(1)
    for _ in range(3):
        alertmanager.tell(alert("CeleryWorkerStalled", worker="w1@h"))
    alertmanager.tell(alert("CeleryWorkerStalled", worker="w1@h", resolved=True))

    assert first == [("pager", "CeleryWorkerStalled", "firing")]
    assert told(2) == [*first, ("pager", "CeleryWorkerStalled", "resolved")]


def test_one_trouble_of_one_queue_is_one_message(alertmanager: Alertmanager, webhook: Webhook) -> None:
    """However many tasks have it; another trouble, another queue, or the same in another cluster, is another."""
    alertmanager.tell(
        *(alert("CeleryTasksKilled", cluster="eu", queue="mail", task=task) for task in ("send", "read", "file")),
        alert("CeleryQueueGrowing", cluster="eu", queue="mail"),
        alert("CeleryQueueGrowing", cluster="eu", queue="pay"),
        alert("CeleryQueueGrowing", cluster="us", queue="mail"),
    )

    eventually(lambda: len(webhook.calls) >= 4, what="four messages")
    assert sorted(len(call.body["alerts"]) for call in webhook.calls) == [1, 1, 1, 3]


def test_what_comes_and_goes_beside_it_repeats_no_alert(
    alertmanager: Alertmanager, told: Callable[[int], list[tuple[str, str, str]]]
) -> None:
    """Of the same broker and queue; though Prometheus repeats for a quarter of an hour that one is over."""
    names = ("CeleryQueueGrowing", "CeleryDeadLettersGrowing")
    growing, dead = (alert(name, broker="fast", queue="mail") for name in names)
    not_growing, not_dead = (alert(name, resolved=True, broker="fast", queue="mail") for name in names)
    for count, each in enumerate((growing, dead, not_growing), start=1):
        alertmanager.tell(each)
        told(count)
    alertmanager.tell(not_growing, not_dead)

    assert told(4) == [
        ("channel", "CeleryQueueGrowing", "firing"),
        ("channel", "CeleryDeadLettersGrowing", "firing"),
        ("channel", "CeleryQueueGrowing", "resolved"),
        ("channel", "CeleryDeadLettersGrowing", "resolved"),
    ]


def test_the_shipped_receivers_open_one_incident_and_close_it(
    processes: ExitStack, tmp_path: Path, webhook: Webhook
) -> None:
    """A second worker that stalls joins the incident of the first, and Slack gets a text with links."""
    alertmanager = processes.enter_context(Alertmanager(tmp_path, webhook.url, services=True))
    stalled = [alert("CeleryWorkerStalled", worker=worker) for worker in ("w1@h", "w2@h")]

    def events(count: int) -> list[dict[str, Any]]:
        eventually(lambda: [call.path for call in webhook.calls].count("pagerduty") >= count, what="an event")
        return [call.body for call in webhook.calls if call.path == "pagerduty"]

    for count, each in enumerate(stalled, start=1):
        alertmanager.tell(each, alert("CeleryQueueGrowing", queue="mail"))
        events(count)
    alertmanager.tell(*(alert("CeleryWorkerStalled", resolved=True, worker=worker) for worker in ("w1@h", "w2@h")))
    told = events(3)

    assert [event["event_action"] for event in told] == ["trigger", "trigger", "resolve"]
    assert len({event["dedup_key"] for event in told}) == 1
    assert {event["routing_key"] for event in told} == {"pager"}
    assert told[1]["payload"]["summary"] == "[firing 2] CeleryWorkerStalled it is and 1 more"
    assert "Runbook: https://r" in told[0]["payload"]["custom_details"]["text"]
    (posted,) = [call.body["attachments"][0] for call in webhook.calls if call.path == "channel"]
    assert posted["title"] == "[firing 1] CeleryQueueGrowing it is"
    assert "warning CeleryQueueGrowing: It is so.\nRunbook: https://r" in posted["text"]


def test_an_unreachable_broker_silences_the_rest(
    alertmanager: Alertmanager, told: Callable[[int], list[tuple[str, str, str]]]
) -> None:
    """Of that broker; the troubles of another, and of one of this name in another cluster, are told."""
    alertmanager.tell(alert("CeleryObserverBlind", cluster="eu", broker="fast"))
    first = told(1)
    alertmanager.tell(
        alert("CeleryAllWorkersDown", cluster="eu", broker="fast"),
        alert("CeleryQueueGrowing", cluster="eu", broker="fast", queue="mail"),
        alert("CeleryQueueGrowing", cluster="eu", broker="slow", queue="mail"),
        alert("CeleryQueueGrowing", cluster="us", broker="fast", queue="mail"),
    )

    assert first == [("pager", "CeleryObserverBlind", "firing")]
    assert told(3) == [*first, *[("channel", "CeleryQueueGrowing", "firing")] * 2]
    assert alertmanager.kept_back() == ["CeleryAllWorkersDown", "CeleryQueueGrowing"]


def test_nothing_is_told_by_targets_that_are_gone(
    alertmanager: Alertmanager, told: Callable[[int], list[tuple[str, str, str]]]
) -> None:
    """All of a job: what is known of its workers, queues and beat is old; another job is another matter."""
    alertmanager.tell(alert("CeleryObserverDown"))
    first = told(1)
    alertmanager.tell(alert("CeleryBeatDead"), alert("CeleryTaskHung"), alert("CeleryTaskHung", job="other"))

    assert told(2) == [*first, ("channel", "CeleryTaskHung", "firing")]
    assert alertmanager.kept_back() == ["CeleryBeatDead", "CeleryTaskHung"]


def test_what_explains_keeps_back_what_follows(
    alertmanager: Alertmanager, told: Callable[[int], list[tuple[str, str, str]]]
) -> None:
    """No worker is up: so no queue has a consumer, and each queue grows."""
    alertmanager.tell(alert("CeleryAllWorkersDown"))
    told(1)
    alertmanager.tell(
        alert("CeleryWorkerLost", worker="w1@h"),
        alert("CeleryQueueWithoutConsumers", queue="mail"),
        alert("CeleryQueueGrowing", queue="mail"),
        alert("CeleryDeadLettersGrowing", queue="mail.dlq"),
    )

    assert told(2)[1:] == [("channel", "CeleryDeadLettersGrowing", "firing")]
    assert alertmanager.kept_back() == ["CeleryQueueGrowing", "CeleryQueueWithoutConsumers", "CeleryWorkerLost"]
