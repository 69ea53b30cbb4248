"""Rules say under which name a task is counted and which queue it is routed to."""

from __future__ import annotations

import pytest

from celery_observe.names import first_match, label_rules, remembering
from celery_observe.series import OTHER


@pytest.mark.parametrize(
    ("name", "value"),
    [("shop.pay", "first"), ("shop.order", "second"), ("shop", None), ("myshop.pay", None), ("shop.a.b", "second")],
)
def test_the_first_pattern_that_matches_gives_the_value(name: str, value: str | None) -> None:
    """The whole name must match; order matters."""
    rule = first_match({"shop.p?y": "first", "shop.*": "second", "*.pay": None})

    assert rule(name) == value


def test_no_rules_match_nothing() -> None:
    """Not even the empty name."""
    assert first_match({})("") is None


def test_names_are_allowed_unless_rules_say_otherwise() -> None:
    """Without rules a name is its own label."""
    assert label_rules()("shop.pay") == "shop.pay"


def test_what_is_not_allowed_or_denied_is_other() -> None:
    """Denied goes before allowed."""
    label = label_rules(allow=["shop.*"], deny=["shop.secret*"])

    assert [label(name) for name in ("shop.pay", "shop.secret.pay", "bank.pay")] == ["shop.pay", OTHER, OTHER]


def test_a_name_may_be_renamed() -> None:
    """Rules look at the name that the task was sent with."""
    label = label_rules(allow=["shop.*"], deny=["bank.*"], rename={"shop.*": "bank.all"})

    assert label("shop.pay") == "bank.all"


def test_answers_are_kept_for_a_bounded_number_of_names() -> None:
    """A hostile producer does not fill the memory; an answer is asked for once."""
    asked: list[str] = []

    def answer(name: str) -> str:
        asked.append(name)
        return name.upper()

    remember = remembering(answer)
    assert [remember("a"), remember("a")] == ["A", "A"]
    for number in range(10_000):
        remember(str(number))
    remember("a")

    assert asked.count("a") == 2, "it was let go of when there were too many"
