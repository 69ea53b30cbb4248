"""Users' labels divide what they are to, and stay within their bounds."""

from __future__ import annotations

from celery_observe.fact import Ended, Fact, LabelOverflowed, Outcome
from celery_observe.labels import UserLabels, catalogue
from celery_observe.metrics import CATALOGUE, labelled, observer, tasks
from celery_observe.recorder import Recorder
from celery_observe.series import OTHER

END = Ended("t", "q", "w@h", Outcome.SUCCEEDED, 2.0)


def test_an_end_is_counted_by_the_labels_that_are_declared() -> None:
    """With what they say, and `unknown` where they say nothing."""
    recorder = Recorder(catalogue=catalogue(("tenant", "class")))
    labels = UserLabels(recorder.record, ("tenant", "class"), 10)

    for said in ({"tenant": "acme", "class": "gold", "more": "no"}, {"tenant": "acme"}, None):
        labels.divide(END, said)

    assert recorder[labelled.OUTCOMES].values == {
        ("t", "succeeded", "acme", "gold"): 1,
        ("t", "succeeded", "acme", "unknown"): 1,
        ("t", "succeeded", "unknown", "unknown"): 1,
    }
    assert recorder[labelled.RUNTIME].histograms["t", "succeeded", "acme", "gold"].total == 2.0


def test_values_of_a_label_are_bounded() -> None:
    """Each label by itself; what is known already is counted as before."""
    recorder = Recorder(catalogue=catalogue(("tenant",)))
    labels = UserLabels(recorder.record, ("tenant",), 2)

    for tenant in ("a", "b", "c", "d", "a"):
        labels.divide(END, {"tenant": tenant})

    assert recorder[labelled.OUTCOMES].values == {
        ("t", "succeeded", "a"): 2,
        ("t", "succeeded", "b"): 1,
        ("t", "succeeded", OTHER): 2,
    }
    assert recorder[observer.LABEL_OVERFLOW].values == {("tenant",): 2}


def test_series_of_a_family_are_bounded_whatever_its_labels() -> None:
    """A full family counts under `__other__` in users' labels too."""
    recorder = Recorder(catalogue=catalogue(("tenant", "plan")), max_series=3)
    labels = UserLabels(recorder.record, ("tenant", "plan"), 100)

    for number in range(100):
        labels.divide(END, {"tenant": str(number), "plan": str(number)})

    assert len(recorder[labelled.OUTCOMES].values) == 4
    assert recorder[labelled.OUTCOMES].values[OTHER, "succeeded", OTHER, OTHER] == 97


def test_the_worker_is_a_label_of_these_too() -> None:
    """If it is one of others."""
    recorder = Recorder(catalogue=catalogue(("tenant",)), worker_label=True)

    UserLabels(recorder.record, ("tenant",), 2).divide(END, {"tenant": "a"})

    assert recorder[labelled.OUTCOMES].values == {("t", "succeeded", "a", "w@h"): 1}


def test_without_labels_there_is_nothing_to_divide() -> None:
    """And the catalogue is as it is."""
    facts: list[Fact] = []

    UserLabels(facts.append, (), 2).divide(END, {"tenant": "a"})

    assert facts == []
    assert [family.labels for family in catalogue(())] == [family.labels for family in CATALOGUE]


def test_other_families_are_as_they_were() -> None:
    """Users' labels are in none of them."""
    named = {family.name: family for family in catalogue(("tenant",))}

    assert named[tasks.OUTCOMES.name] is tasks.OUTCOMES


def test_an_overflow_names_the_label() -> None:
    """Not the value."""
    facts: list[Fact] = []

    UserLabels(facts.append, ("tenant",), 0).divide(END, {"tenant": "a"})

    assert facts[0] == LabelOverflowed("tenant")
