"""Performance without deposits and withdrawals: `cash_flows`, `external_flows`, `equity_curve`, `total_equity_curve`.

    return = (equity + withdrawals) / (equity before + deposits) - 1          growth = the product of 1 + return

That is the time-weighted return of the GIPS standards (CFA Institute, Guidance Statement on Calculation Methodology):
valued at every external cash flow, the returns between them linked geometrically. Valued daily, as here, no estimate is
needed but the time of day of a flow, which the broker does not tell. Deposits count at the start of the day and
withdrawals at its end. So whatever was in the account that day has had the day to earn: the first deposit into an empty
account has a return, and so has the day on which the last dollar leaves.

Without money there is no return: it is null where equity before + deposits is not above zero, and growth goes on as if
the day had not been. What is left of money cannot be less than nothing: a return below -100 % (a margin account in
debt) counts as -100 % in growth, which stays zero from then on.

The broker dates a flow without a time, and not always on the evening whose balance shows it first. A flow counts on the
evening that it explains. The proof is in what its own evening and the next one are left with as it is dated: less by
the flow here, more by it there. Cash that history does not explain proves it to a tenth of the flow; where only equity
is known, which markets move too, the flow has to be a tenth of the equity, or fit to a hundredth. Flows of evenings in
a row may be off all together. Where an evening contradicts the date of a flow and no neighbour explains it, the days
are uncertain: marked with the reason, without a return, left out of growth; so is an evening within ten sessions that
shows as much, and one whose cash shows what the broker does not report, unless that is booked beside it, or equity
shows that it was a trade. A date that nothing else proves is in dispute where another evening within its reach would
leave less than half to the market of all the evenings that it touches, and of one less by as much as the account's
evenings seldom move: five times the median of those that moved, a twentieth of the equity at most; or a quarter, where
two flows have to be off: those are uncertain. So it is where all flows of sessions in a row would, one later or
earlier. What moves one evening alone disputes nothing, however far. Where only the broker's own value is known, it is
one that moved while nothing was held, as snapshots, trades and closed lots tell; of an account without any snapshot, or
with stocks that were worth less than the leap, it has to have doubled or halved, or moved by twenty times the median.
So is an evening that an adjustment makes, which may be anything. So are the days of securities that came or left, and
of words that nobody knows, and such evenings beside them; until the owner states what came or left. A day of which the
owner states that nothing did is not uncertain. The date that the owner states of a flow stands when the broker posts it
with another, unless the evenings of both show it on the broker's.
"""

from __future__ import annotations

from tradier_pipeline.domain.returns import LEFT_AFTER, UNREAD
from tradier_pipeline.landing.activity import WINDOW
from tradier_pipeline.warehouse.kinds import (
    ACTIVITY_KINDS,
    BETWEEN_ACCOUNTS,
    EXTERNAL,
    PERFORMANCE,
    TRADES,
    kind_of,
    listed,
)
from tradier_pipeline.warehouse.schema import (
    BOOLEAN,
    DATE,
    DECIMAL,
    DOUBLE,
    INSTANT,
    INTEGER,
    VARCHAR,
    WORDS,
    Column,
    Derived,
    Table,
    View,
)

SHOWS = "1 / 20"  # part of equity from which on a market is told from a flow where nothing else tells it
LEAST = "1 / 1000"  # and where the account does not move on other evenings, or cash tells it
FEES = 5  # USD; less may be fees that the broker does not report
FEWEST_EVENINGS = 10  # that tell how much an account uses to move
REACH = 2  # sessions that a flow may be dated away from the evening that shows it
POSTED_WITHIN = 6  # days that a flow may be dated beside what the owner stated; a week later it is the next one
MOST_PARTS = 8  # journals of an evening, either way, that are tried together; the largest
FAR = 10  # sessions in which an evening may show a flow that its own does not
MAY_FOLLOW = f"read less than {WINDOW.days} days after: late postings may follow"


def history_read(day: str, after: str) -> str:
    """The condition that an extract, `told_of`, read the history of a day when it was over, and of all since one."""
    return (
        f"told_of.resource = 'history' AND told_of.since <= {after} + 1 AND {day} <= told_of.until "
        f"AND {day} < (told_of.read_at AT TIME ZONE 'America/New_York')::DATE"
    )


# The flows that the owner states and the broker's history has had since, each with the date that it gives: one row of
# it explains one flow. What was in the history already when a flow was stated is another one.
POSTED = f"""
    SELECT flow_id, posted.trade_date AS posted_on
    FROM (SELECT *, row_number() OVER (PARTITION BY account_id, trade_date, amount ORDER BY flow_id) AS nth
          FROM stated_flows WHERE symbol IS NULL AND amount <> 0) AS stated
    JOIN (SELECT account_id, trade_date, amount, first_read_at,
                 row_number() OVER (PARTITION BY account_id, trade_date, amount ORDER BY first_read_at DESC) AS nth
          FROM account_activity WHERE retracted_at IS NULL AND {kind_of("type")} IN {listed(EXTERNAL)}) AS posted
    ON posted.account_id = stated.account_id AND posted.amount = stated.amount AND posted.nth = stated.nth
    AND first_read_at > stated_at AND abs(posted.trade_date - stated.trade_date) <= {POSTED_WITHIN}
    QUALIFY 1 = row_number() OVER (
        PARTITION BY flow_id ORDER BY abs(posted.trade_date - stated.trade_date), posted.trade_date DESC)
    AND 1 = row_number() OVER (PARTITION BY posted.account_id, posted.trade_date, posted.amount, posted.nth
                               ORDER BY abs(posted.trade_date - stated.trade_date), stated.trade_date, flow_id)
"""  # noqa: S608

CASH_FLOWS = View(
    "cash_flows",
    "One row per cash movement of an account that is no trade, as the broker's history counts it now, and per flow "
    "that the owner states, until the broker's history has it, too. Commissions and fees of "
    "trades are in the amounts of the trades.",
    (
        Column("account_id", VARCHAR, "Account number"),
        Column("trade_date", DATE, "The date that the broker gives; it tells no time of day"),
        Column(
            "kind",
            VARCHAR,
            f"deposit or withdrawal (by sign, of {', '.join(EXTERNAL)}), {', '.join(PERFORMANCE)}; securities (they "
            "came or left, no cash did); internal (equal and opposite ones of a day inside the account); unknown (a "
            "word that is not in activity_kinds)",
        ),
        Column("external", BOOLEAN, "Whether it came into the account or left it; all else is performance"),
        Column("amount", DECIMAL, "USD that cash changed by; of securities that the owner states what they were worth"),
        Column("description", VARCHAR, "The broker's words; the owner's note"),
        Column("source", VARCHAR, "broker: its history; owner: stated, see stated_flows"),
        Column("word", VARCHAR, "The broker's word for the kind; null: stated by the owner"),
        Column("between_accounts", BOOLEAN, "Whether the other side may be an account of the same owner"),
    ),
    f"""
    WITH events AS (
        SELECT account_id, trade_date, {kind_of("type")} AS word_kind, type, amount, description
        FROM account_activity WHERE retracted_at IS NULL
    ), paired AS (
        SELECT *, coalesce(word_kind IN {listed(EXTERNAL)}, false) AS is_external,
               row_number() OVER (PARTITION BY account_id, trade_date, word_kind, amount) AS nth,
               least(count(*) FILTER (amount > 0) OVER alike, count(*) FILTER (amount < 0) OVER alike) AS opposed
        FROM events WHERE coalesce(word_kind, 'unknown') NOT IN {listed(TRADES)}
        WINDOW alike AS (PARTITION BY account_id, trade_date, word_kind, abs(amount))
    )
    SELECT account_id, trade_date,
           CASE WHEN NOT is_external THEN coalesce(word_kind, 'unknown') WHEN amount = 0 THEN 'securities'
                WHEN nth <= opposed THEN 'internal' WHEN amount < 0 THEN 'withdrawal' ELSE 'deposit' END AS kind,
           is_external AND nth > opposed AS external, amount, description, 'broker' AS source, type AS word,
           coalesce(word_kind IN {listed(BETWEEN_ACCOUNTS)}, false) AS between_accounts
    FROM paired
    UNION ALL
    SELECT account_id, trade_date, kind, true, amount, note, 'owner', NULL, false
    FROM stated_flows ANTI JOIN ({POSTED}) USING (flow_id)
    """,  # noqa: S608
)

_DATE = Column("trade_date", DATE, "America/New_York date of a session of the exchange")
_ENVIRONMENT = Column("environment", VARCHAR, "simulator, sandbox or live; money of one is never added to another's")
_FIGURES = (
    Column("equity", DECIMAL, "USD at the close; null in a gap"),
    Column(
        "source",
        VARCHAR,
        "Where equity is from. snapshot: the last good one of the day; broker: the broker's own daily "
        "value, where no snapshot was read after the close; null in a gap",
    ),
    Column("as_of", INSTANT, "When that snapshot was read (UTC); null if equity is not from one"),
    Column("deposits", DECIMAL, "USD, not negative; paid in since the last known equity. Null on the first day"),
    Column("withdrawals", DECIMAL, "USD, not negative; taken out since the last known equity. Null on the first day"),
    Column("dividends", DECIMAL, "USD; since the last known equity, part of pnl"),
    Column("interest", DECIMAL, "USD; since the last known equity, part of pnl; negative when paid"),
    Column("fees", DECIMAL, "USD; since the last known equity, part of pnl; negative when paid. Not those of trades"),
    Column("pnl", DECIMAL, "USD; profit or loss: what equity changed by, less deposits, plus withdrawals"),
    Column(
        "return",
        DOUBLE,
        "0.01 = 1 %: (equity + withdrawals) / (equity before + deposits) - 1: deposits at the start of the day, "
        "withdrawals at its end. Null without money to earn it, and on an uncertain day",
    ),
    Column(
        "growth",
        DOUBLE,
        "Product of 1 + return since the first day: the time-weighted return, valued daily (GIPS). A day without a "
        "return is left out; what was lost whole stays 0",
    ),
    Column("peak", DOUBLE, "Highest growth so far"),
    Column("drawdown", DOUBLE, "growth / peak - 1; 0 or negative, -0.05 = 5 % below the peak"),
    Column("gap", BOOLEAN, "A session without equity: nothing of it is known, and the next day with equity spans it"),
    Column("days_spanned", INTEGER, "Sessions since the last known equity: more than 1 after a gap"),
    Column(
        "provisional",
        BOOLEAN,
        f"Deposits and all that follows from them may change: the broker's history of these days was not read "
        f"{WINDOW.days} days after they ended, or they are uncertain",
    ),
    Column(
        "uncertain",
        BOOLEAN,
        "What came into the account or left it is not known, or not on which evening: pnl is not to be relied on, "
        "there is no return, and growth goes on as if the day had not been",
    ),
    Column("reason", VARCHAR, "Why it is uncertain or provisional; null: it is neither"),
    Column("stated", DECIMAL, "USD; the part of deposits less withdrawals that the owner states"),
)

_FLOWS = {
    "deposits": "deposit",
    "withdrawals": "withdrawal",
    "dividends": "dividend",
    "interest": "interest",
    "fees": "fee",
}


def _of_flows(template: str) -> str:
    return ", ".join(template.format(name=name, kind=kind) for name, kind in _FLOWS.items())


# DuckDB 1.2 computes a part again for each place that reads it, unless it is materialized.
_SIGNED = "CASE kind WHEN 'withdrawal' THEN -amount ELSE amount END"


def _moves(flow: str) -> str:
    """The evenings that a flow moves by, 1, -1 or 0, if it is this amount; null where both sides would explain it.

    Of `tried`: what its evening (`here`), the next and the one before are left with as all flows are dated.
    """

    def close(left: str, cash: str) -> str:
        fits = f"CASE WHEN {cash} OR abs({flow}) >= base / 10 THEN 10 ELSE 100 END"
        return f"abs({left}) <= abs({flow}) / {fits}"

    alone = f"(%s OR abs({flow}) >= base / 10)"  # nothing is known on the other side: the first equity
    # a flow that is much of the equity shows there, too: what cash and equity contradict each other in is not decided
    agrees = f"(abs({flow}) < base / 10 OR abs(profit + {flow}) <= abs(profit))"
    gone = f"here IS NOT NULL AND {agrees} AND {close(f'here + {flow}', 'here_is_cash')}"
    later = (
        f"reaches_next AND {close(f'next_left - {flow}', 'next_is_cash')} "
        f"AND CASE WHEN i = 1 THEN {alone % 'next_is_cash'} ELSE {gone} END"
    )
    earlier = (
        f"reaches_previous AND {gone} AND CASE WHEN i = 2 THEN {alone % 'here_is_cash'} "
        f"ELSE {close(f'previous_left - {flow}', 'previous_is_cash')} END"
    )
    # what the next evening has too much of may be what is dated on it and did not leave yet
    rival = f"i = 1 AND abs(next_left + next_net) <= abs(next_net) / 2 AND abs({flow}) > base / 20"
    return f"""CASE WHEN coalesce({later}, false) AND coalesce({earlier}, false) AND i > 2 THEN NULL
        WHEN coalesce({later} AND {rival}, false) THEN NULL
        WHEN coalesce({later}, false) THEN 1 WHEN coalesce({earlier}, false) THEN -1 ELSE 0 END"""


# Of a figure: as much as the flows of a day come to, by half.
_LIKE_FLOW = "coalesce({} * sign(net) BETWEEN abs(net) / 2 AND abs(net) * 3 / 2, false)"
_IS_OPTION = "coalesce(regexp_matches(symbol, '\\d{6}[CP]\\d{8}$'), true)"
# The evenings of each account, and the flows with the evening that each counts on.
_EVENINGS = rf"""
    numbered AS MATERIALIZED (
        SELECT trade_date, session_close, row_number() OVER by_date AS number,
               coalesce(lag(trade_date) OVER by_date, trade_date - 1) AS after
        FROM sessions WINDOW by_date AS (ORDER BY trade_date)
    ), history AS MATERIALIZED ( -- the sessions that were read when they were over, with the days before
        SELECT account_id, trade_date, number, true AS was_read,
               max((read_at AT TIME ZONE 'America/New_York')::DATE) > trade_date + {WINDOW.days} AS is_final
        FROM numbered JOIN activity_extracts AS told_of
        ON {history_read("numbered.trade_date", "numbered.after")} GROUP BY account_id, trade_date, number
    ), closes AS ( -- nothing is concluded from a doubtful snapshot
        SELECT account_id, trade_date, last AS read_value, last_cash AS read_cash, last_as_of AS read_at
        FROM snapshot_days WHERE snapshots > 0
    ), reported AS (
        SELECT account_id, trade_date, arg_max(value, last_read_at) AS told_value
        FROM broker_daily_balances WHERE retracted_at IS NULL GROUP BY account_id, trade_date
    ), valued AS ( -- a close is a reading after it or the broker's own value; what begins a history is no close
        SELECT account_id, trade_date, number, coalesce(read_at >= session_close, false) AS is_close,
               is_close OR told_value IS NULL AS is_read, read_value, read_cash, read_at, told_value
        FROM closes FULL JOIN reported USING (account_id, trade_date) JOIN numbered USING (trade_date)
        QUALIFY is_close OR told_value IS NOT NULL OR number = min(number) OVER (PARTITION BY account_id)
    ), known AS MATERIALIZED (
        SELECT account_id, trade_date, number, row_number() OVER by_number AS i,
               CASE WHEN is_read THEN read_value ELSE told_value END AS value,
               CASE WHEN is_read THEN 'snapshot' ELSE 'broker' END AS origin,
               CASE WHEN is_read THEN read_at END AS read_at, CASE WHEN is_close THEN read_cash END AS cash,
               lead(number) OVER by_number AS next
        FROM valued WINDOW by_number AS (PARTITION BY account_id ORDER BY number)
    ), dated AS MATERIALIZED ( -- of a day without a session: they belong to the next one; then to the next known equity
        SELECT flows.*, known.i
        FROM (SELECT row_number() OVER () AS flow, cash_flows.*, number AS dated_number
              FROM cash_flows ASOF JOIN numbered ON cash_flows.trade_date <= numbered.trade_date) AS flows
        ASOF JOIN known ON flows.account_id = known.account_id AND flows.dated_number <= known.number
    ), stated_evenings AS ( -- of a flow that the broker posted later the evening of the date that the owner states
        SELECT flow, known.i AS stated_i
        FROM (SELECT flow, posted.account_id, number
              FROM (SELECT *, row_number() OVER (PARTITION BY account_id, trade_date, amount ORDER BY flow) AS nth
                    FROM dated WHERE external AND source = 'broker') AS posted
              JOIN (SELECT account_id, posted_on AS trade_date, amount, stated_flows.trade_date AS stated_on,
                           row_number() OVER (PARTITION BY account_id, posted_on, amount ORDER BY flow_id) AS nth
                    FROM stated_flows JOIN ({POSTED}) USING (flow_id)) USING (account_id, trade_date, amount, nth)
              ASOF JOIN numbered ON stated_on <= numbered.trade_date) AS stated
        ASOF JOIN known ON stated.account_id = known.account_id AND stated.number <= known.number
    ), booked AS (
        SELECT known.account_id, i, sum(amount) AS booked
        FROM (SELECT account_id, trade_date, amount FROM account_activity WHERE retracted_at IS NULL) AS events
        ASOF JOIN known ON events.account_id = known.account_id AND events.trade_date <= known.trade_date GROUP BY ALL
    ), compared AS (
        SELECT account_id, i, number, trade_date, lag(trade_date) OVER by_number AS date_before, value, cash,
               greatest(abs(value), abs(lag(value) OVER by_number)) AS base,
               coalesce(sum_external, 0) AS net, coalesce(any_stated, false) AS any_stated,
               value - lag(value) OVER by_number - coalesce(sum_external, 0) AS profit,
               cash - lag(cash) OVER by_number - coalesce(booked, 0) AS cash_left,
               coalesce(booked, 0) AS booked, coalesce(earned, 0) AS earned, count(cash) OVER earlier AS cash_span
        FROM known LEFT JOIN booked USING (account_id, i)
        LEFT JOIN (SELECT account_id, i, sum(amount) AS earned FROM dated
                   WHERE NOT external AND kind <> 'unknown' GROUP BY ALL)
            USING (account_id, i)
        LEFT JOIN (SELECT account_id, i, sum(amount) AS sum_external, bool_or(source = 'owner') AS any_stated
                   FROM dated WHERE external GROUP BY ALL) USING (account_id, i)
        WINDOW by_number AS (PARTITION BY account_id ORDER BY number),
               earlier AS (PARTITION BY account_id ORDER BY number ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
    ), around AS MATERIALIZED (
        SELECT *, lag(number) OVER by_number AS previous_number, lead(number) OVER by_number AS next_number,
               lag(profit) OVER by_number AS previous_profit, lead(profit) OVER by_number AS next_profit,
               lag(cash_left) OVER by_number AS previous_cash, lead(cash_left) OVER by_number AS next_cash,
               lag(earned) OVER by_number AS previous_earned, lead(earned) OVER by_number AS next_earned,
               lag(net) OVER by_number AS previous_net, lead(net) OVER by_number AS next_net,
               lead(base) OVER by_number AS next_base,
               cash - last_value(cash IGNORE NULLS) OVER (PARTITION BY account_id ORDER BY number ROWS BETWEEN
                                                          UNBOUNDED PRECEDING AND 1 PRECEDING)
               - sum(booked) OVER (PARTITION BY account_id, cash_span) AS span_left
        FROM compared WINDOW by_number AS (PARTITION BY account_id ORDER BY number)
    ), runs AS ( -- evenings in a row with flows: they may be dated off all together
        SELECT account_id, min(i) AS first_i, max(i) AS last_i, min(abs(net)) AS least
        FROM (SELECT *, i - row_number() OVER (PARTITION BY account_id ORDER BY i) AS run FROM around WHERE net <> 0)
        GROUP BY account_id, run HAVING count(*) > 1 AND NOT bool_or(any_stated)
    ), usual AS MATERIALIZED ( -- the part of equity that is more than an account uses to move by, when it moves
        SELECT account_id, CASE WHEN count(moved) < {FEWEST_EVENINGS} THEN {SHOWS}
                                ELSE least({SHOWS}, greatest({LEAST}, 5 * median(moved))) END AS noticeable
        FROM (SELECT account_id, nullif(abs(profit - earned) / base, 0) AS moved FROM around WHERE base <> 0)
        GROUP BY account_id
    ), off_together AS (
        SELECT account_id, first_i, last_i,
               bool_and(abs(left_ - previous_net + net) <= least / fits) FILTER (i >= first_i)
                   AND bool_or(i > last_i) AND count(left_) FILTER (i >= first_i) > last_i - first_i AS all_later,
               bool_and(abs(left_ - next_net + net) <= least / fits) FILTER (i <= last_i)
                   AND bool_or(i < first_i) AND count(left_) FILTER (i <= last_i) > last_i - first_i AS all_earlier,
               CASE WHEN all_later THEN 1 WHEN all_earlier THEN -1 END AS moves_together
        FROM (SELECT runs.*, i, number, net, coalesce(previous_net, 0) AS previous_net,
                     coalesce(next_net, 0) AS next_net, coalesce(cash_left, profit - earned) AS left_,
                     CASE WHEN cash_left IS NOT NULL OR least >= base / 10 THEN 10 ELSE 100 END AS fits
              FROM runs JOIN around ON around.account_id = runs.account_id AND i BETWEEN first_i - 1 AND last_i + 1)
        GROUP BY account_id, first_i, last_i
        HAVING max(abs(left_)) >= any_value(least) / 2 AND max(number) - min(number) = count(*) - 1
    ), exchanged AS ( -- two evenings in a row of which each shows what is dated on the other
        SELECT account_id, i FROM around
        WHERE net <> 0 AND next_net <> 0 AND NOT any_stated AND next_number <= number + {REACH}
        AND abs(coalesce(cash_left, profit - earned) - next_net + net)
            <= least(abs(net), abs(next_net), abs(next_net - net)) / 10
        AND abs(coalesce(next_cash, next_profit - next_earned) + next_net - net)
            <= least(abs(net), abs(next_net), abs(next_net - net)) / 10
        AND (cash_left IS NOT NULL OR next_cash IS NOT NULL OR abs(next_net - net) >= base / 20)
    ), whole_evenings AS ( -- whose flows count on another one all together
        SELECT account_id, i, any_value(moves) AS moves_together
        FROM (SELECT account_id, unnest(range(first_i, last_i + 1)) AS i, moves_together AS moves
              FROM off_together WHERE moves_together IS NOT NULL
              UNION ALL SELECT account_id, unnest([i, i + 1]), unnest([1, -1]) FROM exchanged)
        GROUP BY account_id, i HAVING count(*) = 1
    ), tried AS (
        SELECT flow, account_id, i, dated_number, kind, external, amount, source,
               sum(amount) FILTER (external) OVER of_day AS net,
               bool_or(source = 'owner') OVER of_day AS is_stated,
               coalesce(CASE i WHEN 1 THEN next_base ELSE base END, 0) AS base,
               -- cash that is known again after other evenings, and has not seen it
               source = 'broker' AND cash_left IS NULL AND coalesce(abs(span_left + amount) <= abs(amount) / 10, false)
               AS span_is_cash,
               source = 'broker' AND cash_left IS NOT NULL OR span_is_cash AS here_is_cash,
               source = 'broker' AND next_cash IS NOT NULL AS next_is_cash,
               source = 'broker' AND previous_cash IS NOT NULL AS previous_is_cash,
               CASE WHEN span_is_cash THEN span_left WHEN here_is_cash THEN cash_left ELSE profit - earned END AS here,
               CASE WHEN next_is_cash THEN next_cash ELSE next_profit - next_earned END AS next_left,
               CASE WHEN previous_is_cash THEN previous_cash ELSE previous_profit - previous_earned END
               AS previous_left,
               profit, next_profit, previous_profit, next_net,
               coalesce(next_number IS NOT NULL AND number < dated_number + {REACH}, false) AS reaches_next,
               coalesce(previous_number >= dated_number - {REACH}, false) AS reaches_previous,
               coalesce(here, -next_left) AS missed
        FROM dated JOIN around USING (account_id, i)
        WHERE external OR (kind = 'unknown' AND amount <> 0)
        WINDOW of_day AS (PARTITION BY account_id, dated_number)
    ), likely AS ( -- all flows of a day are off together, or the one alone that fits best
        SELECT *, CASE WHEN abs(missed + net) <= min(abs(missed + amount)) OVER of_day THEN net
                       WHEN abs(missed + amount) = min(abs(missed + amount)) OVER of_day THEN amount END AS flow_off
        FROM tried WHERE external AND amount <> 0 WINDOW of_day AS (PARTITION BY account_id, dated_number)
    ), shown AS (
        SELECT likely.*, moves_together, CASE WHEN moves_together IS NOT NULL THEN moves_together
                              WHEN flow_off IS NULL THEN 0 ELSE {_moves("flow_off")} END AS moves_to
        FROM likely LEFT JOIN whole_evenings USING (account_id, i)
    ), opposed AS ( -- what its evening and that of the owner's date are left with: by cash, where it is known of one
        SELECT shown.*, stated_i, there_is_cash OR here_is_cash AS is_cash,
               CASE WHEN here_is_cash OR NOT there_is_cash THEN here END AS of_broker,
               CASE WHEN there_is_cash OR NOT here_is_cash THEN there END AS of_owner
        FROM shown JOIN stated_evenings USING (flow)
        JOIN (SELECT account_id, i AS stated_i, cash_left IS NOT NULL AS there_is_cash,
                     coalesce(cash_left, profit - earned) AS there FROM around) USING (account_id, stated_i)
        WHERE moves_to = 0 AND stated_i <> shown.i
    ), moved AS ( -- the owner's date stands, unless twice as much were left with it and it can be told from a market
        SELECT shown.*, owned.flow IS NOT NULL AS is_owners, coalesce(owned.stated_i - shown.i, moves_to) AS moves
        FROM shown LEFT JOIN (
            SELECT flow, stated_i FROM opposed
            WHERE (NOT is_cash AND abs(amount) < base / 20)
            OR coalesce(abs(of_broker + amount), 0) + coalesce(abs(of_owner - amount), 0)
               < 2 * (coalesce(abs(of_broker), 0) + coalesce(abs(of_owner), 0))
        ) AS owned USING (flow)
    ), placed AS MATERIALIZED ( -- a flow that its evening contradicts, and no neighbour explains, is doubtful
        SELECT moved.*, i + CASE -- of two that explain each other only the first moves: both count on one evening
                   WHEN moves = -1 AND moves_together IS NULL AND NOT is_owners
                        AND bool_or(moves = 1) OVER evening_before THEN 0
                   ELSE coalesce(moves, 0) END AS counted,
               bool_and(moves IS NOT DISTINCT FROM 0) OVER of_day AS all_stay,
               bool_or(moves IS NULL) OVER of_day OR (all_stay AND coalesce(CASE
                   WHEN here IS NULL THEN reaches_next AND next_left * sign(net) >= abs(net) / 2
                                          AND (next_is_cash OR abs(net) >= base / 20)
                   WHEN here_is_cash THEN abs(here + net) <= abs(net) / 2
                   ELSE -here * sign(net) BETWEEN abs(net) / 2 AND 2 * abs(net) -- without it less than half were left
                        AND (abs(net) >= base / 20 OR (abs(net) >= base / 50 AND {_LIKE_FLOW.format("-here")} AND (
                             (reaches_next AND {_LIKE_FLOW.format("next_left")})
                             OR (reaches_previous AND {_LIKE_FLOW.format("previous_left")}))))
                   END, false)) AS is_doubtful
        FROM moved
        WINDOW of_day AS (PARTITION BY account_id, dated_number),
               evening_before AS (PARTITION BY account_id ORDER BY i RANGE BETWEEN 1 PRECEDING AND 1 PRECEDING)
    ), resettled AS MATERIALIZED ( -- what each evening is left with, its flows counted where they are
        SELECT around.*, profit + coalesce(shift, 0) AS profit_left, coalesce(shift, 0) AS shifted,
               CASE WHEN NOT any_stated THEN cash_left + coalesce(shift, 0) END AS unexplained
        FROM around LEFT JOIN (
            SELECT account_id, evening AS i, sum(amount) AS shift
            FROM (SELECT account_id, i AS evening, amount FROM placed WHERE counted <> i
                  UNION ALL SELECT account_id, counted, -amount FROM placed WHERE counted <> i)
            GROUP BY ALL
        ) USING (account_id, i)
    ), lefts AS MATERIALIZED (
        SELECT account_id, i, number, previous_number, nullif(base, 0) AS base, net - shifted AS net,
               coalesce(unexplained, profit_left - earned) AS left_,
               bool_or(any_stated) OVER (PARTITION BY account_id ORDER BY i ROWS BETWEEN 2 PRECEDING AND 2 FOLLOWING)
               AS is_stated
        FROM resettled
    ), counted_runs AS (
        SELECT account_id, min(i) AS first_i, max(i) AS last_i
        FROM (SELECT *, i - row_number() OVER (PARTITION BY account_id ORDER BY i) AS run FROM lefts
              WHERE net <> 0 AND i > 1)
        GROUP BY account_id, run HAVING count(*) > 1
    ), movable AS ( -- the largest flows of a day, each alone, and all of it together
        SELECT flow, account_id, counted, dated_number, amount FROM placed WHERE NOT is_owners
        QUALIFY row_number() OVER (
            PARTITION BY account_id, dated_number, amount ORDER BY flow) <= 2 AND dense_rank() OVER (
            PARTITION BY account_id, dated_number ORDER BY abs(amount) DESC) <= {MOST_PARTS}
        UNION ALL SELECT NULL, account_id, counted, dated_number, sum(amount) FROM placed
        WHERE NOT is_owners GROUP BY account_id, counted, dated_number HAVING count(*) > 1
    ), steps AS MATERIALIZED ( -- to each evening within reach of its date that it is not counted on
        SELECT row_number() OVER () AS step, movable.*, lefts.i AS instead
        FROM movable JOIN lefts ON lefts.account_id = movable.account_id AND lefts.i <> counted
             AND number >= dated_number - {REACH} AND coalesce(previous_number < dated_number + {REACH}, true)
        JOIN usual ON usual.account_id = movable.account_id AND abs(amount) >= base * least(1 / 50, noticeable / 2)
    ), placements AS MATERIALIZED ( -- one step, or two of different flows beside each other; each has to halve it
        SELECT step, 0 AS second, account_id, 2 AS halved, [counted, instead] AS evenings, [amount, -amount] AS changes
        FROM steps
        UNION ALL
        SELECT one.step, two.step, one.account_id, 4, [one.counted, one.instead, two.counted, two.instead],
               [one.amount, -one.amount, two.amount, -two.amount]
        FROM steps AS one JOIN steps AS two ON one.account_id = two.account_id AND one.step < two.step
             AND (one.dated_number <> two.dated_number OR one.flow <> two.flow)
             AND two.counted BETWEEN one.counted - {REACH} AND one.counted + {REACH}
        UNION ALL -- all flows of sessions in a row, one earlier or later
        SELECT NULL, run * way, account_id, 2, list_concat(list(i), list(i + way)), list_concat(list(net), list(-net))
        FROM (SELECT *, row_number() OVER () AS run, unnest([-1, 1]) AS way FROM counted_runs)
        JOIN lefts USING (account_id)
        WHERE i BETWEEN first_i + least(way, 0) AND last_i + greatest(way, 0) GROUP BY account_id, run, way
        HAVING count(*) = any_value(last_i - first_i) + 2 AND max(number) - min(number) = count(*) - 1
    ), changed AS (
        SELECT account_id, step, second, halved, i, sum(change) AS change
        FROM (SELECT * EXCLUDE (evenings, changes), unnest(evenings) AS i, unnest(changes) AS change FROM placements)
        GROUP BY ALL HAVING sum(change) <> 0
    ), disputed AS MATERIALIZED ( -- evenings of which so much less would be left to the market
        SELECT account_id, unnest(list(i)) AS i
        FROM changed JOIN lefts USING (account_id, i) JOIN usual USING (account_id)
        GROUP BY account_id, step, second
        HAVING NOT bool_or(is_stated) AND any_value(halved) * sum(abs(left_ + change) / base) <= sum(abs(left_) / base)
        AND max((abs(left_) - abs(left_ + change)) / base) >= any_value(noticeable)
    ), late AS ( -- evenings whose cash lacks what is booked then, or has what is booked beside it, to the cent
        SELECT account_id, i
        FROM (SELECT *, lag(unexplained) OVER by_i AS before, lead(unexplained) OVER by_i AS after,
                     lag(profit_left) OVER by_i AS profit_before, lead(profit_left) OVER by_i AS profit_after
              FROM resettled WINDOW by_i AS (PARTITION BY account_id ORDER BY i)) AS evening
        WHERE abs(unexplained) >= base * {LEAST} AND (
            coalesce(abs(unexplained + before) < 0.01
                     AND abs(profit_left - unexplained) + abs(profit_before - before)
                         > (abs(profit_left) + abs(profit_before)) / 2, false)
            OR coalesce(abs(unexplained + after) < 0.01
                        AND abs(profit_left - unexplained) + abs(profit_after - after)
                            > (abs(profit_left) + abs(profit_after)) / 2, false)
            OR EXISTS (FROM account_activity AS event WHERE event.account_id = evening.account_id
                       AND abs(event.trade_date - evening.trade_date) <= {POSTED_WITHIN}
                       AND {kind_of("type")} IN {listed((*TRADES, *PERFORMANCE))}
                       AND abs(abs(unexplained) - abs(amount)) < 0.01))
    ), cash_spans AS MATERIALIZED ( -- evenings in a row: cash is known of the last, and before the first
        SELECT account_id, cash_span, last_cash - lag(last_cash) OVER (PARTITION BY account_id ORDER BY cash_span)
                                      - booked + shifted AS unexplained, profit_left, all_read
        FROM (SELECT account_id, cash_span, any_value(cash) AS last_cash, sum(booked) AS booked,
                     sum(shifted) AS shifted, sum(profit_left) AS profit_left,
                     bool_and(was_read AND NOT any_stated) AS all_read, count(*) AS evenings
              FROM resettled LEFT JOIN history USING (account_id, number) GROUP BY account_id, cash_span)
        QUALIFY evenings > 1 AND cash_span > 0 AND unexplained IS NOT NULL
    ), leaps AS MATERIALIZED ( -- evenings without a known cash, by what else came than dividends and the like
        SELECT *, profit_left - earned AS leap, value - leap AS without
        FROM resettled JOIN (SELECT account_id, number, was_read FROM history) USING (account_id, number)
        JOIN usual USING (account_id) ANTI JOIN cash_spans USING (account_id, cash_span)
        ANTI JOIN (FROM tried WHERE kind IN ('unknown', 'securities') AND NOT is_stated) AS named USING (account_id, i)
        WHERE unexplained IS NULL AND NOT any_stated AND number <= previous_number + {FAR}
        AND abs(profit_left - earned) >= base * noticeable
    ), held_on AS ( -- days on which something was held or traded, as far as any report tells; `worth`: USD of a stock
        SELECT account_id, trade_date AS since, trade_date AS until,
               CASE WHEN NOT {_IS_OPTION} THEN abs(amount) END AS worth
        FROM account_activity WHERE {kind_of("type")} IN {listed(TRADES)}
        UNION ALL SELECT account_id, open_date, close_date,
                         CASE WHEN NOT {_IS_OPTION} THEN greatest(abs(cost), abs(proceeds)) END FROM closed_lots
        UNION ALL -- from a trade on, if later ones of the history leave something of it, until an option expires
        SELECT account_id, min(trade_date),
               coalesce(try_strptime(regexp_extract(symbol, '(\d{{6}})[CP]\d{{8}}$', 1), '%y%m%d')::DATE, '9999-12-31'),
               CASE WHEN NOT {_IS_OPTION} THEN sum(abs(amount)) END
        FROM account_activity WHERE {kind_of("type")} IN {listed(TRADES)} AND symbol IS NOT NULL
        GROUP BY account_id, symbol HAVING sum(quantity) <> 0
        UNION ALL -- until the next snapshot
        SELECT account_id, trade_date, next_date, worth
        FROM (SELECT account_id, trade_date, coalesce(lead(trade_date) OVER by_date, '9999-12-31') AS next_date
              FROM snapshot_days WHERE snapshots > 0 WINDOW by_date AS (PARTITION BY account_id ORDER BY trade_date))
        JOIN (SELECT account_id, trade_date, CASE WHEN asset_class = 'equity' THEN abs(worth) END AS worth
              FROM day_end_positions WHERE quantity <> 0) USING (account_id, trade_date)
    ), holding AS ( -- null: an option, which can move by any amount
        SELECT leaps.account_id, i, CASE WHEN count(worth) = count(*) THEN sum(worth) END AS gross, true AS is_held
        FROM leaps JOIN held_on ON held_on.account_id = leaps.account_id
             AND since <= leaps.trade_date AND until >= date_before
        GROUP BY leaps.account_id, i
    ), unheld AS MATERIALIZED (
        SELECT leaps.*, is_held IS NULL AND EXISTS (
                   FROM snapshot_days AS seen WHERE snapshots > 0 AND seen.account_id = leaps.account_id
                   AND seen.trade_date <= leaps.trade_date) AS is_proven
        FROM leaps LEFT JOIN holding USING (account_id, i) WHERE is_held IS NULL OR abs(leap) > gross
    ), doubts AS (
        SELECT account_id, i, reaches_previous, reaches_next, true AS before, true AS after,
               net::DECIMAL(24,2)::VARCHAR || ' USD are dated on a day whose equity does not show them' AS reason
        FROM placed WHERE is_doubtful AND net <> 0
        UNION ALL -- what is in doubt, or taken to be in the first equity, and an evening further off shows
        SELECT resettled.account_id, resettled.i, false, false, false, false,
               'it shows ' || net_off::DECIMAL(24,2)::VARCHAR || ' USD that are dated on another day'
        FROM resettled JOIN (
            SELECT DISTINCT account_id, dated_number, net AS net_off FROM placed
            WHERE net <> 0 AND NOT is_stated AND (is_doubtful OR counted = 1)
        ) AS off ON off.account_id = resettled.account_id
        AND number BETWEEN dated_number - {FAR} AND dated_number + {FAR}
        WHERE abs(profit_left - net_off) <= abs(net_off) / 10 AND abs(net_off) >= base / 20
        UNION ALL -- likewise what nobody knows the worth or the meaning of
        SELECT resettled.account_id, resettled.i, false, false, false, false,
               'it may show what the broker dates on another day: ' || CASE kind WHEN 'unknown' THEN 'an unknown word'
                                                                       ELSE 'a transfer of securities' END
        FROM resettled JOIN (
            SELECT account_id, i, dated_number, kind, amount FROM tried
            WHERE kind IN ('unknown', 'securities') AND NOT is_stated
        ) AS off ON off.account_id = resettled.account_id AND off.i <> resettled.i
        AND number BETWEEN dated_number - {FAR} AND dated_number + {FAR}
        WHERE CASE amount WHEN 0 THEN abs(profit_left) >= resettled.base / 4
              ELSE abs(profit_left - amount) <= abs(amount) / 10 AND abs(amount) >= resettled.base / 20 END
        UNION ALL -- cash and equity show it alike: no trade, which moves cash alone; or it may be one or the other
        SELECT account_id, i, false, false, false, false,
               unexplained::DECIMAL(24,2)::VARCHAR || ' USD came or left that the broker does not report'
        FROM resettled JOIN history USING (account_id, number) JOIN usual USING (account_id)
        WHERE abs(unexplained) >= base * {LEAST} AND CASE
            WHEN abs(unexplained) >= base * {SHOWS} AND abs(profit_left - unexplained) <= abs(unexplained) / 2 THEN true
            ELSE abs(unexplained) >= {FEES} AND abs(profit_left - unexplained) <= base * noticeable
                 AND NOT EXISTS (FROM late WHERE late.account_id = resettled.account_id AND late.i = resettled.i) END
        UNION ALL -- what an adjustment is of is not told: it may be money of the owner
        SELECT account_id, i, false, false, false, false,
               adjusted::DECIMAL(24,2)::VARCHAR || ' USD of it are an adjustment, which may have come or left'
        FROM resettled JOIN (SELECT account_id, i, sum(amount) AS adjusted FROM dated
                             WHERE kind = 'adjustment' GROUP BY ALL) USING (account_id, i)
        WHERE abs(adjusted) >= base * {SHOWS} AND abs(profit_left - adjusted) <= abs(adjusted) / 2
        UNION ALL -- likewise over evenings of which the broker's own value alone is known: any may show some of it
        SELECT account_id, i, false, false, false, false,
               cash_spans.unexplained::DECIMAL(24,2)::VARCHAR || ' USD came or left that the broker does not report'
        FROM resettled JOIN cash_spans USING (account_id, cash_span) JOIN usual USING (account_id)
        WHERE all_read AND abs(cash_spans.unexplained) >= base * noticeable
        AND (abs(resettled.profit_left - cash_spans.unexplained) <= abs(cash_spans.unexplained) / 2
             OR (abs(cash_spans.profit_left - cash_spans.unexplained) <= abs(cash_spans.unexplained) / 2
                 AND abs(resettled.profit_left - earned) >= base * noticeable))
        UNION ALL -- no market moves an account that holds nothing, or stocks by more than they were worth; of the
             -- latter, and of an account that was never seen, only a leap is told from it
        SELECT account_id, i, false, false, false, false,
               'nothing is known to be held that can have moved it by ' || leap::DECIMAL(24,2)::VARCHAR || ' USD'
        FROM unheld WHERE is_proven OR value > 2 * greatest(without, 0) OR (value >= 0 AND value < without / 2)
        OR (noticeable < {SHOWS} AND base > 0 AND least(abs(leap), abs(profit_left)) >= 4 * base * noticeable)
        UNION ALL -- what is counted on it instead of on its own day, or no more, does not explain it
        SELECT account_id, i, false, false, false, false,
               'it is not decided which of the flows that are dated beside it it shows'
        FROM resettled WHERE abs(shifted) >= base / 20 AND abs(coalesce(unexplained, profit_left - earned)) > base / 20
        UNION ALL
        SELECT account_id, i, false, false, false, false,
               'the broker dates flows beside it on days whose equity does not show them'
        FROM (SELECT DISTINCT account_id, i FROM disputed) WHERE i > 1
        UNION ALL -- beside its own day one that shows it
        SELECT account_id, i, reaches_previous, reaches_next,
               previous_profit * sign(amount) >= shows OR (amount = 0 AND abs(previous_profit) >= shows),
               next_profit * sign(amount) >= shows OR (amount = 0 AND abs(next_profit) >= shows),
               CASE kind WHEN 'unknown' THEN 'the broker has an unknown word for money that came or left'
                         ELSE 'securities came or left by transfer, and what they were worth is not known' END
        FROM (SELECT *, CASE amount WHEN 0 THEN base * noticeable ELSE abs(amount) / 2 END AS shows
              FROM tried JOIN usual USING (account_id) WHERE kind IN ('unknown', 'securities') AND NOT is_stated)
    ), marks AS (
        SELECT account_id, i, string_agg(DISTINCT reason, '; ' ORDER BY reason) AS doubt
        FROM (SELECT account_id, reason, unnest([i, CASE WHEN reaches_previous AND before THEN i - 1 END,
                                                    CASE WHEN reaches_next AND after THEN i + 1 END]) AS i FROM doubts)
        ANTI JOIN (SELECT account_id, i FROM dated WHERE source = 'owner' AND amount = 0) AS confirmed
            USING (account_id, i)
        WHERE i IS NOT NULL GROUP BY account_id, i
    )
"""  # noqa: S608
_ACCOUNT_DAYS = f"""
    {_EVENINGS}, counted AS (
        SELECT account_id, counted AS i, kind, amount, source FROM placed
        UNION ALL SELECT account_id, i, kind, amount, source FROM dated WHERE NOT external
    ), flows AS (
        SELECT account_id, i, {_of_flows(f"sum({_SIGNED}) FILTER (kind = '{{kind}}') AS {{name}}")},
               sum(amount) FILTER (source = 'owner') AS stated
        FROM counted GROUP BY account_id, i
    ), account_days AS ( -- each known day and the gaps after it; what came on the first day is in its equity
        SELECT account_id, numbered.trade_date, numbered.number, numbered.number = known.number AS is_known,
               is_known AND i = 1 AS begins, CASE WHEN is_known THEN value END AS equity,
               CASE WHEN is_known THEN origin END AS source, CASE WHEN is_known THEN read_at END AS as_of,
               coalesce(was_read, false) AS complete, coalesce(is_final, false) AS final,
               CASE WHEN is_known THEN doubt END AS doubt,
               {_of_flows("CASE WHEN begins OR NOT is_known THEN 0 ELSE coalesce({name}, 0) END AS {name}")},
               CASE WHEN begins OR NOT is_known THEN 0 ELSE coalesce(stated, 0) END AS stated
        FROM known JOIN numbered ON numbered.number >= known.number AND numbered.number < coalesce(next, 2147483647)
        LEFT JOIN flows USING (account_id, i) LEFT JOIN marks USING (account_id, i)
        LEFT JOIN history ON history.account_id = known.account_id AND history.trade_date = numbered.trade_date
    )
"""  # noqa: S608

EXTERNAL_FLOWS = View(
    "external_flows",
    "One row per deposit and withdrawal of an account: dated when, and counted on which evening.",
    (
        Column("account_id", VARCHAR, "Account number"),
        Column("trade_date", DATE, "The date that the broker gives or the owner states"),
        Column("counted_on", DATE, "The session whose equity shows it first; null: it is in the first known equity"),
        Column("kind", VARCHAR, "deposit or withdrawal"),
        Column("amount", DECIMAL, "USD; negative for a withdrawal"),
        Column("description", VARCHAR, "The broker's words; the owner's note"),
        Column("source", VARCHAR, "broker: its history; owner: stated, see stated_flows"),
        Column("doubtful", BOOLEAN, "Whether it is not decidable which evening shows it: those days are uncertain"),
    ),
    "FROM external_flow_rows",
)
_OF_FLOWS = """
    SELECT placed.account_id, dated.trade_date, CASE WHEN counted > 1 THEN known.trade_date END AS counted_on,
           placed.kind, placed.amount, dated.description, placed.source, is_doubtful AS doubtful
    FROM placed JOIN dated USING (flow) JOIN known ON known.account_id = placed.account_id AND known.i = counted
"""
EXTERNAL_FLOW_ROWS = Derived(
    Table("external_flow_rows", "The rows of external_flows, kept by every publish.", EXTERNAL_FLOWS.columns),
    f"WITH {_EVENINGS} {_OF_FLOWS}",
)

# Of `days`: those of an account, or of all together, with what has come into the sum that day (`joined`) or left it
# before (`gone`) without having earned anything. A span is a day with equity and the gaps before it.
_SPANNED = f"""
    spans AS MATERIALIZED (
        SELECT *, count(equity) OVER so_far AS span, last_value(equity IGNORE NULLS) OVER so_far AS before
        FROM days
        WINDOW so_far AS (
            PARTITION BY account_id ORDER BY trade_date ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        )
    ), summed AS ( -- grouped and joined: a window has each of its aggregates for each of its hundreds of partitions
        SELECT spans.* REPLACE ({_of_flows("of_span.{name} AS {name}")}, of_span.stated AS stated,
                                of_span.doubt AS doubt), sessions, all_complete, all_final
        FROM spans JOIN (
            SELECT account_id, span, {_of_flows("sum({name}) AS {name}")}, sum(stated) AS stated,
                   string_agg(doubt, '; ' ORDER BY trade_date) AS doubt, count(*) AS sessions,
                   bool_and(complete) AS all_complete, bool_and(final) AS all_final
            FROM spans GROUP BY account_id, span
        ) AS of_span USING (account_id, span)
    ), measured AS (
        SELECT *, equity - before - deposits + withdrawals AS pnl,
               before + deposits - joined - CASE sessions WHEN 1 THEN gone ELSE 0 END AS invested,
               CASE WHEN invested > 0 AND doubt IS NULL THEN pnl::DOUBLE / invested::DOUBLE END AS "return"
        FROM summed
    ), linked AS (
        SELECT *, CASE WHEN equity IS NOT NULL THEN
                   coalesce(product(greatest(1 + "return", 0)) FILTER ("return" IS NOT NULL) OVER so_far, 1)
               END AS growth
        FROM measured WINDOW so_far AS (PARTITION BY account_id ORDER BY trade_date ROWS UNBOUNDED PRECEDING)
    ), curve AS (
        SELECT *, CASE WHEN equity IS NOT NULL THEN
                   max(growth) OVER (PARTITION BY account_id ORDER BY trade_date ROWS UNBOUNDED PRECEDING)
               END AS peak,
               -- an account that was empty and still is has had no flow to be reported of
               equity IS NOT NULL AND coalesce(before, 0) = 0 AND equity = 0 AS is_empty,
               CASE WHEN equity IS NOT NULL THEN doubt END AS why,
               CASE WHEN is_empty THEN NULL
                    WHEN NOT CASE WHEN equity IS NULL THEN complete ELSE all_complete END THEN '{UNREAD}'
                    WHEN NOT CASE WHEN equity IS NULL THEN final ELSE all_final END THEN '{MAY_FOLLOW}' END AS pending
        FROM linked
    )
"""  # noqa: S608
_COLUMNS = f"""
    trade_date, equity::{DECIMAL} AS equity, source, as_of,
    {_of_flows(f"CASE WHEN pnl IS NOT NULL THEN {{name}}::{DECIMAL} END AS {{name}}")},
    pnl::{DECIMAL} AS pnl, "return", growth, peak, growth / peak - 1 AS drawdown, equity IS NULL AS gap,
    CASE WHEN pnl IS NOT NULL THEN sessions::INTEGER END AS days_spanned,
    why IS NOT NULL OR pending IS NOT NULL AS provisional, why IS NOT NULL AS uncertain,
    coalesce(why, pending) AS reason, CASE WHEN pnl IS NOT NULL THEN stated::{DECIMAL} END AS stated
"""

EQUITY_CURVE = View(
    "equity_curve",
    "One row per account and session since its first known equity: performance without deposits and withdrawals. In a "
    "gap all figures are null.",
    (Column("account_id", VARCHAR, "Account number"), _DATE, *_FIGURES, _ENVIRONMENT),
    "FROM equity_curve_rows",
)
_OF_ACCOUNTS = f"""
    WITH days AS (SELECT *, 0 AS joined, 0 AS gone FROM account_days), {_SPANNED}
    SELECT account_id, {_COLUMNS}, environment FROM curve LEFT JOIN account_environments USING (account_id)
"""  # noqa: S608
EQUITY_CURVE_ROWS = Derived(
    Table("equity_curve_rows", "The rows of equity_curve, kept by every publish.", EQUITY_CURVE.columns),
    f"WITH {_ACCOUNT_DAYS} FROM ({_OF_ACCOUNTS})",
)

TOTAL_EQUITY_CURVE = View(
    "total_equity_curve",
    "One row per environment and session: all its accounts together as if they were one. An account that begins is a "
    f"deposit of its first equity at the end of that day. One without equity for more than {LEFT_AFTER} sessions, "
    "while others have some, has left: a withdrawal at the start of the session after its last; it begins again when "
    "it is read again. Else a day without the equity of an account is a gap. What one account journals to another is "
    "no deposit or withdrawal.",
    (
        _DATE,
        *_FIGURES,
        Column("accounts", INTEGER, "Accounts in it"),
        Column("waits_for", WORDS, "The accounts in it without an equity of the day; null: there are none"),
        _ENVIRONMENT,
    ),
    "FROM total_equity_curve_rows",
)
_OF_ALL = f"""
    WITH places AS ( -- null is an environment, too
        SELECT account_id, environment, coalesce(environment, '') AS place FROM account_environments
    ), known_at AS (
        SELECT known.*, coalesce(place, '') AS place FROM known LEFT JOIN places USING (account_id)
    ), any_known AS (
        SELECT DISTINCT place, number FROM known_at
    ), stays AS ( -- it leaves once others are known so much later, and before it is known again
        SELECT *, lag(leaves) OVER (PARTITION BY account_id ORDER BY number) IS NOT FALSE AS joins
        FROM (SELECT known.account_id, known.number, any_known.number > known.number + {LEFT_AFTER} AS leaves
              FROM (SELECT *, coalesce(next, 2147483647) AS until FROM known_at) AS known
              ASOF JOIN any_known ON known.place = any_known.place AND known.until > any_known.number)
    ), ends AS (
        SELECT account_days.*, stays.number AS last, leaves, NOT (leaves AND account_days.number > last) AS is_in,
               is_known AND joins AS enters,
               last_value(equity IGNORE NULLS) OVER (PARTITION BY account_days.account_id ORDER BY account_days.number)
               AS final_equity
        FROM account_days ASOF JOIN stays
        ON account_days.account_id = stays.account_id AND account_days.number >= stays.number
    ), journals AS ( -- what came from another account of the owner or went to one; equal ones of an evening are opposed
        SELECT known.trade_date, known.place, placed.amount,
               row_number() OVER (PARTITION BY known.place, known.number, placed.amount) AS nth,
               nth <= least(count(*) FILTER (placed.amount > 0) OVER alike,
                            count(*) FILTER (placed.amount < 0) OVER alike) AS is_opposed
        FROM placed JOIN dated USING (flow)
        JOIN known_at AS known ON known.account_id = placed.account_id AND known.i = counted
        WHERE between_accounts AND counted > 1
        WINDOW alike AS (PARTITION BY known.place, known.number, abs(placed.amount))
    ), parted AS ( -- and some that come to what others do: what one account sent in two others had
        SELECT place, trade_date, max(total) AS inside
        FROM (SELECT place, trade_date, amount > 0 AS came, subset, sum(abs(amount)) AS total
              FROM (SELECT *, row_number() OVER (
                               PARTITION BY place, trade_date, amount > 0 ORDER BY abs(amount) DESC) - 1 AS place_of
                    FROM journals WHERE NOT is_opposed)
              JOIN (SELECT unnest(range(1, 1 << {MOST_PARTS})) AS subset)
              ON place_of < {MOST_PARTS} AND (subset >> place_of) & 1 = 1
              GROUP BY place, trade_date, came, subset)
        GROUP BY place, trade_date, total HAVING count(DISTINCT came) = 2
    ), netted AS (
        SELECT place, trade_date, sum(inside) AS inside
        FROM (SELECT place, trade_date, sum(amount) AS inside FROM journals WHERE is_opposed AND amount > 0 GROUP BY ALL
              UNION ALL SELECT place, trade_date, max(inside) FROM parted GROUP BY ALL)
        GROUP BY place, trade_date
    ), added AS (
        SELECT coalesce(place, '') AS place, min(environment) AS environment, trade_date,
               count(*) FILTER (is_in) AS accounts, count(equity) = accounts AS is_whole,
               CASE WHEN is_whole THEN coalesce(sum(equity), 0) END AS equity,
               CASE WHEN is_whole THEN min(source) END AS source, -- broker if it is that of any
               CASE WHEN is_whole AND min(source) = 'snapshot' THEN min(as_of) END AS as_of,
               coalesce(bool_and(complete) FILTER (is_in), true) AS complete,
               coalesce(bool_and(final) FILTER (is_in), true) AS final,
               string_agg(DISTINCT account_id || ': ' || doubt, '; ') FILTER (is_in AND NOT enters) AS doubt,
               {_of_flows("coalesce(sum({name}) FILTER (is_in AND NOT enters), 0) AS {name}")},
               coalesce(sum(stated) FILTER (is_in AND NOT enters), 0) AS stated,
               coalesce(sum(equity) FILTER (enters), 0) AS joined,
               coalesce(sum(final_equity) FILTER (NOT is_in AND number = last + 1), 0) AS gone,
               list(account_id ORDER BY account_id) FILTER (is_in AND equity IS NULL) AS waits_for
        FROM ends LEFT JOIN places USING (account_id) GROUP BY coalesce(place, ''), trade_date
    ), days AS (
        SELECT place AS account_id, added.* REPLACE (
                   deposits + joined - coalesce(inside, 0) AS deposits,
                   withdrawals + gone - coalesce(inside, 0) AS withdrawals
               )
        FROM added LEFT JOIN netted USING (place, trade_date)
    ), {_SPANNED}
    SELECT {_COLUMNS}, accounts::INTEGER AS accounts, waits_for, environment FROM curve
"""  # noqa: S608
TOTAL_EQUITY_CURVE_ROWS = Derived(
    Table(
        "total_equity_curve_rows", "The rows of total_equity_curve, kept by every publish.", TOTAL_EQUITY_CURVE.columns
    ),
    f"WITH {_ACCOUNT_DAYS} FROM ({_OF_ALL})",
)

CURVES = (EXTERNAL_FLOW_ROWS, EQUITY_CURVE_ROWS, TOTAL_EQUITY_CURVE_ROWS)
# The rows of all, each with the name of its table: the evenings and days that they follow from are computed once.
ALL_CURVES = f"""
    WITH {_ACCOUNT_DAYS}
    SELECT '{EXTERNAL_FLOW_ROWS.table.name}' AS of_table, * FROM ({_OF_FLOWS})
    UNION ALL BY NAME SELECT '{EQUITY_CURVE_ROWS.table.name}' AS of_table, * FROM ({_OF_ACCOUNTS})
    UNION ALL BY NAME SELECT '{TOTAL_EQUITY_CURVE_ROWS.table.name}' AS of_table, * FROM ({_OF_ALL})
"""  # noqa: S608
VIEWS = (ACTIVITY_KINDS, CASH_FLOWS, EXTERNAL_FLOWS, EQUITY_CURVE, TOTAL_EQUITY_CURVE)
