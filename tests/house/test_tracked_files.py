"""What may not be in any file of the project."""

from __future__ import annotations

import re

import pytest

from house.source import ROOT, tracked_files

# Written so that they do not find themselves.
FORBIDDEN = {
    "a path of somebody's machine": r"(?<![\w./$}-])/(?:root|home|work|Users)/[a-z.]",
    "the address of a package registry": r"p[y]pi\.(?:org|python)|python[h]osted|npm[j]s\.|[-_]index[-_]url[= ]\w",
    "a private key": r"BEGIN (?:RSA |EC |)PRIVATE [K]EY",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_contains(what: str) -> None:
    """Files say nothing about the machine they were written on, and keep no secrets."""
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{file.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for file in tracked_files()
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), start=1)
        if pattern.search(line)
    ]

    assert not found
