"""How the broker and this pipeline serve: latency, doubt and absence by day, and the service levels they come to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final, Literal

from tradier_pipeline.warehouse.schema import BIGINT, DATE, DOUBLE, INSTANT, INTEGER, VARCHAR, Column, View
from tradier_pipeline.warehouse.sql import literal, where

FRESH_S = 120  # a newest snapshot that is older is stale, as by default for the gate and the alert


@dataclass(frozen=True, slots=True)
class Objective:
    """A service level that is aimed at: the share of good events, and what they are of."""

    name: str
    share: float
    of: str


OBJECTIVES: Final = (
    Objective("coverage", 0.99, "instants of the cycles that were due: a snapshot of them was published"),
    Objective(
        "freshness",
        0.99,
        f"seconds of sessions with cycles: the newest snapshot was no older than {FRESH_S} s",
    ),
    Objective("coherence", 0.95, "snapshots that were judged: they show one state of the account"),
    Objective("verification", 0.999, "whole answers: what was stored equalled what was landed, and was published"),
)
_WINDOWS = (("day", 1), ("week", 7), ("month", 30))

_US = "epoch_us(ended_at) - epoch_us(started_at)"  # whole for quantiles; date_diff asks the time zone: 30 times
# New York's hour is looked up once for each hour, not for each body; a snapshot has a deadline of minutes
_HOUR_US = 3_600_000_000

BROKER_LATENCY = View(
    "broker_latency",
    "One row per account, trade date, hour and resource that was read: how long the broker took.",
    (
        Column("account_id", VARCHAR, "Account number"),
        Column("trade_date", DATE, "America/New_York date of the snapshots"),
        Column("hour", INTEGER, "Hour of New York in which the request began, 0 to 23"),
        Column("resource", VARCHAR, "account, balances, positions, orders, order or quotes"),
        Column("reads", BIGINT, "Bodies that were read"),
        Column("retries", BIGINT, "Requests beyond the first that they took"),
        Column("median_ms", DOUBLE, "Milliseconds of the request that succeeded: half took less"),
        Column("p95_ms", DOUBLE, "Milliseconds: 95 % took less"),
        Column("worst_ms", DOUBLE, "Milliseconds of the slowest"),
        Column("bytes", BIGINT, "Of the bodies"),
    ),
    f"""
    WITH hours AS ( -- of UTC that a date of New York has, and those beside: a request may begin before it, or after
        SELECT trade_date, utc_hour, date_part('hour', make_timestamptz(utc_hour * {_HOUR_US})
               AT TIME ZONE 'America/New_York')::INTEGER AS hour
        FROM (SELECT trade_date, unnest(range(3, 30)) + 24 * (trade_date - DATE '1970-01-01') AS utc_hour
              FROM (SELECT DISTINCT trade_date FROM snapshot_days))
    )
    SELECT account_id, trade_date, hour, resource, reads, retries, parts[1] / 1000 AS median_ms,
           parts[2] / 1000 AS p95_ms, worst / 1000 AS worst_ms, bytes
    FROM (SELECT account_id, trade_date, hour, resource, count(*) AS reads,
                 (sum(attempts) - count(*))::BIGINT AS retries, quantile_cont(us, [0.5, 0.95]) AS parts,
                 max(us) AS worst, sum(bytes)::BIGINT AS bytes
          FROM (SELECT *, {_US} AS us, epoch_us(started_at) // {_HOUR_US} AS utc_hour FROM raw_payloads)
          JOIN hours USING (trade_date, utc_hour) GROUP BY ALL)
    """,  # noqa: S608
)

# why an instant failed is one line for each resource that was not read: "<resource>: <cause>", joined by "; "
_RESOURCES: Final = ("account", "balances", "positions", "orders", "order", "quotes")
_FAILED = rf"(?:^|; )({'|'.join(_RESOURCES)}): "

BROKER_FAILURES = View(
    "broker_failures",
    "One row per account, trade date, hour and resource that the broker did not answer for an instant, however often "
    "it was asked: that instant has no snapshot.",
    (
        Column("account_id", VARCHAR, "Account number"),
        Column("trade_date", DATE, "America/New_York date of the instants"),
        Column("hour", INTEGER, "Hour of New York of the instant, 0 to 23"),
        Column(
            "resource", VARCHAR, "account, balances, positions, orders, order or quotes; null: the record names none"
        ),
        Column("failures", BIGINT, "Instants of which it was not read"),
    ),
    f"""
    SELECT account_id, trade_date, hour, resource, count(*) AS failures FROM (
        SELECT account_id, trade_date, date_part('hour', requested_at AT TIME ZONE 'America/New_York')::INTEGER AS hour,
               unnest(CASE WHEN named = [] THEN [NULL] ELSE named END) AS resource
        FROM (SELECT *, list_distinct(regexp_extract_all(reason, {literal(_FAILED)}, 1)) AS named
              FROM missed_snapshots WHERE kind = 'failed')
    ) GROUP BY ALL
    """,  # noqa: S608
)

# the words of `reconcile.verdict`: which list contradicts fills, or the other one, as one that runs behind does
_BEHIND: Final = r"(positions|balances) behind "

LAGS_BEHIND_FILLS = View(
    "lags_behind_fills",
    "One row per time that positions, or balances, did not show yet what had filled, or what the other one showed: "
    "from the first snapshot of this until the next without it. As short as the cycle can tell.",
    (
        Column("account_id", VARCHAR, "Account number"),
        Column("trade_date", DATE, "America/New_York date of its first snapshot"),
        Column("resource", VARCHAR, "positions or balances: what ran behind"),
        Column("since", INSTANT, "As-of of the first snapshot that shows it (UTC)"),
        Column("until", INSTANT, "As-of of the next one that does not (UTC); null: there is none yet"),
        Column("seconds", DOUBLE, "From one to the other: it lasted no longer; null: it goes on"),
        Column("snapshots", BIGINT, "Snapshots that show it"),
        Column("evidence", VARCHAR, "What the first one contradicted"),
    ),
    f"""
    WITH behind AS (
        SELECT account_id, trade_date, as_of, verdict_evidence,
               unnest(list_distinct(regexp_extract_all(verdict_evidence, {literal(_BEHIND)}, 1))) AS resource
        FROM day_doubts WHERE verdict_evidence IS NOT NULL
    ), others AS (
        SELECT account_id, as_of, resource
        FROM day_doubts CROSS JOIN (VALUES ('positions'), ('balances')) AS resources (resource)
        WHERE NOT contains(coalesce(verdict_evidence, ''), resource || ' behind ')
    )
    SELECT behind.account_id, min(trade_date) AS trade_date, behind.resource, min(behind.as_of) AS since,
           others.as_of AS until, epoch(others.as_of - min(behind.as_of)) AS seconds, count(*) AS snapshots,
           arg_min(verdict_evidence, behind.as_of) AS evidence
    FROM behind ASOF LEFT JOIN others ON behind.account_id = others.account_id
        AND behind.resource = others.resource AND behind.as_of < others.as_of
    GROUP BY behind.account_id, behind.resource, others.as_of
    """,  # noqa: S608
)

# what was in doubt stays recognisable when it is confirmed: its evidence tells both
DOUBTFUL_SPANS = View(
    "doubtful_spans",
    "One row per time that snapshots of an account were in doubt: from the first one until the next without doubt.",
    (
        Column("account_id", VARCHAR, "Account number"),
        Column("trade_date", DATE, "America/New_York date of its first snapshot"),
        Column("since", INSTANT, "As-of of the first snapshot in doubt (UTC)"),
        Column("until", INSTANT, "As-of of the next snapshot without doubt (UTC); null: there is none yet"),
        Column("seconds", DOUBLE, "How long it took; null: it goes on"),
        Column("snapshots", BIGINT, "Snapshots in doubt"),
        Column("confirmed", BIGINT, "Those of them that were confirmed since"),
        Column("evidence", VARCHAR, "What contradicted the first one"),
    ),
    # snapshots in doubt one after another have the same next one without doubt
    """
    SELECT doubted.account_id, min(doubted.trade_date) AS trade_date, min(doubted.as_of) AS since, after.as_of AS until,
           epoch(after.as_of - min(doubted.as_of)) AS seconds, count(*) AS snapshots,
           count(*) FILTER (verdict = 'good') AS confirmed, arg_min(verdict_evidence, doubted.as_of) AS evidence
    FROM (SELECT account_id, trade_date, as_of, verdict, verdict_evidence FROM day_doubts
          WHERE verdict_evidence IS NOT NULL) AS doubted
    ASOF LEFT JOIN (SELECT account_id, as_of FROM day_doubts WHERE verdict_evidence IS NULL) AS after
        ON doubted.account_id = after.account_id AND doubted.as_of < after.as_of
    GROUP BY doubted.account_id, after.as_of
    """,
)

_CYCLES = "regexp_matches(coalesce(trigger, 'monitor_cycle'), 'monitor_cycle|trade_cycle|account_sync')"

SERVICE_LEVELS = View(
    "service_levels",
    "One row per account, window and service level, up to its newest trade date: what is aimed at, what was reached, "
    "and how fast the error budget burns. "
    + " ".join(f"{one.name[0].upper()}{one.name[1:]} is of {one.of}." for one in OBJECTIVES),
    (
        Column("account_id", VARCHAR, "Account number"),
        Column("window", VARCHAR, "day, week (7 days) or month (30 days)"),
        Column("since", DATE, "First New York date of the window"),
        Column("until", DATE, "Last one: the newest trade date of the account"),
        Column("service", VARCHAR, ", ".join(one.name for one in OBJECTIVES)),
        Column("objective", DOUBLE, "Share that is aimed at, 0.99 = 99 %"),
        Column("events", DOUBLE, "How many there were"),
        Column("bad", DOUBLE, "How many of them were not good"),
        Column("reached", DOUBLE, "Share of good ones; null: there were none"),
        Column("budget_left", DOUBLE, "Share of the error budget of the window that is left; negative: overspent"),
        Column("burn_rate", DOUBLE, "1: the budget lasts exactly the window; 2: half of it; null: there were none"),
    ),
    f"""
    WITH windows AS (
        SELECT account_id, unnest({[name for name, _ in _WINDOWS]}) AS "window",
               (until - unnest({[days - 1 for _, days in _WINDOWS]})::INTEGER)::DATE AS since, until
        FROM (SELECT account_id, max(trade_date) AS until FROM tradier_snapshots GROUP BY account_id)
    ), recent AS (
        SELECT snapshots.* FROM tradier_snapshots AS snapshots JOIN windows USING (account_id)
        WHERE "window" = 'month' AND trade_date BETWEEN since AND until
    ), absent AS (
        SELECT missed.* FROM missed_snapshots AS missed JOIN windows USING (account_id)
        WHERE "window" = 'month' AND trade_date BETWEEN since AND until
    ), due AS (
        SELECT account_id, trade_date, 0 AS bad FROM recent WHERE {_CYCLES}
        UNION ALL SELECT account_id, trade_date, 1 FROM absent WHERE {_CYCLES}
    ), readings AS (
        SELECT account_id, trade_date, session_open, least(session_close, now()) AS session_close,
               coalesce(list_sort(list(epoch_us(as_of)) FILTER (as_of BETWEEN session_open AND session_close)), [])
                   AS inside
        FROM (SELECT DISTINCT account_id, trade_date FROM due) JOIN sessions USING (trade_date)
        LEFT JOIN recent USING (account_id, trade_date) WHERE session_open < now() GROUP BY ALL
    ), gaps AS (
        SELECT account_id, trade_date, epoch(session_close - session_open) AS seconds,
               list_sum([greatest(0, ends[2] - ends[1] - {FRESH_S * 1_000_000}) FOR ends IN list_zip(
                   list_prepend(epoch_us(session_open), inside),
                   list_append(inside, epoch_us(session_close)))]) / 1e6 AS stale
        FROM readings
    ), days AS (
        SELECT account_id, trade_date, 'coverage' AS service, 1.0::DOUBLE AS events, bad::DOUBLE AS bad FROM due
        UNION ALL SELECT account_id, trade_date, 'freshness', seconds, least(stale, seconds) FROM gaps
        UNION ALL SELECT account_id, trade_date, 'coherence', 1, (coherence = 'torn')::INTEGER FROM recent
                  WHERE coherence IN ('coherent', 'torn')
        UNION ALL SELECT account_id, trade_date, 'verification', 1, 0 FROM recent
        UNION ALL SELECT account_id, trade_date, 'verification', 1, 1 FROM absent WHERE kind = 'refused'
    ), objectives AS (
        SELECT unnest({[one.name for one in OBJECTIVES]}) AS service, unnest({[one.share for one in OBJECTIVES]})
            AS objective
    ), summed AS (
        SELECT windows.account_id, "window", windows.since, windows.until, objectives.service,
               any_value(objective)::DOUBLE AS objective,
               coalesce(sum(events), 0) AS events, coalesce(sum(bad), 0) AS bad
        FROM windows CROSS JOIN objectives
        LEFT JOIN days ON days.account_id = windows.account_id AND days.service = objectives.service
            AND days.trade_date BETWEEN windows.since AND windows.until
        GROUP BY ALL
    )
    SELECT account_id, "window", since, until, service, objective, events, bad,
           CASE WHEN events > 0 THEN 1 - bad / events END AS reached,
           1 - burn_rate AS budget_left, burn_rate
    FROM (SELECT *, CASE WHEN events > 0 THEN bad / events / (1 - objective) END AS burn_rate FROM summed)
    ORDER BY account_id, since DESC, service
    """,  # noqa: S608
)


def latency_query(
    account: str | None, since: date | None, until: date | None, by: Literal["resource", "hour"] = "resource"
) -> str:
    """By account and resource, or hour of New York, over trade dates: reads, retries, failures (instants of which it
    was not read), milliseconds in the median, at 95 % and at worst; null without a read."""
    asked = where(account, since, until)
    hour = "date_part('hour', started_at AT TIME ZONE 'America/New_York')::INTEGER"
    return f"""
    WITH read AS (
        SELECT account_id, {by}, count(*) AS reads, (sum(attempts) - count(*))::BIGINT AS retries,
               median(us) / 1000 AS median_ms, quantile_cont(us, 0.95) / 1000 AS p95_ms, max(us) / 1000 AS worst_ms
        FROM (SELECT *, {_US} AS us, {hour} AS hour FROM raw_payloads {asked}) GROUP BY ALL
    ), failed AS (
        SELECT account_id, {by}, sum(failures)::BIGINT AS failures FROM broker_failures {asked} GROUP BY ALL
    )
    SELECT coalesce(read.account_id, failed.account_id) AS account_id, coalesce(read.{by}, failed.{by}) AS {by},
           coalesce(reads, 0) AS reads, coalesce(retries, 0) AS retries, coalesce(failures, 0) AS failures,
           median_ms, p95_ms, worst_ms
    FROM read FULL JOIN failed ON read.account_id = failed.account_id AND read.{by} IS NOT DISTINCT FROM failed.{by}
    ORDER BY account_id, {by}
    """  # noqa: S608


def lags_query(account: str | None, since: date | None, until: date | None) -> str:
    """By account and resource over trade dates: how often it lagged behind fills, seconds in the median, at 95 % and at
    worst, and how many of them go on."""
    return f"""
    SELECT account_id, resource, count(*) AS times, median(seconds) AS median_s,
           quantile_cont(seconds, 0.95) AS p95_s, max(seconds) AS worst_s, count(*) FILTER (until IS NULL) AS going_on
    FROM lags_behind_fills {where(account, since, until)} GROUP BY ALL ORDER BY account_id, resource DESC
    """  # noqa: S608


def restated_query(account: str | None, since: date | None, until: date | None) -> str:
    """By account, source and reason, of the broker's figures of trade dates: how many it reported otherwise later, the
    largest difference in USD, how many days after their date the last one changed, and when that was."""
    return f"""
    SELECT account_id, source, reason, count(*) AS changes, max(abs(difference)) AS largest,
           max((changed_at AT TIME ZONE 'America/New_York')::DATE - trade_date) AS days_late, max(changed_at) AS newest
    FROM (FROM restatements {where(account, since, until)})
    WHERE source IN ('history', 'gainloss', 'historical_balances') GROUP BY ALL ORDER BY account_id, source, reason
    """  # noqa: S608


def spans_query(account: str | None, since: date | None, until: date | None) -> str:
    """The spans in doubt over trade dates, oldest first."""
    return f"FROM doubtful_spans {where(account, since, until)} ORDER BY account_id, since"


def levels_query(account: str | None) -> str:
    """The service levels of each window."""
    return f"FROM service_levels {where(account)} ORDER BY account_id, since DESC, service"


VIEWS = (BROKER_LATENCY, BROKER_FAILURES, LAGS_BEHIND_FILLS, DOUBTFUL_SPANS, SERVICE_LEVELS)
