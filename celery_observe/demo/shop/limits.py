"""Limits that hold for all workers together: a token bucket on Redis, for a task or for each of its users.

Celery's own `rate_limit` (see `messages`) holds for each worker by itself: two workers send twice as much.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from celery import Task

from celery_observe.demo.shop import app, outside

# The clock is that of Redis, the same for all. A bucket is forgotten once it is full again.
_TAKE = """
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] + time[2] / 1e6
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = math.min(burst, (bucket[1] or burst) + rate * (now - (bucket[2] or now)))
if tokens < 1 then return tostring((1 - tokens) / rate) end
redis.call('HSET', KEYS[1], 'tokens', tokens - 1, 'at', now)
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000))
return '0'
"""


def take(client: Any, bucket: str, rate: float, burst: int) -> float:
    """Take a token from a bucket that gains `rate` a second and holds `burst`: return 0, or the seconds to wait."""
    return float(client.eval(_TAKE, 1, f"bucket:{bucket}", rate, burst))


class TokenBucketTask(Task):  # type: ignore[misc]  # Celery has no types
    """A task that needs a token to run, and comes back when there may be one.

    The bucket gains `rate` tokens a second and holds `burst`. It is where the results are: a Redis.
    """

    abstract = True
    rate = 1.0
    burst = 1
    max_retries = None  # celery-observe: ignore[unbounded-retries] - waiting for a token is no failure

    def bucket(self, *_args: Any, **_kwargs: Any) -> str:
        """Return the name of the bucket that a call takes its token from: here one for all calls."""
        return str(self.name)

    def before_start(self, _task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Take a token. Raises Retry if there is none."""
        wait = take(self.backend.client, self.bucket(*args, **kwargs), self.rate, self.burst)
        if wait > 0:
            # Not all at the moment of the next token: only one would get it.
            raise self.retry(countdown=wait * random.uniform(1, 3))  # noqa: S311 - no secret


class PerUserTask(TokenBucketTask):
    """A task that each user may call so often: the first argument says who."""

    abstract = True

    def bucket(self, *args: Any, **_kwargs: Any) -> str:
        """Return the bucket of a user."""
        return f"{self.name}:{args[0]}"


@app.task(base=TokenBucketTask, name="inventory.reorder", rate=4.0, burst=2)
def reorder(article: str) -> None:
    """Order an article anew; the supplier takes four orders a second from us, whoever sends them."""
    outside.supplier(article)


@app.task(base=PerUserTask, name="customers.export", rate=0.5, burst=2)
def export(customer: str) -> None:
    """Write down all that we know of a customer, who may ask for that every two seconds."""
    outside.archive(customer)
