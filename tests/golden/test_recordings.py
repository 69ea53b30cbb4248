"""Real event sequences in, the exact page out."""

from __future__ import annotations

from pathlib import Path

import pytest

from golden.replay import RECORDINGS, Replay, recordings
from services.exporter import Samples

GOLDEN = Path(__file__).parent
NAMES = [str(file.relative_to(RECORDINGS).with_suffix("")) for file in recordings()]


def samples_of(page: str) -> str:
    """Leave out what explains a family: docs/metrics.md holds it, and a better wording changes no number."""
    return "".join(line for line in page.splitlines(keepends=True) if not line.startswith("#"))


@pytest.mark.parametrize("name", NAMES)
def test_a_recording_gives_its_golden_page(name: str, *, update_golden: bool) -> None:
    """What was recorded once gives the same samples for ever; `--update-golden` writes them anew."""
    golden = GOLDEN / f"{name}.txt"

    page = samples_of(Replay().play(RECORDINGS / f"{name}.jsonl").page())

    if update_golden:
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(page)
    assert page == golden.read_text()


def test_every_golden_page_has_its_recording() -> None:
    """No golden page outlives its recording."""
    assert sorted(str(file.relative_to(GOLDEN).with_suffix("")) for file in GOLDEN.glob("*/*/*.txt")) == NAMES


def value(samples: Samples, name: str, **labels: str) -> float:
    """The sum of all samples of a family that carry these labels."""
    return samples.total(name, **labels)


@pytest.mark.parametrize("name", NAMES)
def test_what_started_has_ended_once(name: str) -> None:
    """Once its worker is gone, every execution has had one outcome, but for duplicates of one attempt."""
    recording = RECORDINGS / f"{name}.jsonl"
    replay = Replay(worker_timeout=20).play(recording)
    lost = value(replay.samples(), "celery_observe_tasks_unobserved_total")

    samples = replay.wait(35).samples()

    executions = value(samples, "celery_task_started_total") - value(samples, "celery_task_duplicate_executions_total")
    never_started = sum(
        value(samples, "celery_task_outcomes_total", outcome=outcome)
        for outcome in ("revoked", "expired", "unregistered")
    )
    outcomes = value(samples, "celery_task_outcomes_total") - never_started
    assert value(samples, "celery_task_running") == 0
    assert value(samples, "celery_worker_up") == 0
    assert outcomes == executions or (lost_in_threads(name) and outcomes >= executions)
    assert not lost or lost_in_threads(name)


def lost_in_threads(name: str) -> bool:
    """Whether Celery itself loses events here: before 5.7 its threads race for one buffer."""
    version, pool, _ = name.split("/")
    return pool == "threads" and version != "5.7"


@pytest.mark.parametrize("name", NAMES)
def test_what_has_failed_or_retried_has_a_runtime(name: str) -> None:
    """Celery says how long a success took; of failures and retries we find it out."""
    samples = Replay().play(RECORDINGS / f"{name}.jsonl").samples()

    if lost_in_threads(name):
        return
    for outcome in ("succeeded", "failed", "retried", "terminated"):
        assert value(samples, "celery_task_runtime_seconds_count", outcome=outcome) == value(
            samples, "celery_task_outcomes_total", outcome=outcome
        )
