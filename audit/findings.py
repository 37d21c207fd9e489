"""What an audit says: one `Finding` for each leak it looked for, and the whole report.

In: the outcome of a check, in words and in numbers. Out: the checks themselves.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import utils
from files.strict import to_jsonable
from utils import DataError

PASSED, DOUBTFUL, LEAK, NOT_DONE = "passed", "doubtful", "leak", "not done"

LOOKS_AHEAD = "feature looks ahead"
OTHER_FEATURES = "file unlike its functions"
UNPURGED_SPLIT = "unpurged split"
BEYOND_TRAIN = "fitted beyond train"
SCALED_FILE = "file scaled as a whole"
TOO_GOOD = "feature too good"
SHIFTED_LABEL = "shifted label"
LATER_BAR = "column of a later bar"
FUTURE_FILLED = "gaps filled from the future"
NO_FUNCTION = "column without a function"
NO_CANDLES = "row without a candle"
LEADS_PRICE = "column leads the price"
LEADS_VOLUME = "column leads the volume"
LEADS_VOLATILITY = "column leads the volatility"
LEARNED = "column learned over all rows"
INTERPOLATED = "column is interpolated"
FITTED_PRICE = "price fitted to later rows"
COPIED = "column copies an outcome"
OUT_OF_STEP = "context out of step"

_NAME_WIDTH = 29
_LINE_WIDTH = 100


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of one check.

    Args:
        check: Name of the leak that was looked for.
        outcome: `passed`, `doubtful`, `leak` or `not done`.
        what: What was found, or why the check could not be done: one sentence.
        evidence: The numbers behind it.
        columns: Whom it accuses, or what could not be checked.
    """

    check: str
    outcome: str
    what: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Returns outcome, name and reason, on one line or a few."""
        mark = (
            self.outcome.upper() if self.outcome in (LEAK, DOUBTFUL) else self.outcome
        )
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

    def of(self, outcome: str) -> tuple[Finding, ...]:
        """Returns the findings with an outcome."""
        return tuple(item for item in self.findings if item.outcome == outcome)

    @property
    def leaks(self) -> tuple[Finding, ...]:
        """The findings that are leaks."""
        return self.of(LEAK)

    def __str__(self) -> str:
        """Returns the report as the command line prints it."""
        first = "" if self.of(DOUBTFUL) else "no leak found: "
        if self.leaks:
            first = f"{_names(self.leaks)}; "
        counts = (
            f"{len(self.of(PASSED))} passed, {len(self.of(DOUBTFUL))} doubtful, "
            f"{utils.counted(len(self.leaks), 'leak', 'leaks')}, "
            f"{len(self.of(NOT_DONE))} not done"
        )
        lines = [f"audit of {self.subject}", *map(str, self.findings), first + counts]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Returns values that strict JSON carries."""
        findings = [
            {
                "check": item.check,
                "outcome": item.outcome,
                "columns": item.columns,
                "words": item.what,
                "evidence": item.evidence,
            }
            for item in self.findings
        ]
        return to_jsonable(
            {
                "subject": self.subject,
                "counts": {
                    outcome: len(self.of(outcome))
                    for outcome in (PASSED, DOUBTFUL, LEAK, NOT_DONE)
                },
                "leaks": [item.check for item in self.leaks],
                "findings": findings,
            }
        )

    def require_clean(self, *, is_strict: bool = False) -> None:
        """Refuses data in which a leak was found.

        Args:
            is_strict: Whether what is doubtful or was not done is refused, too.

        Raises:
            DataError: Naming every leak.
        """
        if self.leaks:
            raise DataError(
                f"{self.subject}: expected no leak. Received: {_names(self.leaks)}. "
                "Results on such data do not hold; repair them where they are made."
            )
        open_ends = self.of(DOUBTFUL) + self.of(NOT_DONE)
        if is_strict and open_ends:
            raise DataError(
                f"{self.subject}: --audit-strict: expected every check to pass. "
                f"Received: {_names(open_ends)}, doubtful or not done. Give candles "
                "and the functions of all columns, or leave the columns out."
            )


def joined(reports: Mapping[str, AuditReport], subject: str) -> AuditReport:
    """Returns one report of several markets: of each check the worst that was found.

    Args:
        reports: Of each market, by its name.
        subject: What was audited.
    """
    found: dict[str, dict[str, list[Finding]]] = {}
    for market, report in reports.items():
        for item in report.findings:
            found.setdefault(item.check, {}).setdefault(market, []).append(item)
    order = (LEAK, DOUBTFUL, NOT_DONE, PASSED)
    findings = []
    for check, markets in found.items():
        items = [(m, item) for m, each in markets.items() for item in each]
        worst = min((item.outcome for _, item in items), key=order.index)
        told = [(m, item) for m, item in items if item.outcome == worst]
        columns = dict.fromkeys(name for _, item in told for name in item.columns)
        evidence = {m: [item.evidence for item in each] for m, each in markets.items()}
        findings.append(
            Finding(
                check=check,
                outcome=worst,
                what="; ".join(f"{market}: {item.what}" for market, item in told),
                evidence=evidence,
                columns=tuple(columns),
            )
        )
    return AuditReport(subject=subject, findings=tuple(findings))


def _names(findings: Iterable[Finding]) -> str:
    return ", ".join(dict.fromkeys(item.check for item in findings))
