"""A leader leads for one term after it was last sure of its lock, and no longer."""

from __future__ import annotations

import pytest

from celery_observe.broker import BrokerSettings
from celery_observe.errors import ProbeError, SettingsError
from celery_observe.guard import Guard
from celery_observe.leader import AmqpLock, Leader, RedisLock, lock_for
from celery_observe.recorder import Recorder


class Held:
    """A lock that is as free as the test says."""

    def __init__(self) -> None:
        self.free = True
        self.error: Exception | None = None
        self.clock = 0.0
        self.takes = 0.0
        """Seconds that the broker needs to answer."""

    def hold(self, seconds: float) -> bool:
        """Take it if it is free."""
        assert seconds > 0
        self.clock += self.takes
        if self.error:
            raise self.error
        return self.free

    def release(self) -> None:
        """Let go of it."""


def leader_of(lock: Held) -> Leader:
    """A leader with a term of 5 s and the lock's clock."""
    return Leader(lock, 10.0, Guard(Recorder().record), clock=lambda: lock.clock)


def test_nobody_leads_before_the_lock_is_taken() -> None:
    """And who gets it leads."""
    leader = leader_of(Held())
    assert not leader.leads()

    leader.compete()

    assert leader.leads()


def test_who_cannot_renew_stops_to_lead_at_the_end_of_the_term() -> None:
    """Though nobody told it to: it may hang, and another begins."""
    lock = Held()
    leader = leader_of(lock)
    leader.compete()
    lock.error = ProbeError("no answer")

    with pytest.raises(ProbeError):
        leader.compete()

    lock.clock = 4.9
    assert leader.leads()
    lock.clock = 5.0
    assert not leader.leads()


def test_the_term_counts_from_the_question() -> None:
    """An answer that was long on its way says that the lock was ours when it left."""
    lock = Held()
    lock.takes = 6.0
    leader = leader_of(lock)

    leader.compete()

    assert not leader.leads()


def test_who_lost_the_lock_stops_at_once() -> None:
    """Another has it."""
    lock = Held()
    leader = leader_of(lock)
    leader.compete()
    lock.free = False

    leader.compete()

    assert not leader.leads()


@pytest.mark.parametrize(
    ("url", "kind"),
    [("redis://h", RedisLock), ("rediss://h", RedisLock), ("amqp://h", AmqpLock), ("amqps://h", AmqpLock)],
)
def test_the_lock_is_in_the_broker(url: str, kind: type[object]) -> None:
    """On Redis and RabbitMQ."""
    assert type(lock_for(BrokerSettings(url=url))) is kind


def test_a_broker_without_a_lock_is_refused() -> None:
    """The message says what to do instead, and no password."""
    with pytest.raises(SettingsError, match="--probe off") as refused:
        lock_for(BrokerSettings(url="sqs://key:hunter2@"))

    assert "hunter2" not in str(refused.value)
