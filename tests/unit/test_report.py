"""Reports on the wire."""

from __future__ import annotations

import pytest

from celery_observe.event import Malformed
from celery_observe.fact import Outcome
from celery_observe.report import AnyReport, Beat, Execution, Labelling, Loss, Progress, Running, decode, encode


def test_a_report_comes_back_as_it_was() -> None:
    """Several travel in one datagram."""
    sent: list[AnyReport] = [
        Execution(1.0, "w@h", "a", "t", Outcome.FAILED, exception="ValueError", retries=2),
        Loss(2.0, "w@h", dropped=3),
        Beat(3.0, "w@h", pid=7, active=1, processed=9, queues=["q"], exits={"sigkill": 1}),
    ]

    assert decode(encode(sent), print) == sent


def test_what_is_not_said_takes_no_room() -> None:
    """A report of a plain success fits a small datagram."""
    assert encode([Execution(1.0, "w@h", "a", "t", Outcome.SUCCEEDED)]) == (
        b'[{"type":"executed","timestamp":1.0,"hostname":"w@h","uuid":"a","name":"t","outcome":"succeeded"}]'
    )


def test_fields_of_a_newer_version_are_skipped() -> None:
    """A sidecar may be older than the workers beside it."""
    body = b'[{"type":"lost","timestamp":1,"hostname":"w@h","dropped":1,"colour":"red"}]'

    assert decode(body, print) == [Loss(1.0, "w@h", 1)]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Malformed.NOT_JSON),
        (b'[{"type":"lost","timestamp":1,"hostna', Malformed.NOT_JSON),
        (b'[{"type":"lost","hostname":"w@h"}]', Malformed.MISSING_FIELD),
        (b'[{"type":"unheard-of","timestamp":1,"hostname":"w@h"}]', Malformed.WRONG_TYPE),
        (b'[{"type":"lost","timestamp":1,"hostname":"\xff"}]', Malformed.NOT_UTF8),
        (b'{"type":"lost"}', Malformed.WRONG_TYPE),
        (b'[{"type":"lost","timestamp":1,"hostname":"%s"}]' % (b"w" * 600), Malformed.TOO_LARGE),
    ],
)
def test_what_is_no_report_is_counted(body: bytes, reason: Malformed) -> None:
    """By what is wrong with it."""
    reasons: list[Malformed] = []

    assert (decode(body, reasons.append), reasons) == ([], [reason])


def test_reports_have_no_field_for_secrets() -> None:
    """Arguments, results and texts cannot be told, not even by mistake."""
    kinds = Execution, Running, Progress, Labelling
    told = {field for kind in kinds for field in kind.__struct_fields__}

    assert not told & {"meta", "args", "kwargs", "argsrepr", "kwargsrepr", "result", "retval", "traceback", "message"}
