"""Comments that silence rules: `# celery-observe: ignore[rule]`."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from contextlib import suppress
from typing import Final

MARK: Final = b"celery-observe:"
_COMMENT: Final = re.compile(r"#\s*celery-observe:\s*ignore(?:\[([^\]]*)\])?")
ALL: Final = frozenset({"*"})

Silenced = dict[int, frozenset[str]]
"""The rules that are silenced on a line; `ALL` for all of them."""


def silenced(content: bytes) -> Silenced:
    """Return the lines of a file that silence rules; of one that Python's tokenizer refuses, those before that."""
    found: Silenced = {}
    if MARK in content:
        with suppress(tokenize.TokenError, SyntaxError):
            for token in tokenize.tokenize(io.BytesIO(content).readline):
                comment = _COMMENT.search(token.string) if token.type == tokenize.COMMENT else None
                if comment is not None:
                    found[token.start[0]] = _named(comment[1])
    return found


def _named(listed: str | None) -> frozenset[str]:
    return ALL if listed is None else frozenset(name.strip() for name in listed.split(","))


def is_silenced(found: Silenced, node: ast.AST, rule: str) -> bool:
    """Tell whether a rule is silenced on one of the lines of a node; of a block, on its first line."""
    first = getattr(node, "lineno", 1)
    is_block = isinstance(node, ast.stmt | ast.ExceptHandler) and hasattr(node, "body")
    last = first if is_block else getattr(node, "end_lineno", first)
    return any(found.get(line, frozenset()) & {*ALL, rule} for line in range(first, last + 1)) if found else False
