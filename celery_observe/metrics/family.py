"""What a declaration of a metric family says."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import msgspec

from celery_observe.fact import Fact

RUNTIME_BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0,
)  # fmt: skip
"""Upper bounds in seconds, from 5 ms to 12 hours."""

WAIT_BUCKETS = (
    0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 43200.0,
)  # fmt: skip
"""Upper bounds in seconds, from 5 ms to 12 hours, coarser than those for the runtime."""


MEMORY_BUCKETS = tuple(float(2**exponent) for exponent in range(24, 37))
"""Upper bounds in bytes, from 16 MiB to 64 GiB."""


class Kind(enum.StrEnum):
    """The Prometheus type of a family."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Join(enum.StrEnum):
    """How the pages of shards make that of one exporter."""

    SUM = "sum"
    """Each shard counts its share."""
    MAX = "max"
    """Most often one shard alone tells, of what is its own or since it asks."""
    EACH = "each"
    """Each process tells of itself."""


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """One metric family.

    ``on`` is the Fact that feeds it, ``value`` the attribute that holds the amount (None: count one); a fact whose
    value is None is passed over, and ``late`` is the Fact that brings the value if it becomes known only then.
    ``cumulative`` says that the value is the running total itself. ``labels`` are attributes of the fact. A family
    without ``on`` is set by the pipeline on its one-second tick. A ``live`` family speaks of this moment: it is absent
    while the stream is down. The Fact ``zero_on`` starts the family at 0 for each of the ``zero_values`` of
    ``zero_label``, or as it is without one. With ``buckets_settable`` users choose the bounds. Nothing but instrumented
    processes tells an ``inside`` family. ``join`` says how the pages of shards make one. Those with ``exemplars`` name
    a trace in each bucket, if the fact has one.

    Families of other exporters (``compat/``) see facts in their own way: ``read`` says how a label is read that is no
    attribute, ``where`` which facts count, ``also_on`` which other Facts feed the family; their ``value`` may be a
    function.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    on: type[Fact] | None = None
    late: type[Fact] | None = None
    also_on: tuple[type[Fact], ...] = ()
    read: tuple[tuple[str, Callable[[Any], str]], ...] = ()
    where: Callable[[Any], bool] | None = None
    value: str | Callable[[Any], float | None] | None = None
    buckets: tuple[float, ...] = ()
    buckets_settable: bool = False
    cumulative: bool = False
    live: bool = False
    inside: bool = False
    join: Join = Join.SUM
    exemplars: bool = False
    zero_on: type[Fact] | None = None
    zero_label: str = ""
    zero_values: tuple[str, ...] = ()
