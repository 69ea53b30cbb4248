"""The PromQL that panels are made of.

`$cluster`, `$job` and `$broker` are variables of every board. What replicas of the exporter count each is taken once,
what instrumented processes count in parts is added: decision 16. Without the recording rules all are taken for parts.
"""

from __future__ import annotations

TARGET = 'cluster=~"$cluster", job=~"$job", broker=~"$broker"'
WINDOW = "$__rate_interval"
TOP = 10
"""Series of a graph that could have one for each task or worker there is."""

BAD = 'outcome=~"failed|expired|unregistered"'
FINAL = 'outcome=~"succeeded|failed|expired|unregistered"'
"""Of attempts that ended for good, as error budgets count them."""

_REPLICA = "on (cluster, job, instance, broker) instance:celery_observe_replica:bool"


def of(name: str, where: str = "") -> str:
    """Return the selector of a series, of the targets that were chosen."""
    return f"{name}{{{TARGET}{', ' if where else ''}{where}}}"


def counted(samples: str) -> str:
    """Return what all targets together counted of these samples."""
    return (
        f"max without (instance, pod) (\n  {samples}\n  and {_REPLICA}\n)\n"
        f"or\nsum without (instance, pod) (\n  {samples}\n  unless {_REPLICA}\n)"
    )


def total(by: str, vector: str) -> str:
    """Return the sum of a vector, by labels if there are some."""
    return f"sum by ({by}) (\n{vector}\n)" if by else f"sum(\n{vector}\n)"


def rate(family: str, by: str = "", where: str = "", window: str = WINDOW) -> str:
    """Return how much a counter grows each second, all targets together."""
    return total(by, counted(f"rate({of(family, where)}[{window}])"))


def increase(family: str, by: str = "", where: str = "", window: str = "$__range") -> str:
    """Return how much a counter has grown, all targets together."""
    return total(by, counted(f"increase({of(family, where)}[{window}])"))


def own_rate(family: str, by: str, where: str = "", window: str = WINDOW) -> str:
    """Return how much a counter grows each second that belongs to one worker or queue: replicas have the same."""
    return f"sum by ({by}) (max without (instance, pod) (rate({of(family, where)}[{window}])))"


def ratio(part: str, whole: str) -> str:
    """Return the part of a whole; nothing where the whole is 0."""
    return f"(\n{part}\n)\n/ (\n{whole}\n> 0)"


def now(family: str, by: str = "", where: str = "") -> str:
    """Return a gauge that targets have in parts."""
    return total(by, counted(of(family, where)))


def gauge(family: str, where: str = "") -> str:
    """Return a gauge of which every target that has it has the whole."""
    return f"max without (instance, pod) ({of(family, where)})"


def recorded(name: str, by: str = "", where: str = "") -> str:
    """Return a series that a rule has recorded for all targets together."""
    return f"sum by ({by}) ({of(name, where)})" if by else f"sum({of(name, where)})"


def quantile(portion: float, buckets: str) -> str:
    """Return the quantile of rates of buckets."""
    return f"histogram_quantile({portion}, {buckets})"


def top(vector: str, label: str) -> str:
    """Return the series of a vector that are greatest on the average of the time shown.

    The vector has to be a plain selector, or an aggregation of one: it is evaluated twice.
    """
    return f"{vector}\nand on ({label}) topk({TOP}, avg_over_time(({vector})[$__range:$__interval] @ end()))"


def burn(window: str, where: str = "") -> str:
    """Return how many times faster than promised the error budgets of tasks went within a window of the rules."""
    bad = of(f"task:celery_slo_bad:ratio_rate{window}", where)
    return f"{bad} / on (slo, task, le) group_left () (1 - task:celery_slo_objective:ratio)"


def otherwise(vector: str, fallback: str) -> str:
    """Return the fallback if there is nothing in the vector."""
    return f"{vector}\nor on ()\n{fallback}"


def zero(known: str, **labels: str) -> str:
    """Return 0, with labels, where a vector is known: what was not counted there did not happen."""
    value = f"0 * group({known})"
    for name, text in labels.items():
        value = f'label_replace({value}, "{name}", "{text}", "", "")'
    return value


def age(timestamp: str) -> str:
    """Return the seconds since a Unix time."""
    return f"time() - {timestamp}"
