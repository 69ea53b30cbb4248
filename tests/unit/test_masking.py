"""Passwords are masked wherever they may stand, and what is none stays readable."""

from __future__ import annotations

import pytest

from celery_observe.masking import mask, mask_text, mask_url


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://:pw@localhost:6379/0", "redis://:***@localhost:6379/0"),
        ("amqp://user:pw@h//", "amqp://user:***@h//"),
        ("redis://token@h", "redis://***@h"),
        ("redis://:p@ss/w?rd@h:1/0", "redis://***"),
        ("redis://:p@ss@h:1/0", "redis://:***@h:1/0"),
        ("redis://h/0?a=1&password=pw&b=2", "redis://h/0?a=1&password=***&b=2"),
        ("redis://h/0?PASS%77ORD=pw", "redis://h/0?PASS%77ORD=***"),
        ("rediss://h?ssl_keyfile=/k&ssl_cert_reqs=none", "rediss://h?ssl_keyfile=/k&ssl_cert_reqs=none"),
        ("sentinel://:a@h1:1;sentinel://:b@h2:2", "sentinel://:***@h1:1;sentinel://:***@h2:2"),
        ("redis://[::1]:6379", "redis://[::1]:6379"),
        ("redis://:pw", "redis://***"),
        ("memory://", "memory://"),
        ("sqs://KEY:SECRET@", "sqs://KEY:***@"),
        ("main=redis://:pw@h", "main=redis://:***@h"),
        ("localhost:6379", "localhost:6379"),
        ("user:pw@h", "***"),
    ],
)
def test_a_broker_url_is_shown_without_its_passwords(url: str, masked: str) -> None:
    """All else stays, if it can be told apart."""
    assert mask_url(url) == masked


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("cannot reach redis://:pw@h:1/0: refused.", "cannot reach redis://:***@h:1/0: refused."),
        ("('amqp://u:pw@h//', 'x')", "('amqp://u:***@h//', 'x')"),
        ("listens on http://127.0.0.1:9808.", "listens on http://127.0.0.1:9808."),
        ("password=pw user=me", "password=*** user=me"),
        ('{"password": "p w", "a": 1}', '{"password": ***, "a": 1}'),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_a_sentence_is_shown_without_the_passwords_in_it(text: str, masked: str) -> None:
    """URLs and pairs are found in the text of errors and logs."""
    assert mask_text(text) == masked


def test_what_is_nested_is_masked_by_the_names_of_keys() -> None:
    """Paths of files that hold secrets are none, nor are switches."""
    value = {
        "sentinel_kwargs": {"password": "pw", "username": "u"},
        "password_file": "/run/secret",
        "token": None,
        "use_token": True,
        "access_key": 7,
        "hosts": [("redis://:pw@h", 1)],
    }

    assert mask(value) == {
        "sentinel_kwargs": {"password": "***", "username": "u"},
        "password_file": "/run/secret",
        "token": None,
        "use_token": True,
        "access_key": "***",
        "hosts": [["redis://:***@h", 1]],
    }


def test_keys_of_apis_are_masked_in_text() -> None:
    """As source code, and the text of an exception, name them."""
    assert mask_text("stripe.api_key = 'sk_live_1'") == "stripe.api_key = ***"
    assert mask_text("{'access-key': 'hunter2', 'monkey': 'george'}") == "{'access-key': ***, 'monkey': 'george'}"
