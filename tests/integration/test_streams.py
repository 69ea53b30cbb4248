"""What every stream promises, on each broker."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from celery import Celery

from services.observed import Observed

MANY = 20_000


@pytest.fixture(
    params=[
        "memory",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("rabbitmq", marks=[pytest.mark.rabbitmq, pytest.mark.xdist_group("rabbitmq")]),
    ]
)
def broker_url(request: pytest.FixtureRequest) -> str:
    """A broker of each kind."""
    if request.param == "memory":
        return "memory://"
    if request.param == "redis":
        return str(request.getfixturevalue("redis_server").url)
    return str(request.getfixturevalue("rabbitmq_url"))


def test_batches_are_read_in_their_order(broker_url: str, observe: Callable[..., Observed]) -> None:
    """20,000 events in batches of one to three come complete and in order."""
    observed = observe(broker_url)
    app = Celery(broker=broker_url, set_as_current=False)
    with app.connection_for_write() as connection, app.events.Dispatcher(connection) as dispatcher:
        dispatcher.buffer_group = frozenset({"task"})
        for number in range(MANY):
            dispatcher.send("task-received", uuid=str(number))
            if number % 6 in {0, 2, 5}:
                dispatcher.flush()
            if number % 1_000 == 0:
                observed.read()
        dispatcher.flush()

    observed.types(MANY)

    assert [event["uuid"] for event in observed.events] == [str(number) for number in range(MANY)]
