"""Passwords and tokens from files."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from celery_observe.errors import ExpositionError
from celery_observe.exposition.access import (
    BASIC_CHALLENGE,
    BEARER_CHALLENGE,
    Access,
    offered_digest,
    parse_passwords,
    parse_tokens,
)


def basic(credentials: str) -> str:
    """Return the Authorization header of a password."""
    return "Basic " + b64encode(credentials.encode()).decode()


def test_without_files_everyone_may_read() -> None:
    """Nothing is protected unless asked for."""
    access = Access(None, None)

    assert access.admits("")
    assert access.challenges == ()


@pytest.mark.parametrize("given", ["alice:one", "bob:two:three", "zoë:pässwörd"])
def test_each_user_of_the_file_may_read(tmp_path: Path, given: str) -> None:
    """A password may hold colons and any letter."""
    file = tmp_path / "users"
    file.write_text("# who may read\n\nalice:one\r\nbob:two:three\nzoë:pässwörd\n", encoding="utf-8")

    assert Access(file, None).admits(basic(given))


@pytest.mark.parametrize(
    "given",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic YWxpY2U",
        basic("alice:on"),
        basic("alice:one "),
        basic("alice"),
        basic("# who may read"),
        "Digest username=alice",
        "Bearer alice:one",
        "Bearer é",
    ],
)
def test_other_credentials_are_refused(tmp_path: Path, given: str) -> None:
    """Malformed headers are no more than wrong ones."""
    file = tmp_path / "users"
    file.write_text("# who may read\nalice:one\n")

    assert not Access(file, None).admits(given)


def test_either_a_password_or_a_token_suffices(tmp_path: Path) -> None:
    """Both kinds can be asked for at once; each is challenged."""
    users, tokens = tmp_path / "users", tmp_path / "tokens"
    users.write_text("alice:one\n")
    tokens.write_text("old-token\nnew-token\n")
    access = Access(users, tokens)

    assert access.admits(basic("alice:one"))
    assert access.admits("Bearer old-token")
    assert access.admits("bearer new-token")
    assert not access.admits(basic("old-token"))
    assert access.challenges == (BASIC_CHALLENGE, BEARER_CHALLENGE)


def test_a_changed_file_holds_at_once(tmp_path: Path) -> None:
    """The old token is refused as soon as it has left the file."""
    tokens = tmp_path / "tokens"
    tokens.write_text("old-token")
    access = Access(None, tokens)

    tokens.write_text("the-new-token")

    assert access.admits("Bearer the-new-token")
    assert not access.admits("Bearer old-token")


@pytest.mark.parametrize("spoil", [Path.unlink, lambda file: file.write_text("\n")], ids=["gone", "empty"])
def test_a_spoilt_file_leaves_the_last_good_content_in_force(tmp_path: Path, spoil: object) -> None:
    """Nobody new gets in, nobody is locked out, and it is said once."""
    tokens = tmp_path / "tokens"
    tokens.write_text("good-token")
    access = Access(None, tokens)
    assert callable(spoil)

    with capture_logs() as logs:
        spoil(tokens)
        admitted = [access.admits("Bearer good-token") for _ in range(3)]
        refused = access.admits("Bearer ")
        tokens.write_text("mended-token")
        mended = access.admits("Bearer mended-token")

    assert admitted == [True, True, True]
    assert not refused
    assert mended
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("http_files_not_reloaded", "warning"),
        ("http_files_reloaded", "info"),
    ]


@pytest.mark.parametrize("content", [None, "", "\n# none\n", "just-a-word\n", ":no-user\n", "no-password:\n"])
def test_an_unusable_file_is_an_error_at_start(tmp_path: Path, content: str | None) -> None:
    """The error names the file, and shows nothing of what stands in it."""
    file = tmp_path / "users"
    if content is not None:
        file.write_text(content)

    with pytest.raises(ExpositionError, match=str(file)) as caught:
        Access(file, None)

    assert "word" not in str(caught.value).replace("password", "")


@given(st.text(alphabet=st.characters(max_codepoint=255)))
def test_any_header_can_be_digested(header: str) -> None:
    """Whatever a client sends is right or wrong, never an error."""
    assert offered_digest(header) is None or len(offered_digest(header) or b"") == 32


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_what_stands_in_a_file_is_what_is_offered(secret: str) -> None:
    """Files and headers are digested alike."""
    assert parse_passwords([b"user:" + secret.encode()]) == [offered_digest(basic(f"user:{secret}"))]
    if not secret.startswith("#"):
        assert parse_tokens([secret.encode()]) == [offered_digest(f"Bearer {secret}")]
