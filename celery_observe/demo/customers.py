"""The customers alone, for a shop whose workers are started by others, such as `docker-compose.yml`."""

from __future__ import annotations

import time

from celery_observe.demo.load import Load, Shop, plan
from celery_observe.demo.processes import stoppable
from celery_observe.demo.shop import app

_SEED = 1
_VISITS_PER_SECOND = 3.0
_TICK = 0.05


def main() -> None:
    """Play the load on the broker that CELERY_BROKER_URL names, until SIGINT or SIGTERM.

    Raises kombu's OperationalError when the broker is gone.
    """
    load = Load(Shop(app), plan(_SEED), rate=_VISITS_PER_SECOND, clock=time.monotonic)
    with stoppable() as pause:
        while pause(_TICK):
            load.tick()


if __name__ == "__main__":
    main()
