"""The autoscaler that tests use behaves as Kubernetes and KEDA are documented to."""

from __future__ import annotations

import pytest

from services.autoscaler import Autoscaler, Target

TARGET = Target(per_replica=2, least=0, most=10, window=5, down_fraction=0.5, down_period=60, activation=0, cooldown=8)


def looks(target: Target, values: list[float | None], replicas: int = 0) -> list[int]:
    """The replicas after each look, one a second."""
    scaler = Autoscaler(target)
    found = []
    for now, value in enumerate(values):
        replicas = scaler.look(float(now), replicas, value)
        found.append(replicas)
    return found


def test_it_starts_with_one_and_adds_at_most_four_at_once() -> None:
    """Then more, when a period is over."""
    assert looks(TARGET, [0, 1, 20, 20]) == [0, 1, 4, 4]


def test_it_waits_for_the_window_and_halves() -> None:
    """The highest wish of five seconds counts, and half of them may go in a minute."""
    assert looks(TARGET, [16, 4, 4, 4, 4, 4, 4, 4], replicas=8) == [8, 8, 8, 8, 8, 8, 4, 4]


def test_it_tolerates_a_tenth() -> None:
    """19 and 21 of 20 are near enough."""
    assert looks(TARGET, [19, 21, 18.1, 22], replicas=10) == [10, 10, 10, 10]


def test_it_takes_the_last_after_the_cooldown() -> None:
    """And not before."""
    assert looks(TARGET, [2, *[0] * 9], replicas=1) == [*[1] * 8, 0, 0]


@pytest.mark.parametrize("replicas", [0, 1, 5])
def test_it_holds_while_the_metric_is_absent(replicas: int) -> None:
    """However long."""
    assert looks(TARGET, [None] * 20, replicas) == [replicas] * 20


def test_an_hpa_keeps_its_least() -> None:
    """It knows no zero."""
    assert looks(TARGET._replace(activation=None, least=1), [0] * 20, replicas=1) == [1] * 20
