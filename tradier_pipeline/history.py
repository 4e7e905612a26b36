"""The history in pandas: `from tradier_pipeline import history`.

Every function reads the newest published warehouse and lets go of the file before it returns. The frame is yours.

Arguments that mean the same everywhere:
    account: an account number; None: every account.
    since, until: first and last New York date, as `date` or `"2026-11-20"`, both included; None: no limit.
    decimals: amounts as exact `Decimal` in columns of dtype object, instead of float64.
    tz: the zone of the instants: a name or a `tzinfo`.
    home: what TRADIER_PIPELINE_HOME would be; None: as it is set, or the lake where TRADIER_READ is lake.

The type of a column follows from what it holds, not from whether a value is missing:
    instants            datetime64[us, tz]      missing: NaT
    dates               datetime64[us]          missing: NaT
    counts, ids         Int64                   missing: <NA>
    yes or no           boolean                 missing: <NA>
    text                string                  missing: <NA>
    amounts, prices     float64, or Decimal     missing: NaN, or None
    ratios, returns     float64                 missing: NaN

All money is USD.

Raises:
    WarehouseError: nothing has been published yet, or the file cannot be read or is of another version.
    SettingsError: `home` is None and a setting is missing or malformed.
    ValueError: an argument is not what it should be: no date, an instant without a zone.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import date, datetime, tzinfo
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from tradier_pipeline import clock
from tradier_pipeline.core.errors import PipelineError
from tradier_pipeline.core.settings import WAREHOUSE, load_settings
from tradier_pipeline.lake.reads import connect_history
from tradier_pipeline.warehouse.exposure import Each, ExposureBy, exposure_query
from tradier_pipeline.warehouse.period_returns import returns_query
from tradier_pipeline.warehouse.reads import By, balances_query, connect_readonly, findings_query, require_current
from tradier_pipeline.warehouse.realized import PnlBy, pnl_query
from tradier_pipeline.warehouse.sql import bind, where
from tradier_pipeline.warehouse.statements import Period, statement_query, total_statement_query

__all__ = [
    "balances",
    "cash_flows",
    "closed_lots",
    "coverage",
    "daily_summaries",
    "equity_curve",
    "exposure",
    "findings",
    "orders",
    "pnl",
    "positions",
    "positions_at",
    "query",
    "returns",
    "statement",
    "total_equity_curve",
]

_DAYS = "trade_date, account_id"
_EXACT = "exact decimal"
# numpy has neither: what sum() makes of integers, and decimals
_CASTS = {"hugeint": "BIGINT", _EXACT: "VARCHAR"}


def balances(
    account: str | None = None,
    since: date | str | None = None,
    until: date | str | None = None,
    by: By = "snapshot",
    *,
    decimals: bool = False,
    tz: str | tzinfo = "UTC",
    home: str | Path | None = None,
) -> pd.DataFrame:
    """The balances over time, oldest first.

    Args:
        by: `snapshot`, or the `hour`, `day`, `month`, `quarter` or `year` of New York; one of which nothing is known
            has no row. Of the last three it is the statement.

    Columns by snapshot: `as_of` (instant), `account_id`; in USD `equity`, `cash`, `buying_power`, `margin_requirement`,
    `open_pl`, `close_pl`; `verdict`: good or doubtful; `snapshot_id`; `source`: snapshot, or broker where nothing was
    read after the close and the equity is the broker's own value at that.

    Columns by hour and day: `account_id`; when it began: `hour` (instant) or `trade_date`; in USD the equity at its
    first, highest and lowest snapshot `open`, `high`, `low`; at the end of the hour, or the close of the session
    `close`, and the cash then `cash_close`; how many `snapshots` it has. Of days also the equity of the `last`
    snapshot, whenever it was read, and the `source` of the close: snapshot or broker.

    Columns by month, quarter and year: those of `statement`.
    """
    if by not in get_args(By):
        raise ValueError(f"by is one of {', '.join(get_args(By))}, not {by!r}")
    return _frame(balances_query(account, *_dates(since, until), by), decimals, tz, home)


def statement(
    account: str | None = None,
    since: date | str | None = None,
    until: date | str | None = None,
    by: Period = "month",
    *,
    total: bool = False,
    decimals: bool = False,
    tz: str | tzinfo = "UTC",
    home: str | Path | None = None,
) -> pd.DataFrame:
    """How the opening of each month, quarter or year became its closing, oldest first:

    opening + deposits - withdrawals + trading + dividends + interest - fees - tax + adjustments = closing

    Args:
        total: all accounts of each environment as if they were one; not of one account. Then there is no `account_id`,
            and no `open`, `high`, `low`, `close`, `cash_close`, `snapshots`.

    Columns: `account_id`; `environment`: simulator, sandbox or live; the first day of the `month`, `quarter` or `year`;
    in USD the equity at its first, highest and lowest snapshot or close `open`, `high`, `low`, at its last close
    `close`, and the cash then `cash_close`; how many `snapshots` it has. The dates of the closes that it lies between,
    `opening_date`, `closing_date`; in USD `opening`, `deposits`, `withdrawals`, `trading` (what the other lines leave:
    profit or loss of what was held and traded, with commissions), `dividends`, `interest`, `fees` (those of trades are
    in trading), `tax`, `adjustments`, `closing`, and the profit or loss `pnl`; as ratios the time-weighted `return` and
    `max_drawdown`; `complete`: both ends were read and all flows reported; if not, `note` tells what is missing.
    """
    if by not in get_args(Period):
        raise ValueError(f"by is one of {', '.join(get_args(Period))}, not {by!r}")
    if total and account is not None:
        raise ValueError(f"total is of all accounts of an environment, not of {account}")
    query = total_statement_query if total else statement_query
    return _frame(query(by, account, *_dates(since, until)), decimals, tz, home)


def pnl(
    account: str | None = None,
    since: date | str | None = None,
    until: date | str | None = None,
    by: PnlBy = "month",
    *,
    decimals: bool = False,
    tz: str | tzinfo = "UTC",
    home: str | Path | None = None,
) -> pd.DataFrame:
    """What was realized, by the broker's closed lots: by account and symbol, underlying, day or month of the close.

    Args:
        by: `symbol`, `underlying`, `day`, `month`, or `account` for one row each.

    Columns: `account_id`, `environment`; what `by` names: `symbol`, `underlying` (missing: of an unknown root),
    `close_date` or `month`. Counts of `lots`, `wins`, `losses`. In USD `cost`, `proceeds`, `gain_loss`, `gains`,
    `average_win`, `average_loss`. As ratios `win_rate` (wins by lots) and `profit_factor` (gains by what the losses
    cost; missing without a loss); `days_held`, on average.
    """
    if by not in get_args(PnlBy):
        raise ValueError(f"by is one of {', '.join(get_args(PnlBy))}, not {by!r}")
    return _frame(pnl_query(by, account, *_dates(since, until)), decimals, tz, home)


def exposure(
    account: str | None = None,
    since: date | str | None = None,
    until: date | str | None = None,
    by: ExposureBy = "underlying",
    *,
    each: Each = "day",
    decimals: bool = False,
    tz: str | tzinfo = "UTC",
    home: str | Path | None = None,
) -> pd.DataFrame:
    """What the book was exposed to over time, oldest first; doubtful snapshots are left out.

    Args:
        by: `underlying`, `account`, or `expiring`: the options that expire within 30 days.
        each: of the last good snapshot of each `day`, or of every `snapshot`, of which a year has a hundred thousand.

    Columns of all: `snapshot_id`, `account_id`, `as_of` (instant), `trade_date`, `environment`. By underlying and
    account: USD per day `theta`, USD per point of volatility `vega`, USD `dollar_delta` (delta x price); counts of
    `option_legs` and `legs_with_greeks`, and their ratio `coverage`; in USD at the strike `short_notional`,
    `short_put_notional`, `short_call_notional`; contracts `expiring_7d`, `expiring_30d`; `next_expiration` (date). A
    figure is missing where it is of any position.

    By underlying also `underlying`, its `underlying_price` (USD), `shares`; `delta` (shares), `gamma` (shares per USD).
    By account also in USD `equity`, `buying_power`, `margin_requirement`; as a ratio `buying_power_use`.
    Of what expires `symbol`, `underlying`, `option_type`, `strike`, `expiration` (date), `days_left`, `within_7_days`,
    `quantity`, `multiplier`, `underlying_price`; `distance` (USD per share out of the money, negative in it), also as
    `distance_ratio` of the price; `in_the_money`.
    """
    for name, value, known in (("by", by, get_args(ExposureBy)), ("each", each, get_args(Each))):
        if value not in known:
            raise ValueError(f"{name} is one of {', '.join(known)}, not {value!r}")
    return _frame(exposure_query(by, where(account, *_dates(since, until)), each=each), decimals, tz, home)


def equity_curve(
    account: str | None = None,
    since: date | str | None = None,
    until: date | str | None = None,
    *,
    decimals: bool = False,
    tz: str | tzinfo = "UTC",
    home: str | Path | None = None,
) -> pd.DataFrame:
    """Equity and return by session day, oldest first; deposits and withdrawals are not performance.

    A day without a known equity is a `gap`: its other figures are missing, nothing is interpolated. All accounts as
    one: `total_equity_curve`.

    Columns: `account_id`, `trade_date`; `equity` (USD) at the close; its `source`, snapshot or broker; `as_of`
    (instant) of that snapshot. Since the previous known equity, in USD: `deposits`, `withdrawals` (both positive),
    `dividends`, `interest`, `fees` (signed), `pnl`. As ratios, 0.01 being 1 %: `return`, `growth` (product of
    1 + `return` since the first day), its `peak` so far, `drawdown` from that (0 or less). `gap`; `days_spanned`
    (sessions since the previous known equity); `provisional`: the broker has not reported the flows of the date
    for good yet; `uncertain`: what came or left, or when, is not known, so there is no return; the `reason` of either;
    `stated` (USD): the part of deposits less withdrawals that the owner states; `environment`: simulator, sandbox or
    live.
    """
    return _frame(_rows("equity_curve", account, since, until), decimals, tz, home)


def total_equity_curve(
    environment: str | None = None,
    since: date | str | None = None,
    until: date | str | None = None,
    *,
    decimals: bool = False,
    tz: str | tzinfo = "UTC",
    home: str | Path | None = None,
) -> pd.DataFrame:
    """Equity and return by session day of all accounts of an environment as if they were one, oldest first.

    An account that begins is a deposit, one that is not read any more a withdrawal; what one journals to another is
    neither. A day without the equity of one of them is a `gap`.

    Args:
        environment: simulator, sandbox or live; None: each for itself, money of one is never added to another's.

    Columns: those of `equity_curve` without the account: `trade_date`; `equity` (USD) at the close; its `source`;
    `as_of` (instant) of the earliest snapshot in it; in USD `deposits`, `withdrawals`, `dividends`, `interest`, `fees`,
    `pnl`; as ratios `return`, `growth`, `peak`, `drawdown`; `gap`; `days_spanned`; `provisional`; `uncertain`;
    `reason`; `stated` (USD); how many `accounts` are in it, and which of them it `waits_for`; `environment`.
    """
    asked = where(environment, *_dates(since, until), of="environment")
    return _frame(f"FROM total_equity_curve {asked} ORDER BY trade_date, environment", decimals, tz, home)


def returns(
    account: str | None = None,
    since: date | str | None = None,
    until: date | str | None = None,
    by: Period = "month",
    *,
    benchmark: str | None = None,
    total: bool = False,
    tz: str | tzinfo = "UTC",
    home: str | Path | None = None,
) -> pd.DataFrame:
    """The time-weighted return of each month, quarter or year, oldest first, beside that of a benchmark.

    A year a row, with its months beside each other: `query("FROM yearly_returns")`.

    Args:
        benchmark: the symbol to compare with, whose prices `backfill` has read; None: the one that was read last;
            empty: none.
        total: all accounts of each environment as if they were one; not of one account. Then there is no `account_id`.

    Columns: `account_id`; `environment`: simulator, sandbox or live; the first day of the `month`, `quarter` or `year`;
    the dates of the closes that it is measured between, `since`, `until`. As ratios, 0.01 being 1 %: `return`,
    `volatility` (sample deviation of the daily returns by the year), `sharpe` (risk-free rate 0), and why it is missing
    `risk_reason`; of how many `usable_days` these are, and how many were `left_out`. The symbol of the `benchmark`,
    its `benchmark_return` over the same days, and why that is missing `benchmark_note`. `complete`: every day was read
    for good; if not, `note` tells what is missing.
    """
    if by not in get_args(Period):
        raise ValueError(f"by is one of {', '.join(get_args(Period))}, not {by!r}")
    if total and account is not None:
        raise ValueError(f"total is of all accounts of an environment, not of {account}")
    symbol = None if benchmark is None else benchmark.strip().upper()
    query = returns_query(by, account, *_dates(since, until), benchmark=symbol, total=total)
    return _frame(query, False, tz, home)


def cash_flows(
    account: str | None = None,
    since: date | str | None = None,
    until: date | str | None = None,
    *,
    decimals: bool = False,
    tz: str | tzinfo = "UTC",
    home: str | Path | None = None,
) -> pd.DataFrame:
    """What moved cash other than trades, oldest first, as the broker tells it over night.

    Columns: `account_id`, `trade_date`; `kind`: deposit, withdrawal, dividend, interest, fee, tax, adjustment,
    securities, internal or unknown; `external`: it came into the account or left it; `amount` (USD, signed);
    `description`, the broker's words; its `source`: broker or owner; `word`, the broker's for the kind;
    `between_accounts`: the other side may be an account of the same owner.
    """
    return _frame(_rows("cash_flows", account, since, until, f"{_DAYS}, kind, amount, description"), decimals, tz, home)


def closed_lots(
    account: str | None = None,
    since: date | str | None = None,
    until: date | str | None = None,
    *,
    decimals: bool = False,
    tz: str | tzinfo = "UTC",
    home: str | Path | None = None,
) -> pd.DataFrame:
    """What was realized, a row per lot of the broker's gain and loss report, by the date it was closed, oldest first.

    Columns: `account_id`, `close_date`, `open_date`, `symbol`, `underlying`; `quantity` (shares or contracts, negative
    when it was short); in USD `cost`, `proceeds`, `gain_loss`; `gain_loss_percent` (of the cost); `term_days`.
    """
    lots = where(account, *_dates(since, until), on="close_date")
    sql = f"""
        SELECT * EXCLUDE (content_key, ordinal, first_read_at, last_read_at, retracted_at)
        FROM closed_lots {lots}
        ORDER BY close_date, account_id, symbol, open_date, content_key, ordinal
    """  # noqa: S608
    return _frame(sql, decimals, tz, home)


def positions(
    account: str | None = None,
    since: date | str | None = None,
    until: date | str | None = None,
    *,
    decimals: bool = False,
    tz: str | tzinfo = "UTC",
    home: str | Path | None = None,
) -> pd.DataFrame:
    """The positions of every snapshot, oldest first: a year has millions of rows, so name dates.

    Columns: `snapshot_id`, `account_id`, `as_of` (instant), `trade_date`; `row_no` in the broker's list, `position_id`;
    `symbol`; `quantity` (shares or contracts, negative when short); `asset_class`: equity, option, adjusted_option or
    unparsed; of options `root`, `underlying`, `expiration` (date), `option_type`, `strike` (USD per share);
    `multiplier` (shares per contract); `side`; `cost_basis` (USD), `cost_basis_per_contract`; `date_acquired`
    (instant); in USD per share `bid`, `ask`, `last`, `mark`; in USD `market_value`, `unrealized_pl`.
    """
    return _frame(_rows("positions", account, since, until, "as_of, account_id, row_no"), decimals, tz, home)


def positions_at(
    ts: datetime | str,
    account: str | None = None,
    *,
    decimals: bool = False,
    tz: str | tzinfo = "UTC",
    home: str | Path | None = None,
) -> pd.DataFrame:
    """What each account held at an instant: the positions of its newest snapshot of then or before.

    Args:
        ts: an instant with its zone, such as `"2026-11-20T15:00-05:00"`.

    The columns are those of `positions`; `as_of` tells how old the snapshot was.
    """
    selected = bind("FROM positions_at(?)", _instant(ts))
    return _frame(f"{selected} {where(account)} ORDER BY account_id, row_no", decimals, tz, home)


def orders(
    account: str | None = None,
    since: date | str | None = None,
    until: date | str | None = None,
    *,
    decimals: bool = False,
    tz: str | tzinfo = "UTC",
    home: str | Path | None = None,
) -> pd.DataFrame:
    """The orders of every snapshot, oldest first; `drop_duplicates(["account_id", "order_id"], keep="last")` leaves
    each as it was last seen.

    Columns: `snapshot_id`, `account_id`, `as_of` (instant), `trade_date`; `order_id`; `listed`: in the broker's list of
    the day; `class`, `type`, `symbol`, `option_symbol`, `side`; `quantity` (shares, contracts or spreads); `status`,
    `duration`, and the broker's own words `raw_status`, `raw_class`, `raw_type`, `raw_side`, `raw_duration`; in USD per
    share `price`, `stop_price`, `avg_fill_price` (negative for a credit), `last_fill_price`; in shares, contracts or
    spreads `exec_quantity`, `last_fill_quantity`, `remaining_quantity`; `create_date`, `transaction_date` (instants);
    `reason` of a rejection; `num_legs`, `strategy`, `tag`.
    """
    return _frame(_rows("orders", account, since, until, "as_of, account_id, order_id"), decimals, tz, home)


def daily_summaries(
    account: str | None = None,
    since: date | str | None = None,
    until: date | str | None = None,
    *,
    decimals: bool = False,
    tz: str | tzinfo = "UTC",
    home: str | Path | None = None,
) -> pd.DataFrame:
    """What every trade date came to, by the newest revision of its summary, oldest first.

    Columns: `account_id`, `trade_date`; its `revision`, when that was made `generated_at` (instant), the key of its
    figures `content_key`; the snapshot that it is built from: `snapshot_id`, `as_of` (instant), whether that was
    `after_close` of the session at `session_close` (instant). Counts: `snapshots`, `missed`, `failed`, `refused`,
    `positions`, `open_spreads`, `orders_placed`, `orders_filled`, `orders_canceled`, `orders_rejected`,
    `orders_expired`. USD: `equity` and its `equity_open`, `equity_high`, `equity_low`, `equity_change`; `cash`,
    `buying_power`, `close_pl`. Of the ledger's trades between `trades_since` and `trades_as_of` (instants): counts
    `trades_opened`, `trades_closed`, `trades_open`, `realized_unknown`; `realized_pnl` (USD); counts by name
    `exit_reasons`, `trades_by_strategy`; lists of them `opened_trades`, `closed_trades`, `open_trades`, in which
    amounts are Decimal.
    """
    return _frame(_rows("newest_daily_summaries", account, since, until), decimals, tz, home)


def coverage(
    account: str | None = None,
    since: date | str | None = None,
    until: date | str | None = None,
    *,
    tz: str | tzinfo = "UTC",
    home: str | Path | None = None,
) -> pd.DataFrame:
    """How much of every session day was read since the account's first snapshot, oldest first.

    Columns: `account_id`, `trade_date`; `session_minutes`; how many `snapshots`, of them `in_session`, and how many
    were `missed`, `failed`, `refused`; `first_as_of`, `last_as_of` (instants); `longest_gap_s`: the longest time of the
    session without a snapshot, in seconds, from its open and to its close, too.
    """
    return _frame(_rows("coverage", account, since, until), False, tz, home)


def findings(
    account: str | None = None,
    *,
    resolved: bool = False,
    tz: str | tzinfo = "UTC",
    home: str | Path | None = None,
) -> pd.DataFrame:
    """The problems that are open, by severity, then age.

    Args:
        resolved: those that are not open any more, too, after the others.

    Columns: `finding_id`, `account_id`, `code`, `subject`, `severity` (info, warn or error), `text`, `evidence`,
    `suggested_action`; when it was `first_seen` and `last_seen` (instants), in which snapshots `first_snapshot_id` and
    `last_snapshot_id`, in how many `times_seen`; `resolved_at` (instant).
    """
    return _frame(findings_query(account, resolved=resolved), False, tz, home)


def query(
    sql: str, *, decimals: bool = False, tz: str | tzinfo = "UTC", home: str | Path | None = None
) -> pd.DataFrame:
    """The rows of any query, such as `"FROM trade_gate"`, typed like every other frame; DuckDB's own types otherwise.

    Raises:
        PipelineError: the SQL returns no rows.
        duckdb.Error: it is wrong, or would write the warehouse.
    """
    return _frame(sql, decimals, tz, home, any_version=True)


def _rows(
    relation: str, account: str | None, since: date | str | None, until: date | str | None, order: str = _DAYS
) -> str:
    return f"FROM {relation} {where(account, *_dates(since, until))} ORDER BY {order}"


def _frame(
    sql: str, decimals: bool, tz: str | tzinfo, home: str | Path | None, *, any_version: bool = False
) -> pd.DataFrame:
    """What a query returns, each column of the pandas type that its DuckDB type asks for."""
    source = connect_history(load_settings()) if home is None else connect_readonly(Path(home).expanduser() / WAREHOUSE)
    with source as connection:
        if not any_version:
            require_current(connection)
        connection.execute("SET python_enable_replacements = false")  # an unknown table is no variable of this module
        found = connection.sql(sql)
        if found is None:
            raise PipelineError("the SQL returns no rows", "Write one SELECT or FROM.")
        kinds = [_EXACT if decimals and type_.id == "decimal" else type_.id for type_ in found.types]
        if not _CASTS.keys().isdisjoint(kinds):
            found = found.project(", ".join(map(_cast, count(1), found.columns, kinds)))
        arrays = found.fetchnumpy()
    series = (_series(values, kind, tz) for values, kind in zip(arrays.values(), kinds, strict=True))
    return pd.DataFrame(dict(zip(arrays, series, strict=True)))


def _cast(place: int, name: str, kind: str) -> str:
    """By its place: a query may name two columns alike."""
    quoted = '"' + name.replace('"', '""') + '"'
    return f"#{place}::{_CASTS[kind]} AS {quoted}" if kind in _CASTS else f"#{place}"


def _series(values: npt.NDArray[Any] | pd.Categorical[Any], kind: str, tz: str | tzinfo) -> pd.Series[Any]:
    """A column as DuckDB gives it: what is missing is masked; under the mask stands None, or zero where None cannot."""
    masked = np.ma.asarray(values)
    data, missing = masked.data, np.ma.getmaskarray(masked)
    if data.dtype.kind in "iu":
        return pd.Series(pd.arrays.IntegerArray(data.astype("uint64" if kind == "ubigint" else "int64"), missing))
    if kind == "boolean":
        return pd.Series(pd.arrays.BooleanArray(data.astype("bool"), missing))
    if kind == "varchar":
        return pd.Series(data, dtype="string")
    if kind == _EXACT:
        return pd.Series([None if text is None else Decimal(text) for text in data], dtype="object")
    if kind in ("decimal", "double", "float"):
        return pd.Series(np.where(missing, np.nan, data))
    if kind in ("date", "timestamp with time zone"):
        moments = pd.Series(np.where(missing, np.datetime64("NaT"), data).astype("datetime64[us]"))
        return moments if kind == "date" else moments.dt.tz_localize("UTC").dt.tz_convert(tz)
    return pd.Series(values)


def _dates(since: date | str | None, until: date | str | None) -> tuple[date | None, date | None]:
    first, last = _date(since), _date(until)
    if first and last and first > last:
        raise ValueError(f"since, {first}, is after until, {last}")
    return first, last


def _date(day: date | str | np.datetime64 | None) -> date | None:
    """A datetime stands for its date; for that of New York, if it has a zone."""
    moment = _moment(day)
    if isinstance(moment, datetime):
        return clock.trade_date(moment) if moment.tzinfo else moment.date()
    return moment


def _moment(day: object) -> date | None:
    match day:
        case str():
            with suppress(ValueError):
                return datetime.fromisoformat(day)
        case np.datetime64() if not np.isnat(day) and np.datetime_data(day.dtype)[0] not in ("Y", "M", "W"):
            return day.astype("datetime64[us]").astype(datetime)  # type: ignore[no-any-return]
        case date() if not pd.isna(day):
            return day
        case None:
            return None
    raise ValueError(f"{day!r} is no date; write it like 2026-11-20")


def _instant(ts: datetime | str) -> datetime:
    try:
        instant = datetime.fromisoformat(ts) if isinstance(ts, str) else ts
    except ValueError:
        instant = None
    if not isinstance(instant, datetime):
        raise ValueError(f"{ts!r} is no instant; write it like 2026-11-20T15:00-05:00")
    if instant.tzinfo is None:
        raise ValueError(f"{ts} has no zone; write it like 2026-11-20T15:00-05:00")
    return instant
