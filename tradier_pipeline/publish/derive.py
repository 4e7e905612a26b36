"""What a snapshot says beside what the warehouse has: verdict, conservation, findings over time.

And what is kept of the rules that it did not meet: `check_results`, to be queried for ever.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain

import duckdb

from tradier_pipeline import clock
from tradier_pipeline.core.outcome import Outcome
from tradier_pipeline.domain.calendar import MarketCalendar
from tradier_pipeline.landing.zone import LandedSnapshot
from tradier_pipeline.reconcile.account_state import (
    ZERO,
    AccountState,
    held,
    legless_of,
    parts_of,
    terms_of,
)
from tradier_pipeline.reconcile.conservation import ItemVerdict
from tradier_pipeline.reconcile.findings import (
    FindingScope,
    FindingState,
    findings_of,
    unknown_words,
    update_findings,
)
from tradier_pipeline.reconcile.outstanding import OUTSTANDING_DAYS
from tradier_pipeline.reconcile.verdict import Figures, Good, Observation, Verdict, judge_snapshot, reach
from tradier_pipeline.verify.claims import CLAIM_OF
from tradier_pipeline.warehouse import schema
from tradier_pipeline.warehouse.account_states import (
    SANDBOX,
    clock_error,
    last_good,
    stored_observation,
)
from tradier_pipeline.warehouse.kinds import kind_of
from tradier_pipeline.warehouse.rows import conservation_rows
from tradier_pipeline.warehouse.sql import bind, rows_of, transaction
from tradier_pipeline.warehouse.staging import insert
from tradier_pipeline.warehouse.typed import Conserved, Row, TypedSnapshot

_DOUBTFUL = """
    SELECT snapshot_id, as_of, as_of_end, clock_skew_s, environment FROM tradier_snapshots
    WHERE account_id = ? AND as_of < ? AND as_of > ? AND verdict = 'doubtful' ORDER BY as_of DESC LIMIT 60
"""
# how many there are, itself or good and newer, and its own verdict
_KNOWN = """
    SELECT count(*) FILTER (verdict = 'good' OR snapshot_id = ?), any_value(verdict) FILTER (snapshot_id = ?),
        any_value(verdict_evidence) FILTER (snapshot_id = ?)
    FROM tradier_snapshots WHERE account_id = ? AND as_of >= ?
"""
_MAKE_GOOD = """
    UPDATE tradier_snapshots SET verdict = 'good', verdict_evidence = concat_ws('; ', verdict_evidence, ?)
    WHERE snapshot_id = ?
"""

_SETTLED = """
    SELECT item FROM conservation WHERE account_id = ? AND trade_date >= ? GROUP BY item
    HAVING sum(CASE WHEN state IN ('in_flight', 'unexplained') THEN unexplained ELSE 0 END - carried) = 0
"""

_OPEN = "FROM findings WHERE account_id = ? AND resolved_at IS NULL"
_OPEN_IDS = f"SELECT finding_id {_OPEN}"
_TAKE_OPEN = f"DELETE {_OPEN} RETURNING {', '.join(schema.FINDINGS.column_names)}"  # in their place comes what is now
# of `cash_flows` those of no known kind, without the pairs that the view looks for among the known ones
_UNKNOWN_WORDS = f"""
    SELECT type, count(*), sum(amount) FROM account_activity ANTI JOIN stated_flows USING (account_id, trade_date)
    WHERE {kind_of("type")} IS NULL AND retracted_at IS NULL AND amount <> 0 AND account_id = ?
    GROUP BY type ORDER BY type
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Known:
    """What the warehouse has of a snapshot that is about to be stored.

    Attributes:
        is_news: it is stored for the first time, and nothing good of its account that is newer.
        verdict: as it is stored; None if it is not.
    """

    is_news: bool
    verdict: Verdict | None = None
    verdict_evidence: str | None = None


def known_of(connection: duckdb.DuckDBPyConnection, typed: TypedSnapshot) -> Known:
    """What the warehouse has of a snapshot that is about to be stored."""
    manifest = typed.landed.manifest
    own = manifest.snapshot_id
    query = bind(_KNOWN, own, own, own, manifest.account_id, manifest.as_of)
    found, verdict, evidence = connection.execute(query).fetchone() or (0, None, None)
    return Known(not found, verdict, evidence)


def conserve(
    connection: duckdb.DuckDBPyConnection, typed: TypedSnapshot, calendar: MarketCalendar | None = None
) -> TypedSnapshot:
    """The snapshot with all that changed since the last good one, explained. None if it is doubtful, or the first.

    Args:
        calendar: says when options expire; without, at the close of a whole session.
    """
    return _conserve(connection, typed, _statement(typed, calendar))


def _conserve(connection: duckdb.DuckDBPyConnection, typed: TypedSnapshot, now: AccountState) -> TypedSnapshot:
    last = None if typed.verdict == "doubtful" else last_good(connection, typed.landed.manifest.account_id, now)
    return typed if last is None else replace(typed, conserved=_conserved(last, last.findings(now)))


def with_verdict(
    connection: duckdb.DuckDBPyConnection, typed: TypedSnapshot, calendar: MarketCalendar, known: Known | None = None
) -> TypedSnapshot:
    """The snapshot with its verdict, and as `conserve` returns it.

    Earlier doubtful ones that it confirms become good, with what changed at them.

    Args:
        known: it keeps the verdict that it is stored with: what has confirmed it since is not forgotten. None judges it
            although it is stored.
    """
    if known is not None and known.verdict is not None:
        kept = replace(typed, verdict=known.verdict, verdict_evidence=known.verdict_evidence)
        return conserve(connection, kept, calendar)
    manifest = typed.landed.manifest
    now = _observed(typed, calendar)
    last = last_good(connection, manifest.account_id, now.statement)
    since = last.observation.statement.as_of if last else datetime.min.replace(tzinfo=UTC)
    doubtful = rows_of(connection, bind(_DOUBTFUL, manifest.account_id, manifest.as_of, since))
    judgement = judge_snapshot(now, last, (stored_observation(connection, header) for header in doubtful))
    typed = replace(typed, verdict=judgement.verdict, verdict_evidence="; ".join(judgement.evidence) or None)
    found = [_confirm(connection, manifest.account_id, one, judgement.confirmation) for one in judgement.confirms]
    if found:
        return _with_left(_conserve(connection, typed, now.statement), chain.from_iterable(found))
    if last is None or typed.verdict == "doubtful":
        return typed
    return replace(typed, conserved=_conserved(last, judgement.findings))


def _confirm(
    connection: duckdb.DuckDBPyConnection, account_id: str, doubtful: Observation, why: str | None
) -> tuple[ItemVerdict, ...]:
    """Make a stored doubtful snapshot good, and store and return what changed at it since the good one before."""
    snapshot_id, now = doubtful.snapshot_id, doubtful.statement
    last = last_good(connection, account_id, now)
    connection.execute(bind(_MAKE_GOOD, why, snapshot_id))
    if last is None:
        return ()
    on = {"as_of": now.as_of, "trade_date": clock.trade_date(now.as_of)}
    lead = {"snapshot_id": snapshot_id, "account_id": account_id, **on}
    found = _conserved(last, last.findings(now))
    insert(connection, schema.CONSERVATION, [lead | one for one in conservation_rows(found)])
    return found.findings


def _with_left(typed: TypedSnapshot, found: Iterable[ItemVerdict]) -> TypedSnapshot:
    """The snapshot with what it confirms and nothing explained: nobody was told while it was in doubt."""
    if typed.conserved is None:
        return typed
    open_now = {one.item for one in typed.conserved.findings if one.state == "unexplained"}
    left = {one.item: one for one in found if one.state == "unexplained" and one.item not in open_now}
    return replace(typed, conserved=replace(typed.conserved, confirmed=tuple(left.values())))


def _conserved(last: Good, found: tuple[ItemVerdict, ...]) -> Conserved:
    return Conserved(last.observation.snapshot_id, found)


def _statement(typed: TypedSnapshot, calendar: MarketCalendar | None) -> AccountState:
    manifest = typed.landed.manifest
    session = calendar.session_of(clock.trade_date(manifest.as_of_end)) if calendar else None
    return AccountState(
        manifest.as_of,
        manifest.as_of_end,
        parts_of((*typed.orders, *typed.looked_up)),
        held(typed.positions),
        typed.balances.total_cash,
        legless_of((*typed.orders, *typed.looked_up)),
        session.close if session else None,
        session.open if session else None,
        terms_of((quote.symbol, quote.contract_size, quote.underlying) for quote in typed.quotes),
    )


def _observed(typed: TypedSnapshot, calendar: MarketCalendar) -> Observation:
    manifest, balances = typed.landed.manifest, typed.balances
    statement = _statement(typed, calendar)
    values = [row.market_value for row in typed.positions]
    return Observation(
        manifest.snapshot_id,
        statement,
        Figures(
            balances.total_equity,
            balances.total_cash,
            balances.buying_power,
            balances.current_requirement,
            balances.long_market_value,
            balances.short_market_value,
            balances.option_long_value,
            balances.option_short_value,
        ),
        in_session=statement.in_session,
        priced=sum((abs(value) for value in values if value is not None), ZERO),
        clock_skew=clock_error(manifest.clock_skew_s),
        worth=None if None in values else sum((value for value in values if value is not None), ZERO),
        reach=reach(
            typed.positions,
            {quote.symbol: quote.prevclose for quote in typed.quotes},
            delayed=manifest.environment == SANDBOX,
        ),
        delayed=manifest.environment == SANDBOX,
    )


def store_results(connection: duckdb.DuckDBPyConnection, landed: LandedSnapshot, outcomes: Iterable[Outcome]) -> None:
    """Store what is not met, in the place of what an earlier run stored of the snapshot."""
    connection.execute(bind("DELETE FROM check_results WHERE snapshot_id = ?", landed.manifest.snapshot_id))
    add_results(connection, landed, outcomes)


def add_results(connection: duckdb.DuckDBPyConnection, landed: LandedSnapshot, outcomes: Iterable[Outcome]) -> None:
    """Store what is not met of a snapshot of which nothing is stored yet."""
    manifest = landed.manifest
    lead = {
        "snapshot_id": manifest.snapshot_id,
        "account_id": manifest.account_id,
        "as_of": manifest.as_of,
        "trade_date": clock.trade_date(manifest.as_of),
    }
    insert(
        connection, schema.CHECK_RESULTS, [lead | _result_row(outcome) for outcome in outcomes if not outcome.passed]
    )


def _result_row(outcome: Outcome) -> Row:
    return {
        "rule": outcome.check,
        "number": outcome.number,
        "claim": CLAIM_OF[outcome.check].name,
        "severity": str(outcome.severity),
        "broker": outcome.broker,
        "stored": outcome.stored,
        "differing": outcome.differing,
        "differences": [
            {"place": difference.where, "broker": difference.broker, "stored": difference.stored}
            for difference in outcome.differences
        ],
    }


def upsert_findings(
    connection: duckdb.DuckDBPyConnection,
    typed: TypedSnapshot,
    *,
    ledger_read: bool,
    stopped: Collection[str] | None = None,
) -> None:
    """Bring the findings of an account up to its newest snapshot, in one transaction.

    Args:
        ledger_read: `typed.reconciled` is what the ledger leads to; without, its findings stay as they are.
        stopped: the cycles that are switched off; None: not known, and the findings of them stay as they are.
    """
    manifest = typed.landed.manifest
    scope = FindingScope(
        snapshot_id=manifest.snapshot_id,
        account_id=manifest.account_id,
        as_of=manifest.as_of,
        doubtful=typed.verdict == "doubtful",
        conserved=typed.conserved is not None,
        ledger_read=ledger_read,
        switches_read=stopped is not None,
        settled=_settled(connection, manifest.account_id, manifest.as_of),
    )
    words = {} if scope.doubtful else _unknown_words(connection, manifest.account_id)
    said = findings_of(
        scope,
        evidence=(typed.verdict_evidence or "").split("; "),
        changes=_reported(typed.conserved, scope.settled) if typed.conserved else (),
        orders=(*typed.orders, *typed.looked_up),
        reconciled=typed.reconciled,
        words=words,
        stopped=stopped or (),
    )
    with transaction(connection):
        rows = connection.execute(bind(_TAKE_OPEN, manifest.account_id)).fetchall()
        tracked = sorted((FindingState(*row) for row in rows), key=lambda row: (row.first_seen, row.finding_id))
        insert(connection, schema.FINDINGS, [asdict(row) for row in update_findings(tracked, said, scope)])


def _reported(conserved: Conserved, settled: Collection[str]) -> tuple[ItemVerdict, ...]:
    return (*conserved.findings, *(one for one in conserved.confirmed if one.item not in settled))


def upsert_word_findings(connection: duckdb.DuckDBPyConnection, account_id: str, path: str, read_at: datetime) -> None:
    """Add a finding for each unknown word of the history of an account that has none yet, as an extract shows it.

    Within the caller's transaction. The next snapshot carries them on, or resolves them.
    """
    scope = FindingScope(snapshot_id=path, account_id=account_id, as_of=read_at)
    open_ids = connection.execute(bind(_OPEN_IDS, account_id)).fetchall()
    said = unknown_words(_unknown_words(connection, account_id))
    rows = [row for row in update_findings((), said, scope) if (row.finding_id,) not in open_ids]
    insert(connection, schema.FINDINGS, [asdict(row) for row in rows])


def _settled(connection: duckdb.DuckDBPyConnection, account_id: str, now: datetime) -> frozenset[str]:
    """The items of which nothing is left open that the last days changed."""
    query = bind(_SETTLED, account_id, clock.trade_date(now) - OUTSTANDING_DAYS)
    return frozenset(item for (item,) in connection.execute(query).fetchall())


def _unknown_words(connection: duckdb.DuckDBPyConnection, account_id: str) -> dict[str, tuple[int, Decimal]]:
    """Those that the owner has not stated a flow of the same date for."""
    rows = connection.execute(bind(_UNKNOWN_WORDS, account_id)).fetchall()
    return {word: (count, amount) for word, count, amount in rows}
