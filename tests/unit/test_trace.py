"""The tree of a workflow is asked for over HTTP, and drawn."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from celery_observe.cli import main
from celery_observe.exposition import Exposition
from celery_observe.testing import EPOCH
from celery_observe.tree import Tree, Twig, draw
from services.web import READY, Settings, page


def twig(uuid: str, parent: str | None, **fields: float) -> Twig:
    """A task, in the times of which is EPOCH."""
    given = {"uuid": uuid, "task": uuid.upper(), "state": "succeeded", "parent": parent, "queue": "q", "worker": "w@h"}
    return msgspec.convert(given | {name: EPOCH + value for name, value in fields.items()}, Twig)


TREE = Tree(
    root_id="a",
    root="A",
    state="succeeded",
    tasks=5,
    open=0,
    twigs=[
        twig("a", None, published=0, ended=1),
        twig("c", "a", published=0.5, ended=9),
        twig("b", "a", published=0.25, ended=2),
        twig("d", "c", published=1, ended=2.5),
    ],
    left_out=1,
)

DRAWN = """\
A a: succeeded, 5 tasks, 0 open, since 2023-11-14 22:13:20 UTC
`- A a succeeded queue=q worker=w@h published=+0.000s ended=+1.000s
   |- B b succeeded queue=q worker=w@h published=+0.250s ended=+2.000s
   `- C c succeeded queue=q worker=w@h published=+0.500s ended=+9.000s
      `- D d succeeded queue=q worker=w@h published=+1.000s ended=+2.500s
and 1 tasks that ended and are not kept
"""


def test_a_tree_is_drawn_from_its_root() -> None:
    """Children in the order in which they were published."""
    assert "\n".join(draw(TREE)) + "\n" == DRAWN


def test_a_long_chain_and_a_circle_are_drawn() -> None:
    """Without recursion, and without an end that never comes."""
    long = [twig(str(number), str(number - 1)) for number in range(5_000)]
    circle = [twig("x", "y"), twig("y", "x")]

    assert len(list(draw(Tree("0", "T", "active", 5_000, 0, long)))) == 5_001
    assert len(list(draw(Tree("x", "T", "active", 2, 0, circle)))) <= 3


@pytest.fixture
def exposition(tmp_path: Path) -> Exposition:
    """Serves the tree as `a`, to those who know the password."""
    (tmp_path / "passwords").write_text("# ours\nme:secret\n")
    settings = Settings(basic_auth_file=tmp_path / "passwords")
    return Exposition(settings, page, lambda: READY, lambda: READY, {"a": TREE}.get)


def run(exposition: Exposition, *arguments: str) -> tuple[int, str]:
    """Exit code and output of the command."""
    exposition.start()
    with capture_logs():
        result = CliRunner().invoke(main, ["trace", *arguments, "--url", f"http://127.0.0.1:{exposition.port}"])
        exposition.stop()
    return result.exit_code, result.output


def test_the_command_prints_what_is_served(exposition: Exposition, tmp_path: Path) -> None:
    """To those who may read."""
    assert run(exposition, "a", "--basic-auth-file", str(tmp_path / "passwords")) == (0, DRAWN)


def test_who_shows_no_password_sees_nothing(exposition: Exposition) -> None:
    """But is told which file to give."""
    code, output = run(exposition, "a")

    assert code == 1
    assert "--basic-auth-file" in output
    assert "succeeded" not in output


def test_a_workflow_that_is_not_known_is_not_found(exposition: Exposition, tmp_path: Path) -> None:
    """Whatever its id looks like."""
    code, output = run(exposition, "../metrics", "--basic-auth-file", str(tmp_path / "passwords"))

    assert code == 1
    assert "no such workflow" in output


def test_a_url_that_is_none_is_refused_without_its_password() -> None:
    """As any setting is."""
    result = CliRunner().invoke(main, ["trace", "a", "--url", "redis://:secret@host/0"])

    assert result.exit_code == 2
    assert "http://HOST:9808" in result.output
    assert "secret" not in result.output


def test_nobody_there_is_told() -> None:
    """In one line."""
    result = CliRunner().invoke(main, ["trace", "a", "--url", "http://127.0.0.1:9"])

    assert result.exit_code == 1
    assert "does not answer" in result.output
