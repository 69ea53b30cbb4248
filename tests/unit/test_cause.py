"""What made an attempt fail, from what Celery says of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_observe.cause import diagnose, is_reject, unregistered_name
from celery_observe.fact import Cause

WRAPPED = "ExceptionWithTraceback()"
FRAME = 'Traceback (most recent call last):\n  File "app.py", line 1, in run\n    work()\n'
IN_RETRY = '  File "celery/app/task.py", line 942, in retry\n    raise_with_context(exc)\n'
IN_RESULT = '  File "celery/backends/base.py", line 294, in mark_as_done\n    self.store_result(task_id)\n'
KILLED = "billiard.exceptions.WorkerLostError: Worker exited prematurely: signal 9 (SIGKILL) Job: 0.\n"
EXITED = "billiard.exceptions.WorkerLostError: Worker exited prematurely: exitcode 1.\n"

CASES = [
    ("ValueError('no')", f"{FRAME}ValueError: no\n", "ValueError", Cause.EXCEPTION),
    ("KeyError()", None, "KeyError", Cause.EXCEPTION),
    ("shop.errors.CardDeclined('x')", f"{FRAME}shop.errors.CardDeclined: x\n", "CardDeclined", Cause.EXCEPTION),
    ("SoftTimeLimitExceeded()", None, "SoftTimeLimitExceeded", Cause.SOFT_TIME_LIMIT),
    ("TimeLimitExceeded(1,)", None, "TimeLimitExceeded", Cause.HARD_TIME_LIMIT),
    (
        WRAPPED,
        f"{FRAME}billiard.exceptions.TimeLimitExceeded: TimeLimitExceeded(1,)\n",
        "TimeLimitExceeded",
        Cause.HARD_TIME_LIMIT,
    ),
    (WRAPPED, f"{FRAME}{KILLED}", "WorkerLostError", Cause.OOM_OR_SIGNAL),
    (WRAPPED, f"{FRAME}{EXITED}", "WorkerLostError", Cause.WORKER_LOST),
    ("WorkerLostError('exited prematurely: signal 11')", None, "WorkerLostError", Cause.OOM_OR_SIGNAL),
    ("NotRegistered('shop.gone')", None, "NotRegistered", Cause.UNREGISTERED),
    (
        "EncodeError(TypeError('x'))",
        f"{FRAME}{IN_RESULT}kombu.exceptions.EncodeError: x\n",
        "EncodeError",
        Cause.ENCODE_ERROR,
    ),
    ("MaxRetriesExceededError('x')", None, "MaxRetriesExceededError", Cause.RETRIES_EXHAUSTED),
    ("KeyError('price')", f"{FRAME}{IN_RETRY}KeyError: 'price'\n", "KeyError", Cause.RETRIES_EXHAUSTED),
    # what an application raises, whatever its name
    ("TimeLimitExceeded()", f"{FRAME}shop.TimeLimitExceeded: slow\n", "TimeLimitExceeded", Cause.EXCEPTION),
    ("EncodeError('x')", f"{FRAME}google.protobuf.message.EncodeError: x\n", "EncodeError", Cause.EXCEPTION),
    ("EncodeError('x')", f"{FRAME}kombu.exceptions.EncodeError: x\n", "EncodeError", Cause.EXCEPTION),
    ("NotRegistered('x')", f"{FRAME}celery.exceptions.NotRegistered: 'x'\n", "NotRegistered", Cause.EXCEPTION),
    # what cannot be read
    (WRAPPED, None, "ExceptionWithTraceback", Cause.EXCEPTION),
    (WRAPPED, "no frames here", "ExceptionWithTraceback", Cause.EXCEPTION),
    (None, None, "unknown", Cause.EXCEPTION),
    ("", "", "unknown", Cause.EXCEPTION),
    ("<object at 0x7f>", None, "unknown", Cause.EXCEPTION),
    ("oddly printed", f"{FRAME}shop.Odd: oddly printed\n", "Odd", Cause.EXCEPTION),
]


@pytest.mark.parametrize(("exception", "traceback", "name", "cause"), CASES)
def test_a_failure_has_a_name_and_a_cause(
    exception: str | None, traceback: str | None, name: str, cause: Cause
) -> None:
    """The class of the exception, and what it means."""
    assert diagnose(exception, traceback) == (name, cause)


def test_the_exception_that_counts_is_the_last_of_a_chain() -> None:
    """What it was raised from stands above it."""
    trace = (
        f"{FRAME}KeyError: 'card'\n\nDuring handling of the above exception, another one occurred:\n\n{FRAME}{KILLED}"
    )

    assert diagnose(WRAPPED, trace) == ("WorkerLostError", Cause.OOM_OR_SIGNAL)


def test_the_word_signal_in_an_application_is_no_kill() -> None:
    """Only what Celery says of a lost child counts."""
    assert diagnose("ValueError('signal 9')", f"{FRAME}ValueError: signal 9\n").cause is Cause.EXCEPTION


@pytest.mark.parametrize(
    ("exception", "traceback", "expected"),
    [
        ("reject requeue=False: no", None, True),
        (WRAPPED, f"{FRAME}celery.exceptions.Reject: ('no', False)\n", True),
        ("Reject('no')", f"{FRAME}shop.Reject: no\n", False),
        ("ValueError('reject requeue=False')", None, False),
        (None, None, False),
    ],
)
def test_a_rejection_is_told_from_a_failure(exception: str | None, traceback: str | None, *, expected: bool) -> None:
    """Celery 5.7 announces both in the same words."""
    assert is_reject(exception, traceback) is expected


def test_the_name_of_an_unregistered_task_is_in_its_exception() -> None:
    """And nowhere else."""
    assert unregistered_name("NotRegistered('shop.gone')") == "shop.gone"
    assert unregistered_name("KeyError('shop.gone')") is None
    assert unregistered_name(None) is None


@given(exception=st.none() | st.text(), traceback=st.none() | st.text())
def test_whatever_is_said_has_a_short_name(exception: str | None, traceback: str | None) -> None:
    """No text of an exception becomes a label."""
    failure = diagnose(exception, traceback)

    assert 0 < len(failure.exception) <= 128
    assert failure.exception.replace("_", "a").isalnum()


@settings(deadline=2000)
@given(
    opening=st.sampled_from(
        ["a", "a.", "(", "\n", '\n  File "', "aA_9.", "Traceback\n", "celery.exceptions.", "signal"]
    ),
    times=st.integers(1, 60_000),
)
def test_a_long_text_takes_no_long_time(opening: str, times: int) -> None:
    """A hostile one neither: what is looked at is bounded, and no pattern looks twice. The deadline holds it."""
    text = opening * times

    assert diagnose(text, text).exception
