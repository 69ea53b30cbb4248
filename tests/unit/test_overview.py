"""What the live page is told: of this moment, of the last minutes, and nothing that is not known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from celery_observe.fact import Ended, Failed, Outcome, Started
from celery_observe.metrics import observer, queues, tasks, workers, workflows
from celery_observe.overview import Alert, Overview, Source, Viewer
from celery_observe.overview.past import POINTS
from celery_observe.overview.tables import MOST_RANKED, MOST_ROWS
from celery_observe.recorder import Recorder
from celery_observe.testing import FakeClock


class Seen:
    """A viewer, and the recorders that it looks at."""

    def __init__(self, *brokers: str) -> None:
        self.clock = FakeClock()
        self.own = Recorder()
        self.recorders = [Recorder(const_labels={"broker": broker} if broker else {}) for broker in brokers or ("",)]
        self.viewer = Viewer(self.clock.now, version="1", brokers=brokers, flower=None)
        self.live = self.connected = True
        self.problems: dict[str, str] = {}

    @property
    def recorder(self) -> Recorder:
        """The first one."""
        return self.recorders[0]

    def look(self, seconds: float = 0.0, *, reasons: Iterable[str] = (), alerts: Any = None) -> Overview:
        """What there is to see after some seconds: remembered every two of them, looked at now and then."""
        for turn in range(int(seconds / 2)):
            self.clock.advance(2.0)
            self.viewer.remember(self.clock.now, self._sources)
            if turn % 30 == 0:
                self._look()
        return self._look(tuple(reasons), alerts)

    @property
    def _sources(self) -> list[Source]:
        return [Source(each, self.live, self.connected, self.problems) for each in self.recorders]

    def _look(self, reasons: tuple[str, ...] = (), alerts: Any = None) -> Overview:
        return self.viewer.look(self.clock.now, self._sources, Source(self.own), reasons, alerts)

    def end(self, task: str = "t", outcome: Outcome = Outcome.SUCCEEDED, runtime: float = 0.02, times: int = 1) -> None:
        """Have attempts end."""
        for _ in range(times):
            self.recorder[tasks.OUTCOMES].increase((task, "q", outcome))
            self.recorder[tasks.RUNTIME].observe((task, "q", outcome), runtime)


def test_nothing_is_known_of_nothing() -> None:
    """What was not told is none, not zero."""
    view = Seen().look()

    assert (view.now.running, view.now.slots, view.now.waiting, view.now.oldest) == (0.0, None, None, None)
    assert (view.queues, view.workers, view.slowest, view.failing, view.workflows, view.concerns) == (
        [],
        [],
        [],
        [],
        [],
        [],
    )
    assert view.history.ago == []
    assert not view.alerting


def test_rates_are_those_of_the_seconds_between_two_points() -> None:
    """Each point tells what came since the one before."""
    seen = Seen()
    seen.look(4)
    seen.end(times=8)
    seen.end(outcome=Outcome.EXPIRED, times=2)
    view = seen.look(8)

    assert view.history.succeeded == [0.0, 2.0, 0.0]
    assert view.history.other == [0.0, 0.5, 0.0]
    assert view.history.ago == [8.0, 4.0, 0.0]


def test_what_was_not_observed_is_a_gap() -> None:
    """Without a stream nothing can be said, not that nothing happened."""
    seen = Seen()
    seen.look(4)
    seen.connected = False
    seen.look(4)
    seen.connected = True
    view = seen.look(4)

    assert view.history.succeeded == [0.0, None, 0.0]
    assert view.history.running == [0.0, None, 0.0]


def test_the_history_is_bounded() -> None:
    """An hour later it is as long as ten minutes."""
    seen = Seen()
    view = seen.look(3600)

    assert len(view.history.ago) == len(view.history.lag) == POINTS
    assert view.history.ago[0] < 600
    assert view.window == pytest.approx(600, abs=60)


def test_tables_look_back_ten_minutes() -> None:
    """What failed an hour ago is no news, and what failed since the start is, if that was lately."""
    seen = Seen()
    seen.end("old", Outcome.FAILED)
    seen.recorder[tasks.FAILURES].increase(("old", "q", "ValueError", "exception"))
    assert [row.task for row in seen.look(60).failing] == ["old"]

    seen.look(3600)
    seen.end("new", Outcome.FAILED, times=3)
    seen.recorder[tasks.FAILURES].increase(("new", "q", "KeyError", "exception"))
    seen.recorder[tasks.FAILURES].increase(("new", "q", "TimeoutError", "retries_exhausted"), 2)
    view = seen.look(2)

    (row,) = view.failing
    assert (row.task, row.failed, row.ended, row.exception, row.cause) == (
        "new",
        3,
        3,
        "TimeoutError",
        "retries_exhausted",
    )
    assert [row.task for row in view.slowest] == ["new"]
    assert view.outcomes == {"failed": 3}


def test_the_slowest_task_comes_first() -> None:
    """By the time within which all but one of twenty attempts ended."""
    seen = Seen()
    seen.end("fast", runtime=0.003, times=100)
    seen.end("slow", runtime=20.0)
    seen.end("slow", Outcome.FAILED, runtime=20.0)
    seen.recorder[tasks.RUNNING].set(("slow", "q"), 2)
    seen.recorder[tasks.OLDEST_RUNNING].set(("slow",), 7.0)

    slow, fast = seen.look().slowest

    assert (slow.task, slow.runs, slow.running, slow.oldest) == ("slow", 2, 2, 7.0)
    assert 10 < slow.median < slow.p95 <= 30
    assert slow.busy == 40.0
    assert (fast.task, fast.runs) == ("fast", 100)
    assert fast.p95 <= 0.005


def test_a_queue_is_shown_with_its_priorities() -> None:
    """All that the broker said of it is in its row."""
    seen = Seen()
    seen.recorder[queues.WAITING].replace({("q", "0"): 3, ("q", "9"): 1, ("q", "5"): 0, ("other", ""): 0})
    seen.recorder[queues.OLDEST_AGE].set(("q",), 12.5)
    seen.recorder[queues.CONSUMERS].set(("q",), 1)

    view = seen.look()

    other, queue = view.queues
    assert (queue.waiting, queue.priorities, queue.oldest, queue.in_flight) == (4, {"0": 3, "9": 1}, 12.5, None)
    assert other.priorities == {}
    assert (view.now.waiting, view.now.oldest) == (4, 12.5)


def test_a_queue_without_consumers_is_a_concern() -> None:
    """Messages wait, and nobody takes them."""
    seen = Seen()
    seen.recorder[queues.WAITING].set(("q", ""), 3)
    seen.recorder[queues.CONSUMERS].set(("q",), 0)

    (concern,) = seen.look().concerns

    assert (concern.severity, concern.about, concern.name) == ("critical", "queue", "q")


def test_a_worker_is_shown_as_it_says() -> None:
    """Slots, what it runs and accepts, and when it was heard of, by its own clock."""
    seen = Seen()
    record = seen.recorder
    record[workers.UP].set(("w",), 1)
    record[workers.SLOTS].set(("w",), 4)
    record[workers.ACTIVE].set(("w",), 3)
    record[workers.INFO].set(("w", "5.7.0", "prefork"), 1)
    record[workers.LAST_HEARTBEAT].set(("w",), seen.clock.now.wall - 100.0 - 1.5)
    record[workers.CLOCK_SKEW].set(("w",), 100.0)
    record[workers.PROCESSED].set(("w",), 0)
    seen.look(60)
    record[workers.PROCESSED].set(("w",), 120)
    record[workers.LAST_HEARTBEAT].set(("w",), seen.clock.now.wall - 100.0 - 1.5)

    view = seen.look()

    (worker,) = view.workers
    assert (worker.up, worker.active, worker.slots, worker.version, worker.pool) == (True, 3, 4, "5.7.0", "prefork")
    assert worker.heartbeat == pytest.approx(1.5)
    assert worker.rate == 2.0
    assert (view.now.workers_up, view.now.workers_known, view.now.slots) == (1, 1, 4)
    assert view.concerns == []


@pytest.mark.parametrize(
    ("family", "value", "severity", "said"),
    [
        (workers.UP, 0, "warning", "has left"),
        (workers.STALLED, 1, "critical", "takes none"),
        (workers.CONNECTED, 0, "warning", "no connection"),
    ],
)
def test_a_worker_of_no_use_is_a_concern(family: Any, value: float, severity: str, said: str) -> None:
    """Gone, stalled, or not connected."""
    seen = Seen()
    seen.recorder[workers.UP].set(("w",), 1)
    seen.recorder[family].set(("w",), value)

    (concern,) = seen.look().concerns

    assert (concern.severity, concern.name) == (severity, "w")
    assert said in concern.text


def test_what_is_told_of_this_moment_is_gone_while_the_stream_is_down() -> None:
    """Liveness and what runs now are not known then; what was counted still is."""
    seen = Seen()
    seen.recorder[workers.UP].set(("w",), 1)
    seen.recorder[workers.SLOTS].set(("w",), 4)
    seen.recorder[workers.LAST_HEARTBEAT].set(("w",), seen.clock.now.wall)
    seen.recorder[tasks.RUNNING].set(("t", "q"), 2)
    seen.end(times=3)
    seen.live = seen.connected = False

    view = seen.look(reasons=["redis://h: down"])

    (worker,) = view.workers
    assert (worker.up, worker.slots, view.now.running, view.now.slots) == (None, None, None, None)
    assert (view.ready, view.reasons) == (False, ["redis://h: down"])
    assert view.slowest[0].runs == 3


def test_workflows_that_have_ended_are_not_shown() -> None:
    """A root stays at 0 on /metrics, and is no row here."""
    seen = Seen()
    seen.recorder[workflows.ACTIVE].replace({("a",): 2, ("b",): 0})
    seen.recorder[workflows.OPEN_TASKS].replace({("a",): 5})
    seen.recorder[workflows.CHORDS_STALLED].replace({("c", "header_failed"): 1})

    view = seen.look()

    assert [(row.root, row.active, row.open) for row in view.workflows] == [("a", 2, 5), ("c", 0, 0)]
    (concern,) = view.concerns
    assert concern.text == "the body of a chord does not come: header failed (1)"


def test_loss_and_plugins_that_fail_are_concerns() -> None:
    """Then not all of the rest can be believed."""
    seen = Seen()
    seen.problems = {"queues.redis": "no answer"}
    seen.recorder[observer.TASKS_UNOBSERVED].increase(("w",), 7)
    seen.recorder[observer.PLUGIN_UP].set(("queues.redis",), 0)
    seen.own[observer.PLUGIN_UP].set(("overview",), 1)

    view = seen.look()

    assert (view.observer.unobserved, view.observer.unobserved_lately) == (7, 7)
    assert [(each.plugin, each.up, each.problem) for each in view.observer.plugins] == [
        ("queues.redis", False, "no answer"),
        ("overview", True, ""),
    ]
    assert [each.name for each in view.concerns] == ["loss", "queues.redis"]
    assert [each.name for each in seen.look(reasons=["redis://h: down"]).concerns] == ["loss"]
    assert seen.look(3600).observer.unobserved_lately == 0


def test_brokers_are_told_apart() -> None:
    """The same queue, worker and task of two brokers are two rows each."""
    seen = Seen("a", "b")
    for recorder in seen.recorders:
        recorder[queues.WAITING].set(("q", ""), 1)
        recorder[workers.UP].set(("w",), 1)
        recorder[tasks.RUNTIME].observe(("t", "q", "succeeded"), 1.0)

    view = seen.look()

    for rows in (view.queues, view.workers, view.slowest):
        assert [row.broker for row in rows] == ["a", "b"]
    assert (view.now.waiting, view.brokers) == (2, ["a", "b"])


def test_tables_are_bounded_and_show_the_worst() -> None:
    """Of five hundred workers those in trouble are there, and it is said how many are not."""
    seen = Seen()
    seen.recorder[workers.UP].replace({(f"w{number:03}",): 1 for number in range(500)})
    seen.recorder[workers.STALLED].set(("w499",), 1)
    seen.recorder[queues.WAITING].replace({(f"q{number}", ""): number for number in range(100)})
    for number in range(100):
        seen.end(f"t{number}")

    view = seen.look()

    assert (len(view.workers), view.left_out["workers"], view.now.workers_known) == (MOST_ROWS, 500 - MOST_ROWS, 500)
    assert "w499" in {row.worker for row in view.workers}
    assert (len(view.slowest), view.left_out["slowest"]) == (MOST_RANKED, 100 - MOST_RANKED)
    assert len(view.queues) == MOST_ROWS
    assert "q99" in {row.queue for row in view.queues}


def test_facts_arrive_under_whatever_labels_the_settings_add() -> None:
    """With the label `worker` on the families of tasks the rows are the same."""
    seen = Seen()
    seen.recorders = [Recorder(worker_label=True)]
    common: dict[str, Any] = {"task": "t", "queue": "q", "worker": "w"}
    seen.recorder.record(_fact(Started, common))
    seen.recorder.record(_fact(Ended, common | {"outcome": Outcome.FAILED, "runtime": 2.0}))
    seen.recorder.record(_fact(Failed, common | {"exception": "ValueError", "cause": "exception"}))

    view = seen.look()

    assert [(row.task, row.runs) for row in view.slowest] == [("t", 1)]
    assert [(row.task, row.failed, row.exception) for row in view.failing] == [("t", 1, "ValueError")]


def _fact(kind: Any, given: dict[str, Any]) -> Any:
    """A fact with what is given, and None for the rest."""
    return kind(**{name: given.get(name) for name in kind.__struct_fields__})


def test_alerts_are_told_as_they_are_given() -> None:
    """They come from the rules of the settings, of which there may be none that fires."""
    alert = Alert(rule="r", severity="critical", labels={"task": "t"}, count=2, age=3.0)
    seen = Seen()

    assert seen.look(alerts=[alert]).alerts == [alert]
    quiet = seen.look(alerts=[])
    assert (quiet.alerts, quiet.alerting) == ([], True)


def test_the_answer_is_small() -> None:
    """With all that there is room for, it goes over a slow line in a moment."""
    seen = Seen()
    seen.recorder[workers.UP].replace(
        {(f"worker-{number:03}@host-with-a-long-name.example.com",): 1 for number in range(500)}
    )
    for number in range(1000):
        seen.end(f"package.module.subpackage.task_number_{number:04}", runtime=number / 10)
        seen.recorder[tasks.FAILURES].increase((f"package.module.task_{number:04}", "q", "ValueError", "exception"))
    view = seen.look(700)

    assert len(msgspec.json.encode(view)) < 64_000
