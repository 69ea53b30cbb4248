"""Log entries go to stderr, in one form and without secrets."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from celery_observe import logs

URL = "redis://:hunter2@h:1/0"


def test_an_entry_is_a_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    """With level, logger, time and fields."""
    logs.configure("info", "json")

    structlog.get_logger("shop").info("connected", broker=URL, password="hunter2", attempt=3)

    entry = json.loads(capsys.readouterr().err)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "event": "connected",
        "broker": "redis://:***@h:1/0",
        "password": "***",
        "attempt": 3,
        "level": "info",
        "logger": "shop",
    }


def test_entries_of_libraries_look_alike(capsys: pytest.CaptureFixture[str]) -> None:
    """What goes through the standard library's logging is rendered and masked as ours is."""
    logs.configure("info", "json")

    logging.getLogger("kombu").warning("cannot reach %s", URL)

    entry = json.loads(capsys.readouterr().err)
    assert (entry["event"], entry["logger"]) == ("cannot reach redis://:***@h:1/0", "kombu")


def connect() -> None:
    """Fail, naming the URL."""
    raise OSError(f"cannot reach {URL}")


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_is_masked(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Messages of exceptions quote URLs."""
    logs.configure("info", form)

    try:
        connect()
    except OSError:
        structlog.get_logger("shop").exception("failed")
        logging.getLogger("kombu").exception("failed")

    err = capsys.readouterr().err
    assert err.count("OSError: cannot reach redis://:***@h:1/0") == 2
    assert "hunter2" not in err


def test_what_is_below_the_level_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither ours nor libraries'."""
    logs.configure("warning", "console")

    structlog.get_logger("shop").info("quiet")
    logging.getLogger("kombu").info("quiet")
    structlog.get_logger("shop").warning("loud", queue="mail")

    err = capsys.readouterr().err
    assert "quiet" not in err
    assert "loud" in err
    assert "queue=mail" in err


def test_configuring_twice_logs_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Handlers are replaced, those of the user's app too."""
    logs.configure("info", "console")
    logs.configure("info", "console")

    logging.getLogger("kombu").info("once")

    assert capsys.readouterr().err.count("once") == 1
