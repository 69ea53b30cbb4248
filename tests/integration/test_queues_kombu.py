"""The queue probe for any other transport of kombu's."""

from __future__ import annotations

from pathlib import Path

import pytest
from kombu import Connection
from kombu.transport import TRANSPORT_ALIASES, virtual

from celery_observe.errors import CeleryObserveError
from celery_observe.guard import Guard
from celery_observe.metrics import observer, queues
from celery_observe.probes import Prober
from celery_observe.recorder import Recorder
from services.probed import Heard, Probed


class MuteTransport(virtual.Transport):
    """A transport of which nothing says how long its queues are."""


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    """Transport options that keep the messages of the filesystem transport in one folder."""
    for name in ("queues", "control"):
        (tmp_path / name).mkdir()
    data = str(tmp_path / "queues")
    return {"data_folder_in": data, "data_folder_out": data, "control_folder": str(tmp_path / "control")}


def test_a_transport_that_knows_its_depth_tells_it(folders: dict[str, str]) -> None:
    """Queues of which nothing tells are not asked for: a transport might create them."""
    with Connection("filesystem://", transport_options=folders) as connection:
        queue = connection.SimpleQueue("celery")
        queue.put({})
        queue.put({})

    told = Probed("filesystem://", Heard({"celery"}, {"celery": 1}), folders, queue=("unheard", "*")).ask()

    assert told.values("waiting") == {("celery", ""): 2}
    assert told.value("consumers", "celery") == 1


def test_memory_knows_which_queues_there_are() -> None:
    """A declared queue that is not there holds nothing, and is not created by asking."""
    told = Probed("memory://", queue=("declared",)).ask().ask()

    assert told.values("waiting") == {("declared", ""): 0}


def test_a_transport_that_cannot_tell_is_an_error_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kombu would say that every queue of such a transport holds 0."""
    monkeypatch.setitem(TRANSPORT_ALIASES, "mute", f"{__name__}:MuteTransport")

    with pytest.raises(CeleryObserveError, match="mute transport cannot tell"):
        Probed("mute://", queue=("celery",)).ask()


def test_a_transport_that_cannot_tell_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its depths are absent, and the metric of the plug-in says that it failed."""
    monkeypatch.setitem(TRANSPORT_ALIASES, "mute", f"{__name__}:MuteTransport")
    recorder = Recorder()
    prober = Prober("mute", Probed("mute://", queue=("celery",)).probes, recorder, Guard(recorder.record))

    prober.turn()

    assert recorder[observer.PLUGIN_UP].values == {("queues.kombu",): 0}
    assert recorder[queues.WAITING].values == {}
