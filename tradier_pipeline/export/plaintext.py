"""A journal as text for beancount and for hledger. Pure.

https://beancount.github.io/docs/beancount_language_syntax.html, https://hledger.org/hledger.html#journal
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta

from tradier_pipeline.export.journal import Assertion, Entry, Journal, money

USD = "USD"


def beancount(journal: Journal) -> str:
    """The journal for beancount. A balance that it asserts is of the morning after."""
    lines = [f"; {note}" for note in journal.notes]
    lines += ['option "title" "Tradier"', f'option "operating_currency" "{USD}"', ""]
    lines += [f"{journal.first_day} open {name}" for name in journal.accounts]
    for entry in journal.entries:
        lines += ["", *_beancount_entry(entry)]
    lines += ["" for _ in journal.assertions[:1]]
    for one in journal.assertions:
        day = one.day + timedelta(days=1)
        lines.append(f"{day} balance {one.account}  {money(one.amount)} ~ 0 {USD}")
    return "\n".join(lines) + "\n"


def _beancount_entry(entry: Entry) -> Iterator[str]:
    yield f"{entry.day} {_mark(entry)} {_quoted(entry.text)}"
    for name, value in entry.details.items():
        yield f"  {name}: {_quoted(value)}"
    for posting in entry.postings:
        yield f"  {posting.account}  {money(posting.amount)} {USD}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def hledger(journal: Journal) -> str:
    """The journal for hledger; all that it names is declared, as `hledger check --strict` asks for."""
    lines = [f"; {note}" for note in journal.notes]
    lines += [f"commodity 1000.00 {USD}", *(f"account {name}" for name in journal.accounts)]
    for day, entries, assertions in _by_day(journal):
        for entry in entries:
            lines += ["", *_hledger_entry(entry)]
        if assertions:
            lines += ["", f"{day} * The broker's own figures"]
            lines += [f"    {one.account}  0 {USD} =* {money(one.amount)} {USD}" for one in assertions]
    return "\n".join(lines) + "\n"


def _hledger_entry(entry: Entry) -> Iterator[str]:
    yield f"{entry.day} {_mark(entry)} {_in_hledger(entry.text)}"
    for name, value in entry.details.items():
        yield f"    ; {name}: {_in_hledger(value)}"
    for posting in entry.postings:
        yield f"    {posting.account}  {money(posting.amount)} {USD}"


def _in_hledger(text: str) -> str:
    """Text without what ends a description or a tag, or begins a code."""
    return text.translate(str.maketrans(";,|()", "/ /[]"))


def _mark(entry: Entry) -> str:
    return "!" if entry.doubtful else "*"


def _by_day(journal: Journal) -> Iterator[tuple[date, list[Entry], list[Assertion]]]:
    entries, assertions = defaultdict(list), defaultdict(list)
    for entry in journal.entries:
        entries[entry.day].append(entry)
    for assertion in journal.assertions:
        assertions[assertion.day].append(assertion)
    for day in sorted(entries.keys() | assertions.keys()):
        yield day, entries[day], assertions[day]
