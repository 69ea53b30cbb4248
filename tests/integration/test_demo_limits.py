"""The shop's token buckets, on a real Redis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from celery_observe.demo.shop.limits import take
from services.redis import Redis
from services.waiting import eventually


def test_a_bucket_gives_as_many_as_it_holds_and_then_says_when_to_come_again(redis_server: Redis) -> None:
    """At the rate at which it fills."""
    with redis_server.client() as client:
        taken = [take(client, "b", rate=0.1, burst=3) for _ in range(4)]

    assert taken[:3] == [0, 0, 0]
    assert 9 < taken[3] <= 10


def test_a_bucket_fills_again_and_is_forgotten_when_it_is_full(redis_server: Redis) -> None:
    """There is no key for a user who has long asked for nothing."""
    with redis_server.client() as client:
        take(client, "b", rate=5, burst=1)
        assert take(client, "b", rate=5, burst=1) > 0

        eventually(lambda: not client.exists("bucket:b"), timeout=2)
        assert take(client, "b", rate=5, burst=1) == 0


def test_buckets_know_nothing_of_each_other(redis_server: Redis) -> None:
    """One user's haste is no other's delay."""
    with redis_server.client() as client:
        take(client, "customers.export:c1", rate=0.1, burst=1)

        assert take(client, "customers.export:c2", rate=0.1, burst=1) == 0


def test_those_who_come_at_once_get_no_more_than_there_is(redis_server: Redis) -> None:
    """Looking and taking are one step."""
    with redis_server.client() as client, ThreadPoolExecutor(8) as workers:
        taken = list(workers.map(lambda _: take(client, "b", 0.01, 5), range(40)))

    assert taken.count(0) == 5
