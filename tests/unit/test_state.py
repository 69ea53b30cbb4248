"""The file in which ledgers outlive a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from celery_observe.errors import StateError
from celery_observe.fleet import Ledger
from celery_observe.state import StateFile

LEDGERS = {"redis": [Ledger("w@h", 7, base=3, processed=9, seen=5, unobserved=1)], "amqp": []}


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    """By another process, later."""
    StateFile(tmp_path / "state.json").save(LEDGERS)

    assert StateFile(tmp_path / "state.json").load() == LEDGERS


def test_nothing_was_saved_yet(tmp_path: Path) -> None:
    """The first start is no error."""
    assert StateFile(tmp_path / "state.json").load() == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": [{"worker": 1}]}', b"\xff"])
def test_a_broken_file_says_what_to_do(tmp_path: Path, content: bytes) -> None:
    """It is not overwritten in silence."""
    path = tmp_path / "state.json"
    path.write_bytes(content)

    with pytest.raises(StateError, match=r"state\.json cannot be read: .*; remove it to begin anew"):
        StateFile(path).load()


def test_a_file_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """The folder is not there."""
    with pytest.raises(StateError, match="cannot be written: No such file or directory"):
        StateFile(tmp_path / "gone" / "state.json").save(LEDGERS)


def test_saving_leaves_nothing_but_the_file(tmp_path: Path) -> None:
    """It is written aside and moved into place; what fails is cleaned up."""
    path = tmp_path / "state.json"
    StateFile(path).save(LEDGERS)
    StateFile(path).save({})
    assert [file.name for file in tmp_path.iterdir()] == ["state.json"]

    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "full").touch()
    with pytest.raises(StateError):
        StateFile(folder).save({})

    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "state.json"]
