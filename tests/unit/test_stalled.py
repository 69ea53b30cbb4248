"""A worker is stalled when it could take what waits and takes nothing, and in no other case."""

from __future__ import annotations

from typing import Any

import pytest

from celery_observe.stalled import Look, Watch, could_take

PATIENCE = 60.0
STUCK = Look(
    beat=0.0, processed=7, active=0, slots=4, prefetch=16, held=0, waiting=3, slowest_rate=None
)  # online, and consumes nothing


def look(**changes: Any) -> Look:
    """A look at a worker that is stuck but for these changes."""
    return STUCK._replace(**changes)


@pytest.mark.parametrize(
    ("seen", "able"),
    [
        pytest.param(look(), True, id="stuck"),
        pytest.param(look(active=3), True, id="stuck beside a long task"),
        pytest.param(look(slots=None), True, id="idle pool of unknown size"),
        pytest.param(look(prefetch=None), True, id="prefetch not known"),
        pytest.param(look(prefetch=0, held=500), True, id="no limit of prefetch"),
        pytest.param(look(held=15), True, id="room for one more"),
        pytest.param(look(slowest_rate=1.0), True, id="a rate limit that would have let one start"),
        pytest.param(look(waiting=0), False, id="idle"),
        pytest.param(look(active=4), False, id="busy"),
        pytest.param(look(active=1, slots=1), False, id="solo in a long task"),
        pytest.param(look(active=1, slots=None), False, id="busy, pool of unknown size"),
        pytest.param(look(held=16), False, id="holds all it may"),
        pytest.param(look(active=1, held=15), False, id="holds all it may if it acknowledges late"),
        pytest.param(look(slowest_rate=1 / 3600), False, id="one an hour"),
        pytest.param(look(beat=None), None, id="no heartbeat"),
        pytest.param(look(waiting=None), None, id="paused, or its queues are not known"),
        pytest.param(look(processed=None), None, id="heartbeats without counts"),
        pytest.param(look(active=None), None, id="nothing known of what it runs"),
    ],
)
def test_a_worker_that_could_take_a_message_is_told_from_one_that_could_not(seen: Look, able: bool | None) -> None:
    """By what it says of itself and what waits in its queues."""
    assert could_take(seen, PATIENCE) is able


def test_it_is_stalled_after_patience_has_run_out() -> None:
    """Not at the first look."""
    watch = Watch(PATIENCE)

    judged = [watch.judge("w@h", look(beat=beat)) for beat in (0.0, 30.0, 59.9, 60.0, 90.0)]

    assert judged == [False, False, False, True, True]


def test_silence_is_no_sign() -> None:
    """A solo worker in a long task sends no heartbeats; its last one, from before, says that it is idle."""
    watch = Watch(PATIENCE)

    assert [watch.judge("w@h", STUCK) for _ in range(1000)] == [False] * 1000


@pytest.mark.parametrize("between", [look(waiting=0), look(processed=8), look(active=4), look(waiting=None)])
def test_any_sign_of_work_starts_the_wait_anew(between: Look) -> None:
    """One look at which it was not stuck is enough."""
    watch = Watch(PATIENCE)
    watch.judge("w@h", STUCK)

    watch.judge("w@h", between._replace(beat=50.0))

    assert watch.judge("w@h", look(processed=between.processed, beat=61.0)) is False


def test_it_recovers() -> None:
    """With the first task that it takes."""
    watch = Watch(PATIENCE)
    watch.judge("w@h", STUCK)
    assert watch.judge("w@h", look(beat=60.0)) is True

    assert watch.judge("w@h", look(processed=8, beat=62.0)) is False


def test_workers_that_are_gone_are_forgotten() -> None:
    """One that comes back under the name starts anew, and one worker does not wait for another."""
    watch = Watch(PATIENCE)
    watch.judge("a@h", STUCK)
    watch.judge("b@h", STUCK)

    watch.keep({"b@h"})

    assert watch.judge("a@h", look(beat=60.0)) is False
    assert watch.judge("b@h", look(beat=60.0)) is True
