"""The live page in a real browser: what a newcomer sees, and what they see when something is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Route

from conftest import require
from services.browser import CHROMIUM, Shown, chromium
from services.exporter import Exporter
from services.imitation import ImitatedWorker
from services.instrumented import Instrumented
from services.ports import LOOPBACK
from services.redis import Redis

pytestmark = [pytest.mark.redis, pytest.mark.xdist_group("browser")]

SECRET = "hunter2"
LONG = "shop_with_a_very_long_name.orders.international.calculate_shipping_and_handling"
FLOWER = "http://flower.example:5555"
RULE = {"on": "failed", "task": LONG, "name": "shipping-fails", "severity": "critical", "group_wait": 0}
SETTINGS = {
    "CELERY_OBSERVE_FLOWER_URL": FLOWER,
    "CELERY_OBSERVE_ALERT_RULE": json.dumps([RULE]),
    "CELERY_OBSERVE_ALERT_SINK": '{"webhook": "http://127.0.0.1:9/"}',
    "CELERY_OBSERVE_QUEUE_INTERVAL": "1",
}

BARRIERS = Path(__file__).with_name("barriers.js").read_text(encoding="utf-8")
"""Returns what would keep somebody out, as lines."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for all of these tests."""
    require("chromium", installed=CHROMIUM is not None)
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    """An exporter that has seen two workers, tasks that end, a workflow, and messages that nobody takes."""
    folder = tmp_path_factory.mktemp("shop")
    with ExitStack() as stack:
        redis = stack.enter_context(Redis(folder))
        page = stack.enter_context(Exporter(folder, redis.url, env=SETTINGS))
        page.wait_until_ready()
        worker = stack.enter_context(ImitatedWorker(redis.url, "celery@" + "a-host-with-a-long-name-" * 3))
        other = stack.enter_context(ImitatedWorker(redis.url, "celery@gone"))
        work(worker, redis)
        other.beat()
        other.say("worker-offline")
        page.wait_for(lambda now: now.total("celery_task_failures_total") == 3)
        page.wait_for(lambda now: now.total("celery_queue_waiting") == 5)
        page.wait_for(lambda now: now.value("celery_workflow_open_tasks", root="orders.place") == 2)
        page.wait_for(lambda now: now.value("celery_worker_up", worker="celery@gone") == 0)
        yield page


def work(worker: ImitatedWorker, redis: Redis) -> None:
    """Have a worker tell of tasks, and messages wait."""
    worker.beat(2)
    worker.accept(40, task="orders.validate")
    for number in range(3):
        task = f"failing-{number}"
        worker.say("task-received", uuid=task, name=LONG, args=f"('{SECRET}',)", kwargs="{}", retries=0)
        worker.say("task-started", uuid=task)
        worker.say("task-failed", uuid=task, exception=f"ValueError('{SECRET}')", traceback=f"Traceback\n{SECRET}")
    worker.processed += 3
    for task, above in (("orders.place", None), ("orders.pack", "orders.place")):
        told = {"root_id": "orders.place", "parent_id": above, "queue": "celery", "routing_key": "celery"}
        worker.say("task-sent", uuid=task, name=task, args="()", kwargs="{}", retries=0, **told)
    with redis.client() as client:
        client.sadd("_kombu.binding.abandoned", "abandoned\x06\x16\x06\x16abandoned")
        client.lpush("abandoned", *["{}"] * 5)


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Shown]]:
    """Open pages; closed after the test."""
    with ExitStack() as stack:

        def start(page: Exporter | Instrumented, **options: Any) -> Shown:
            shown = Shown(browser, f"http://{LOOPBACK}:{page.port}/", **options)
            stack.callback(shown.close)
            return shown

        yield start


def test_a_newcomer_sees_their_system(shop: Exporter, opened: Callable[..., Shown]) -> None:
    """Throughput, queues, workers, slow and failing tasks, workflows, alerts, and whether that can be believed."""
    shown = opened(shop)
    shown.wait_until("document.querySelectorAll('#workers tbody tr').length === 2")

    assert "Live" in shown.text("#state")
    assert "43 ended" in shown.text("#tiles")
    assert re.search(r"abandoned\s+priority 0: 5\s+5\s", shown.text("#queues"))
    assert "gone" in shown.text("#workers")
    assert "orders.validate" in shown.text("#slowest")
    assert re.search(rf"{re.escape(LONG)}\s+ValueError\s+3\s", shown.text("#failing"))
    assert re.search(r"orders\.place\s+1\s+2\s", shown.text("#workflows"))
    assert "shipping-fails" in shown.text("#attention")
    assert "redis" in shown.text("#plugins")
    assert shown.said == []


def test_a_worker_that_does_nothing_is_marked(shop: Exporter, opened: Callable[..., Shown]) -> None:
    """In the list of workers and at their number; what the exporter answers is changed on its way."""
    shown = opened(shop)

    def change(route: Route) -> None:
        answer = route.fetch()
        said = answer.json()
        said["workers"] = [worker | {"up": True, "stalled": True} for worker in said["workers"]]
        route.fulfill(response=answer, json=said)

    shown.page.route("**/overview", change)
    shown.wait_for_text("#workers", "stalled")
    shown.wait_for_text("#tiles", "2 stalled")

    assert shown.said == []


def test_nothing_secret_is_in_the_page(shop: Exporter, opened: Callable[..., Shown]) -> None:
    """Neither arguments nor the text of an exception, in no part of the answer."""
    shown = opened(shop)
    shown.wait_for_text("#failing", LONG)

    assert SECRET not in shown.page.content()
    assert SECRET not in shop.get("/overview")[1]


def test_the_page_asks_nobody_else(shop: Exporter, opened: Callable[..., Shown]) -> None:
    """It loads itself and the overview, and all of it works where there is no internet."""
    shown = opened(shop)
    shown.wait_for_answers(2)

    assert set(shown.asked) == {shown.url, f"{shown.url}overview"}


def test_names_lead_to_flower(shop: Exporter, opened: Callable[..., Shown]) -> None:
    """Of a task to its tasks, those that failed if that is the matter; of a worker, of an alert to its task."""
    shown = opened(shop)
    shown.wait_for_text("#attention", "shipping-fails")
    links = {link.get_attribute("href") for link in shown.page.locator("main a").all()}

    assert f"{FLOWER}/tasks?name=orders.validate" in links
    assert f"{FLOWER}/tasks?name={LONG}&state=FAILURE" in links
    assert f"{FLOWER}/worker/celery%40gone" in links
    assert f"{FLOWER}/task/failing-0" in links


@pytest.mark.parametrize("width", [320, 390, 820, 2560])
def test_no_screen_is_too_narrow(shop: Exporter, opened: Callable[..., Shown], width: int) -> None:
    """Nobody scrolls sideways, whatever tasks and workers are called."""
    shown = opened(shop, width=width)
    shown.wait_for_text("#failing", LONG)
    shown.wait_for_text("#attention", "shipping-fails")

    assert not shown.is_too_wide


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out(shop: Exporter, opened: Callable[..., Shown], scheme: str) -> None:
    """Names for all that can be used, headings in order, heads of tables, contrast, room for a finger."""
    shown = opened(shop, width=390, color_scheme=scheme)
    shown.wait_for_text("#failing", LONG)
    shown.wait_for_text("#attention", "shipping-fails")

    assert shown.page.evaluate(BARRIERS) == []


def test_the_barriers_are_found_where_there_are_some(shop: Exporter, opened: Callable[..., Shown]) -> None:
    """The test above can fail."""
    shown = opened(shop)
    shown.wait_for_text("#failing", LONG)
    shown.page.evaluate(
        """() => {
            document.querySelector('#workers caption').remove();
            document.querySelector('#pause').textContent = '';
            document.querySelector('h2').id = 'main';
            document.querySelector('#failing').classList.add('dim');
            document.styleSheets[0].insertRule('.dim * { color: #999 !important }');
        }"""
    )

    found = shown.page.evaluate(BARRIERS)

    for barrier in ("caption", "name", "id main", "contrast"):
        assert any(barrier in line for line in found), (barrier, found)


def test_the_keyboard_reaches_everything(shop: Exporter, opened: Callable[..., Shown]) -> None:
    """The first key leads past the head; the chart is read with arrows; what has the focus keeps it."""
    shown = opened(shop)
    shown.wait_for_text("#failing", LONG)
    keys = shown.page.keyboard

    keys.press("Tab")
    assert shown.page.evaluate("document.activeElement.className") == "skip"
    keys.press("Enter")
    keys.press("Tab")
    assert shown.page.evaluate("document.activeElement.id") == "chart"
    shown.wait_until("document.querySelectorAll('#chart svg path').length > 0")
    keys.press("Home")
    shown.wait_until("/ago: /.test(document.querySelector('#readout').textContent)")

    shown.page.locator("#failing a").first.focus()
    shown.wait_for_answers(2)
    assert shown.page.evaluate("document.activeElement.closest('table')?.id") == "failing"


def test_it_can_be_paused(shop: Exporter, opened: Callable[..., Shown]) -> None:
    """Who reads slowly stops the clock, and goes on with the same key."""
    shown = opened(shop)
    shown.wait_for_text("#state", "Live")

    shown.page.locator("#pause").press("Enter")
    shown.wait_for_text("#state", "Paused")
    shown.page.wait_for_load_state("networkidle")
    asked = len(shown.asked)
    shown.page.wait_for_timeout(3000)
    assert len(shown.asked) == asked

    shown.page.locator("#pause").press("Enter")
    shown.wait_for_text("#state", "Live")
    shown.wait_for_answers(1)


def test_it_outlives_its_exporter(
    redis_server: Redis, exporter: Callable[..., Exporter], opened: Callable[..., Shown]
) -> None:
    """While nobody answers it says so; afterwards it goes on by itself, and shows what comes then."""
    page = exporter(redis_server.url)
    shown = opened(page)
    shown.wait_for_text("#chart-empty", "No worker has been heard of yet")

    page.stop()
    shown.wait_for_text("#state", "No answer")
    page.start()
    shown.wait_for_text("#state", "Live")
    with ImitatedWorker(redis_server.url) as worker:
        page.wait_until_ready()
        worker.beat()
        worker.accept(5, task="after.the.restart")
        shown.wait_for_text("#slowest", "after.the.restart")

    assert [said for said in shown.said if "ERR_CONNECTION_REFUSED" not in said] == []


def test_a_blind_exporter_says_so(
    redis_server: Redis, exporter: Callable[..., Exporter], opened: Callable[..., Shown]
) -> None:
    """A broker that is gone is the first thing one sees; and that it is back, too."""
    page = exporter(redis_server.url)
    page.wait_until_ready()
    shown = opened(page)
    shown.wait_for_text("#state", "Live")

    redis_server.kill()
    shown.wait_for_text("#state", "Not ready")
    shown.wait_for_text("#banner", redis_server.url)
    redis_server.start()
    shown.wait_for_text("#state", "Live")

    assert not shown.page.locator("#banner").is_visible()
    assert shown.said == []


def test_who_may_not_read_metrics_may_not_see_the_page(
    redis_server: Redis, exporter: Callable[..., Exporter], opened: Callable[..., Shown], tmp_path: Path
) -> None:
    """A browser signs in once, for the page and for what it asks."""
    passwords = tmp_path / "passwords"
    passwords.write_text(f"u:{SECRET}\n")
    page = exporter(redis_server.url, arguments=("--basic-auth-file", str(passwords)))

    assert [page.get(path)[0] for path in ("/", "/overview")] == [401, 401]
    shown = opened(page, http_credentials={"username": "u", "password": SECRET})
    shown.wait_for_text("#state", "Live")
    assert shown.said == []


def test_a_worker_that_serves_metrics_serves_the_page(
    redis_server: Redis, processes: ExitStack, opened: Callable[..., Shown], tmp_path: Path
) -> None:
    """What one process knows: its tasks and itself, and where to ask about queues."""
    worker = processes.enter_context(Instrumented(tmp_path, redis_server.url, pool="prefork"))
    worker.send("add", 1, 2)
    shown = opened(worker)

    shown.wait_for_text("#slowest", "add")
    shown.wait_for_text("#workers", worker.node)
    assert "asked by an exporter" in shown.text("#queues-empty")
    assert shown.said == []
