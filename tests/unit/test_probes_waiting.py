"""What the tracker tells the probes: since when tasks wait."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from celery_observe.fleet import Fleet, Instant
from celery_observe.testing import EPOCH, make_event
from celery_observe.tracker import Tracker


class Told:
    """A tracker that is told events."""

    def __init__(self) -> None:
        fleet = Fleet(lambda _fact: None)
        self.tracker = Tracker(lambda _fact: None, fleet)

    def event(self, kind: str, uuid: str, seconds: float, **fields: Any) -> None:
        """An event at this time."""
        event = make_event(kind, uuid=uuid, timestamp=EPOCH + seconds, **fields)
        self.tracker.handle(event, Instant(EPOCH + seconds, seconds))

    def sent(self, uuid: str, seconds: float, queue: str = "celery", **fields: Any) -> None:
        """A publish."""
        self.event("task-sent", uuid, seconds, name="add", queue=queue, retries=fields.pop("retries", 0), **fields)


def test_a_task_waits_from_its_publish_to_its_receipt() -> None:
    """By queue, in the order of the events."""
    told = Told()
    told.sent("1", 1)
    told.sent("2", 2)
    told.sent("3", 3, queue="mail")
    told.event("task-received", "1", 4, name="add")

    assert told.tracker.waiting() == {"celery": [EPOCH + 2], "mail": [EPOCH + 3]}


def test_a_task_for_later_waits_from_its_eta() -> None:
    """Until then nobody can want it."""
    told = Told()
    eta = datetime.fromtimestamp(EPOCH + 60, UTC).isoformat()

    told.sent("1", 1, eta=eta)

    assert told.tracker.waiting() == {"celery": [EPOCH + 60]}


def test_a_task_that_was_started_or_revoked_does_not_wait() -> None:
    """Its receipt may have been lost."""
    told = Told()
    told.sent("1", 1)
    told.sent("2", 1)
    told.event("task-started", "1", 2)
    told.event("task-revoked", "2", 2, terminated=False, expired=False)

    assert told.tracker.waiting() == {}


def test_a_retry_waits_while_the_attempt_before_it_still_runs() -> None:
    """The next attempt is published before the end of this one is announced."""
    told = Told()
    told.sent("1", 1)
    told.event("task-received", "1", 2, name="add", retries=0)
    told.event("task-started", "1", 3)

    told.sent("1", 4, retries=1)

    assert told.tracker.waiting() == {"celery": [EPOCH + 4]}
