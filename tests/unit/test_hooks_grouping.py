"""Each thing is told once, several at a time, and not too many."""

from __future__ import annotations

from typing import Any

import pytest

from celery_observe.fact import Cause, Detail, Ended, Exit, Fact, Failed, Outcome, WorkerExited, WorkerUp
from celery_observe.hooks import Message, Status
from celery_observe.hooks.breaker import Breaker
from celery_observe.hooks.grouping import LIMIT_WINDOW, MOST_OPEN, REPEAT_AFTER, Group
from celery_observe.hooks.rule import flower_links, rule
from celery_observe.testing import FakeClock


class Told:
    """A group of one rule, its clock, and what it has told."""

    def __init__(self, **table: Any) -> None:
        self.clock = FakeClock()
        self.facts: list[Fact] = []
        links = table.pop("alert_link", {})
        self.group = Group(rule({"on": "failed", **table}, "", links), self.facts.append)

    def fire(self, found: Fact, times: int = 1) -> None:
        """Take in a fact, so many times."""
        for _ in range(times):
            self.group.fire(found, {}, self.clock.now)

    def due(self, after: float = 0.0, *, final: bool = False) -> list[Message]:
        """Return what is told so many seconds later."""
        return [message for _since, message in self.group.due(self.clock.advance(after), final=final)]


def failed(task: str = "t", **fields: Any) -> Failed:
    """Return a failure."""
    return Failed(task, "q", "w1@h", "KeyError", Cause.EXCEPTION, **fields)


def test_an_alert_waits_for_others() -> None:
    """They are one message when the window ends, not before."""
    told = Told(group_wait=5)
    told.fire(failed("a"))

    assert not told.due(4.9)
    told.fire(failed("b"))
    (message,) = told.due(0.1)

    assert [alert.labels["task"] for alert in message.alerts] == ["a", "b"]
    assert message.title == "a failed: KeyError (exception) and 1 more"
    assert not told.due(60)


def test_ten_thousand_identical_failures_are_one_alert() -> None:
    """Which says how many."""
    told = Told()
    told.fire(failed(), 10_000)

    (message,) = told.due(5)

    assert [alert.count for alert in message.alerts] == [10_000]
    assert "10000 times" in message.text
    assert [type(fact).__name__ for fact in told.facts] == ["AlertRaised"]


def test_what_goes_on_is_not_told_again_but_to_those_who_forget() -> None:
    """At most once a minute, and only if it has happened since."""
    told = Told(resolve_after=300)
    told.fire(failed())
    told.due(5)

    assert not told.due(REPEAT_AFTER)
    told.fire(failed())
    (again,) = told.due()

    assert again.repeated
    assert again.alerts[0].ends_at == told.clock.now.wall + 300
    assert not told.due(1)


def test_an_alert_is_over_when_nothing_happened_for_long() -> None:
    """It ended when it happened last."""
    told = Told(resolve_after=300)
    told.fire(failed())
    told.due(5)
    told.clock.advance(100)
    told.fire(failed())
    last = told.clock.now.wall
    told.due(1)

    assert all(message.repeated for message in told.due(298))
    (message,) = told.due(1)

    assert message.alerts[0].status is Status.RESOLVED
    assert message.alerts[0].ends_at == last
    assert message.title == "resolved: t failed: KeyError (exception)"
    assert not told.due(1000)


def test_an_alert_that_comes_back_is_the_same_alert() -> None:
    """By its fingerprint, so that a receiver can tell."""
    told = Told(group_wait=0, resolve_after=10)
    told.fire(failed())
    (first,) = told.due()
    told.due(10)
    told.fire(failed())
    (second,) = told.due()

    assert first.alerts[0].fingerprint == second.alerts[0].fingerprint
    assert first.alerts[0].fingerprint != Told().group.rule.name


def test_a_fact_can_end_an_alert() -> None:
    """A worker that was lost is back; another is not."""
    told = Told(on="worker_exited", kind="lost", until={"on": "worker_up", "up_over": 0}, group_wait=0)
    told.fire(WorkerExited("w1", Exit.LOST))
    told.fire(WorkerExited("w2", Exit.LOST))
    told.due()

    told.group.end(WorkerUp("w1", 1), {}, told.clock.advance(7))
    (message,) = told.due()

    assert [alert.labels["worker"] for alert in message.alerts] == ["w1"]
    assert message.alerts[0].status is Status.RESOLVED
    assert len(told.group) == 1
    assert not told.due(3600)


def test_what_ends_while_it_waits_is_not_told() -> None:
    """A worker that is back at once woke nobody."""
    told = Told(on="worker_exited", until={"on": "worker_up", "up_over": 0}, group_wait=30)
    told.fire(WorkerExited("w1", Exit.LOST))
    told.group.end(WorkerUp("w1", 1), {}, told.clock.advance(10))

    assert not told.due(60)


def test_what_ends_an_alert_need_not_have_all_its_labels() -> None:
    """A success of the task ends its failures, whatever they were."""
    told = Told(until={"on": "ended", "outcome": "succeeded"}, group_wait=0)
    told.fire(failed("a"))
    told.fire(Failed("a", "q", "w", "OSError", Cause.EXCEPTION))
    told.fire(failed("b"))
    told.due()

    told.group.end(Ended("a", "q", "w9", Outcome.SUCCEEDED, 1.0), {}, told.clock.now)
    (message,) = told.due()

    assert [alert.labels["exception"] for alert in message.alerts] == ["KeyError", "OSError"]


def test_a_rule_tells_no_more_than_its_limit() -> None:
    """The rest is a number; then it is silent until the window has passed."""
    told = Told(limit=3, group_wait=1)
    for number in range(10):
        told.fire(failed(f"t{number}"))
    (message,) = told.due(1)
    told.fire(failed("late"))
    told.fire(failed("later"))

    assert (len(message.alerts), message.more) == (3, 7)
    assert message.title.endswith(" and 9 more")
    assert message.text.endswith("… and 7 more")
    assert not told.due(LIMIT_WINDOW - 2)
    (next_message,) = [each for each in told.due(2) if each.alerts[0].status is Status.FIRING]
    assert [alert.labels["task"] for alert in next_message.alerts] == ["late", "later"]


def test_alerts_told_as_a_number_end_silently() -> None:
    """Nobody was told that they began."""
    told = Told(limit=1, group_wait=0, resolve_after=10)
    told.fire(failed("a"))
    told.fire(failed("b"))
    told.due()

    (message,) = told.due(10)

    assert [alert.labels["task"] for alert in message.alerts] == ["a"]
    assert len(told.group) == 0


def test_a_flood_of_different_alerts_is_bounded() -> None:
    """All are counted, so many are kept."""
    told = Told(limit=10, group_wait=0)
    for number in range(MOST_OPEN + 500):
        told.fire(failed(f"t{number}"))
    (message,) = told.due()

    assert len(told.group) == MOST_OPEN
    assert (len(message.alerts), message.more) == (10, MOST_OPEN + 490)
    assert len([fact for fact in told.facts if type(fact).__name__ == "AlertsLimited"]) == 1


def test_the_end_of_the_process_waits_for_nobody() -> None:
    """What was to be told is told at once."""
    told = Told(group_wait=60)
    told.fire(failed())

    assert len(told.due(final=True)) == 1


def test_labels_are_those_of_the_task_not_of_who_executed_it() -> None:
    """Ten workers that fail alike are one alert; rules may ask for less, and add labels of their own."""
    told = Told(group_wait=0, by=["task"], labels={"team": "pay"}, name="charge", severity="critical")
    told.group.fire(failed(), {"broker": "eu"}, told.clock.now)
    (message,) = told.due()

    assert message.alerts[0].labels == {"task": "t", "broker": "eu", "team": "pay"}
    assert (message.rule, message.alerts[0].severity) == ("charge", "critical")


def test_alerts_of_which_different_labels_are_known_are_different() -> None:
    """Though the values of those are the same."""
    told = Told(group_wait=0, by=["task", "queue"])
    told.fire(Failed("mail", "", "w", "KeyError", Cause.EXCEPTION))
    told.fire(Failed("", "mail", "w", "KeyError", Cause.EXCEPTION))

    assert [alert.labels for alert in told.due()[0].alerts] == [{"task": "mail"}, {"queue": "mail"}]


def test_a_failure_is_told_with_its_detail_and_links() -> None:
    """A link of which something is not known is left out."""
    detail = Detail("id/1", 2, 'File "a.py", line 1, in run', "no such key", "(1, 2)")
    links = {"Flower": "https://f/task/{uuid}", "Entry": "https://e/{entry}"}
    told = Told(group_wait=0, alert_link=links, links={"Runbook": "https://r/{task}"}, summary="{task}: {exception}")
    told.fire(failed("a b", detail=detail))
    (message,) = told.due()

    (alert,) = message.alerts
    assert alert.links == {"Flower": "https://f/task/id%2F1", "Runbook": "https://r/a%20b"}
    assert alert.summary == "a b: KeyError"
    for text in ("task id: id/1, retries: 2", "exception: no such key", "arguments: (1, 2)", "line 1, in run"):
        assert text in alert.text


def test_an_alert_names_the_trace_of_the_first() -> None:
    """Others like it are the same alert, though each has a trace of its own; without one there is no link to it."""
    first, second = "0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736"
    told = Told(group_wait=0, alert_link={"Trace": "https://tempo/trace/{trace_id}"})
    for fact in (failed(trace_id=first), failed(trace_id=second), failed("u")):
        told.fire(fact)
    (message,) = told.due()

    traced, untraced = message.alerts
    assert (traced.trace_id, traced.count, traced.links) == (first, 2, {"Trace": f"https://tempo/trace/{first}"})
    assert f"\ntrace: {first}" in traced.text
    assert "trace_id" not in traced.labels
    assert (untraced.trace_id, untraced.links) == (None, {})
    assert "trace" not in untraced.text


@pytest.mark.parametrize(("runtime", "shown"), [(612.34, "612.3"), (600.0, "600"), (0.01234, "0.0123")])
def test_numbers_are_readable(runtime: float, shown: str) -> None:
    """In summaries."""
    told = Told(on="ended", runtime_over=0, group_wait=0)
    told.fire(Ended("t", "q", "w", Outcome.SUCCEEDED, runtime))

    assert told.due()[0].title == f"t succeeded after {shown} s"


def test_a_circuit_is_left_open_longer_each_time() -> None:
    """And closed by a success."""
    breaker = Breaker()
    assert (breaker.is_open, breaker.pause(0.0)) == (False, 0.0)

    pauses = []
    for _ in range(6):
        breaker.open(100.0)
        pauses.append(breaker.pause(100.0))

    assert pauses == [15.0, 30.0, 60.0, 120.0, 240.0, 240.0]
    assert breaker.pause(400.0) == 0.0
    assert breaker.is_open
    breaker.close()
    assert (breaker.is_open, breaker.pause(100.0)) == (False, 0.0)


def test_alerts_link_to_flower_where_it_is() -> None:
    """To the task that failed, to its like, and to the worker: what is known of the fact."""
    links = flower_links("https://h/flower/")
    task = Told(group_wait=0, alert_link=links)
    task.fire(failed("a b", detail=Detail(uuid="id/1")))
    worker = Told(group_wait=0, alert_link=links, on="worker_exited")
    worker.fire(WorkerExited("celery@h", Exit.LOST))

    (told,), (left,) = task.due(), worker.due()

    assert told.alerts[0].links == {
        "Flower: task": "https://h/flower/task/id%2F1",
        "Flower: tasks": "https://h/flower/tasks?name=a%20b",
        "Flower: worker": "https://h/flower/worker/w1%40h",
    }
    assert left.alerts[0].links == {"Flower: worker": "https://h/flower/worker/celery%40h"}
    assert flower_links(None) == {}


def test_what_fires_can_be_asked_for() -> None:
    """So many of it, the oldest first, until it is over."""
    told = Told(group_wait=0, resolve_after=60)
    for task in ("a", "b", "c"):
        told.fire(failed(task), 2)
        told.clock.advance(1)

    assert [(each.labels["task"], each.count) for each in told.group.firing(2)] == [("a", 2), ("b", 2)]
    told.due()
    told.due(120)
    assert told.group.firing(2) == []
