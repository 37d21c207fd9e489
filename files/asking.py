"""A question on a terminal: which one of several.

In: names, an answer by number, name or another word. Out: what is chosen among, and
what follows from it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import utils


def ask(
    names: Sequence[str], question: str, *, words: Sequence[str] = (), piped: str
) -> int | str | None:
    """Asks which of several is meant, until the answer is one.

    The question goes to standard error: another program may read the answer.

    Args:
        names: Told under numbers from 1 on.
        question: What is asked.
        words: Other answers.
        piped: The error, before the list, where nobody sits at a terminal.

    Returns:
        The place of the chosen one, from 0 on, or another word; None where none was
        chosen: `quit`, an empty line, the end of the input.

    Raises:
        ConfigError: If there is no terminal.
    """
    told = "\n".join(f"  {number} {name}" for number, name in enumerate(names, 1))
    if not sys.stdin.isatty():
        raise utils.ConfigError(f"{piped}\n{told}")
    sys.stderr.write(f"{told}\n{question}")
    while word := sys.stdin.readline().strip():
        if word.isdecimal() and 1 <= int(word) <= len(names):
            return int(word) - 1
        if word in names:
            return names.index(word)
        if word.lower() in words:
            return word.lower()
        if word.lower() in ("q", "quit"):
            break
        sys.stderr.write(question)
    return None
