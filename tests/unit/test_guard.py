"""Whatever a plug-in does, it is reported, and the rest goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from celery_observe.errors import ProbeError, SettingsError
from celery_observe.fact import Fact, PluginRan
from celery_observe.guard import REPEAT_AFTER, Guard, contained
from celery_observe.testing import FakeClock


class Guarded:
    """A guard, its clock and the facts it told."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.facts: list[Fact] = []
        self.guard = Guard(self.facts.append, self.clock)

    def fail(self, error: Exception) -> None:
        """Run a plug-in that raises."""

        def call() -> None:
            raise error

        assert self.guard.run("probe", call) is None


@pytest.fixture
def guarded() -> Guarded:
    """A guard of this test's own."""
    return Guarded()


@pytest.fixture
def logs() -> Iterator[list[EventDict]]:
    """What is logged meanwhile."""
    with capture_logs() as captured:
        yield captured


def test_a_plug_in_that_works_gives_its_answer_and_its_time(guarded: Guarded) -> None:
    """It is up."""
    answer = guarded.guard.run("probe", lambda: guarded.clock.advance(0.5).monotonic)

    assert answer == 0.5
    assert guarded.facts == [PluginRan("probe", 1, 0, 0.5)]
    assert guarded.guard.problems == {}


def test_a_plug_in_that_takes_its_time_is_not_timed(guarded: Guarded) -> None:
    """Reading a stream lasts for days."""
    guarded.guard.run("stream", lambda: guarded.clock.advance(86400.0), timed=False)

    assert guarded.facts == [PluginRan("stream", 1, 0, None)]


def test_a_plug_in_that_fails_says_why(guarded: Guarded, logs: list[EventDict]) -> None:
    """In the words of its error, without a traceback."""
    guarded.fail(ProbeError("the broker is away"))

    assert guarded.facts == [PluginRan("probe", 0, 1, None)]
    assert guarded.guard.problems == {"probe": "the broker is away"}
    assert [(entry["log_level"], entry["error"]) for entry in logs] == [("warning", "the broker is away")]


def test_a_plug_in_that_breaks_is_a_mistake_for_the_log(guarded: Guarded, logs: list[EventDict]) -> None:
    """What it says may hold secrets, so only its kind is shown elsewhere."""
    guarded.fail(ZeroDivisionError("secret"))

    assert guarded.guard.problems == {"probe": "unexpected ZeroDivisionError, see the log"}
    assert [entry["log_level"] for entry in logs] == ["error"]


def test_a_plug_in_that_works_again_has_no_problem(guarded: Guarded, logs: list[EventDict]) -> None:
    """And a new failure is news."""
    guarded.fail(ProbeError("away"))
    guarded.guard.run("probe", lambda: None)
    assert guarded.guard.problems == {}

    guarded.fail(ProbeError("away"))

    assert len(logs) == 2


def test_a_failure_that_goes_on_is_logged_now_and_then(guarded: Guarded, logs: list[EventDict]) -> None:
    """It is counted each time."""
    for _ in range(10):
        guarded.fail(ProbeError("away"))
        guarded.clock.advance(REPEAT_AFTER / 5)

    assert len(logs) == 2
    assert len(guarded.facts) == 10


def test_the_end_of_the_process_is_not_held_up(guarded: Guarded) -> None:
    """Ctrl-C goes through."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded.guard.run("probe", interrupted)


def test_what_the_users_code_raises_is_explained() -> None:
    """Our own errors explain themselves."""

    def explain(error: Exception) -> SettingsError:
        return SettingsError(f"the app cannot be imported: {error}")

    def broken() -> None:
        raise ZeroDivisionError("division by zero")

    def refused() -> None:
        raise ProbeError("away")

    assert contained(lambda: 1, explain) == 1
    with pytest.raises(SettingsError, match="the app cannot be imported: division by zero"):
        contained(broken, explain)
    with pytest.raises(ProbeError, match="away"):
        contained(refused, explain)
