"""Words of a command line -> words that `argparse` understands as they are meant.

In: files behind lists, several values of a field that has one, words that no flag
takes. Out: the flags and what they mean (`options`).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from typing import Any

import utils
from config import FIELDS, MAX_PROBLEMS
from settings.feature_fields import FEATURE_SETS

OF_PATHS = ("members",)
"""Lists whose values may be files or folders."""


def few_unknown(words: Sequence[str], flags: Sequence[str]) -> tuple[list[str], int]:
    """Returns words without unknown flags beyond those that are listed, and their sum.

    The steps of `argparse` are the square of the flags.
    """
    known = {*flags, "--"}
    unknown = [
        at
        for at, word in enumerate(words)
        if word.startswith("--") and word.split("=")[0] not in known
    ]
    others = {*unknown[MAX_PROBLEMS:]}
    return [w for at, w in enumerate(words) if at not in others], len(others)


_OF_A_STUDY = ("--n-trials", "--space", "--objective", "--study", "--allow-target")


def cure(word: str, flags: Sequence[str]) -> str:
    """Returns what to do about a word that no flag takes, where that is known."""
    if _is_path(word) and "--training-file" in flags:
        return " A file to train on stands behind --training-file."
    if word.split("=")[0] in _OF_A_STUDY and "--config-test" in flags:
        return " It is of a search of settings: add --optimize."
    return utils.did_you_mean(word.split("=")[0], flags)


def arranged(actions: Sequence[Any], words: Sequence[str]) -> list[str]:
    """Returns the words of a command line as a parser with `actions` understands them.

    Files behind a list of names go before all flags: the list would swallow them. The
    words of a field that has one value, `--symbols A B`, become one: `A,B`, which is
    refused with what to do.
    """
    kinds = {
        flag: action
        for action in actions
        for flag in action.option_strings
        if action.dest in FIELDS or action.dest in ("compare", "groups", "timeframes")
    }
    kept: list[str] = []
    moved: list[str] = []
    action, is_taken = None, False
    for word in words:
        if word.startswith("--"):
            action, is_taken = kinds.get(word), False
        elif _is_list_of_names(action) and _is_path(word):
            moved.append(word)
            continue
        elif is_taken and action is not None and _may_follow(action.dest, word):
            kept[-1] += f",{word}"
            continue
        else:
            is_taken = True
        kept.append(word)
    first = next((at for at, word in enumerate(kept) if word[:1] == "-"), len(kept))
    return kept[:first] + moved + kept[first:]


def _is_list_of_names(action: Any) -> bool:
    is_list = action is not None and action.nargs in ("*", "+")
    return is_list and action.dest not in OF_PATHS


def _may_follow(name: str, word: str) -> bool:
    """Whether a word is one more value of a field that has one."""
    if name == "pair":
        return word.isupper() and not os.path.exists(word)
    return name == "model" and not _is_path(word)


def _is_path(word: str) -> bool:
    """Whether a word is a file or a folder, not a number or a name of a list."""
    with contextlib.suppress(ValueError):
        float(word)
        return False
    if re.fullmatch(r"[A-Z0-9]+/[A-Z0-9]+(:[A-Z0-9]+)?", word):
        return os.path.exists(word)  # ETH/USDT
    is_name = word in FEATURE_SETS or re.fullmatch(r"\d+[a-z]", word)
    is_there = os.path.exists(word) and not is_name
    return is_there or os.sep in word or re.search(r"\.[A-Za-z]\w*$", word) is not None
