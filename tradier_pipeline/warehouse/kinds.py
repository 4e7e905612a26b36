"""The words of the broker's history, and what each is to an account: declared once, for SQL and for people.

The lists of Tradier's own documents differ, and clearing firms have words of their own. Case, blanks and hyphens do not
matter. A word that is not here is unknown: with money it makes its day uncertain, and is reported.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tradier_pipeline.warehouse.schema import VARCHAR, Column, View
from tradier_pipeline.warehouse.sql import literal

TRADES = ("trade", "option")
BETWEEN_ACCOUNTS = ("journal", "transfer")
EXTERNAL = ("ach", "wire", "check", "deposit", *BETWEEN_ACCOUNTS)
PERFORMANCE = ("dividend", "interest", "fee", "tax", "adjustment")

_TRADIER = "Tradier, Get account history"
_ACATS = "DTCC, Automated Customer Account Transfer Service"
_NACHA = "Nacha, ACH: electronic funds transfer between a bank and an account"
_PLAIN = "plain English for the same"


@dataclass(frozen=True, slots=True)
class Word:
    """A word of the broker, in lower case with underscores; the kind that it is of; where that is from."""

    word: str
    kind: str
    source: str


def _words(kind: str, source: str, *words: str) -> Iterable[Word]:
    return (Word(word, kind, source) for word in words)


WORDS = (
    *(Word(kind, kind, _TRADIER) for kind in (*TRADES, *EXTERNAL, *PERFORMANCE) if kind != "deposit"),
    *_words("ach", _NACHA, "eft", "ach_deposit", "ach_withdrawal", "ach_transfer", "direct_deposit"),
    *_words("transfer", _ACATS, "acat", "acats", "acat_transfer", "acats_transfer", "dtc", "dwac", "drs"),
    *_words("wire", _PLAIN, "wires", "wire_in", "wire_out", "wire_transfer", "wire_deposit", "wire_withdrawal"),
    *_words("check", _PLAIN, "cheque", "checks", "check_deposit", "check_withdrawal"),
    *_words("journal", _PLAIN, "journals", "journal_entry", "journaled", "jnl"),
    *_words("transfer", _PLAIN, "transfers", "transfer_in", "transfer_out", "internal_transfer"),
    *_words("deposit", _PLAIN, "deposit", "deposits", "withdrawal", "withdrawals", "withdraw", "contribution"),
    *_words("deposit", _PLAIN, "distribution", "cash_deposit", "cash_withdrawal"),
    *_words("dividend", _PLAIN, "dividends", "cash_dividend"),
    *_words("interest", _PLAIN, "credit_interest", "margin_interest"),
    *_words("fee", _PLAIN, "fees", "commission", "adr_fee"),
    *_words("tax", _PLAIN, "taxes", "withholding", "tax_withholding"),
    *_words("adjustment", _PLAIN, "adjustments"),
    *_words("trade", _PLAIN, "trades"),
    *_words("option", _PLAIN, "options"),
)

ACTIVITY_KINDS = View(
    "activity_kinds",
    "One row per word of the broker's history that this version knows, whatever its case; what it does not know makes "
    "its day uncertain.",
    (
        Column("word", VARCHAR, "The broker's word, in lower case, with underscores for blanks and hyphens"),
        Column("kind", VARCHAR, f"{', '.join((*TRADES, *EXTERNAL, *PERFORMANCE))}"),
        Column("source", VARCHAR, "Where that is from"),
    ),
    "FROM (VALUES "
    + ", ".join(f"({literal(one.word)}, {literal(one.kind)}, {literal(one.source)})" for one in WORDS)
    + ") AS words(word, kind, source)",
)


def listed(words: Iterable[str]) -> str:
    """Words as the right side of IN."""
    return f"({', '.join(map(literal, words))})"


_KIND_BY_WORD = ", ".join(f"{literal(one.word)}: {literal(one.kind)}" for one in WORDS)


def kind_of(column: str) -> str:
    """The SQL that gives the kind of a column of the broker's words; null for an unknown one."""
    # a look-up in a constant: in a CASE the word would be made anew for each kind
    return f"MAP {{{_KIND_BY_WORD}}}[regexp_replace(lower(trim({column})), '[ -]+', '_', 'g')]"
