"""What an audit says: one `Finding` for each leak it looked for, and the whole report.

In: the outcome of a check, in words and in numbers. Out: the checks themselves.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import utils
from files.strict import to_jsonable
from utils import DataError

PASSED, LEAK, NOT_DONE = "passed", "leak", "not done"

LOOKS_AHEAD = "feature looks ahead"
OTHER_FEATURES = "file unlike its functions"
UNPURGED_SPLIT = "unpurged split"
BEYOND_TRAIN = "fitted beyond train"
SCALED_FILE = "file scaled as a whole"
TOO_GOOD = "feature too good"
SHIFTED_LABEL = "shifted label"
LATER_BAR = "column of a later bar"
FUTURE_FILLED = "gaps filled from the future"

_NAME_WIDTH = 29
_LINE_WIDTH = 100


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of one check.

    Args:
        check: Name of the leak that was looked for.
        outcome: `passed`, `leak` or `not done`.
        what: What was found, or why the check could not be done: one sentence.
        evidence: The numbers behind it.
    """

    check: str
    outcome: str
    what: str
    evidence: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Returns outcome, name and reason, on one line or a few."""
        mark = "LEAK" if self.outcome == LEAK else self.outcome
        head = f"  {mark:<8}  {self.check:<{_NAME_WIDTH}}"
        return textwrap.fill(
            self.what,
            _LINE_WIDTH,
            initial_indent=head,
            subsequent_indent=" " * len(head),
            break_on_hyphens=False,
            break_long_words=False,
        )


@dataclass(frozen=True, kw_only=True)
class AuditReport:
    """All findings about one training file.

    Args:
        subject: What was audited.
        findings: One for each check, done or not.
    """

    subject: str
    findings: tuple[Finding, ...]

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """The findings that are leaks."""
        return tuple(item for item in self.findings if item.outcome == LEAK)

    def __str__(self) -> str:
        """Returns the report as the command line prints it."""
        counts = {
            outcome: sum(item.outcome == outcome for item in self.findings)
            for outcome in (PASSED, NOT_DONE)
        }
        found = ", ".join(item.check for item in self.leaks)
        last = (
            f"{utils.counted(len(self.leaks), 'leak', 'leaks')}: {found}; "
            if self.leaks
            else "no leak found: "
        )
        last += ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        lines = [f"audit of {self.subject}", *map(str, self.findings), last]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Returns values that strict JSON carries."""
        return to_jsonable(
            {
                "subject": self.subject,
                "leaks": [item.check for item in self.leaks],
                "findings": [vars(item) for item in self.findings],
            }
        )

    def require_clean(self) -> None:
        """Refuses data in which a leak was found.

        Raises:
            DataError: Naming every leak.
        """
        if self.leaks:
            names = ", ".join(dict.fromkeys(item.check for item in self.leaks))
            raise DataError(
                f"{self.subject}: expected no leak. Received: {names}. Results on such "
                "data do not hold; repair them where they are made."
            )
