"""Every table of the warehouse, declared once: the DDL, the comments and the column schema in the UI come from here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tradier_pipeline.warehouse.sql import literal

SCHEMA_VERSION = 20
ADDS_ONLY_SINCE = 1  # versions from this one on have only added: a file of theirs is completed

VARCHAR, INTEGER, BIGINT, BOOLEAN, DATE = "VARCHAR", "INTEGER", "BIGINT", "BOOLEAN", "DATE"
DECIMAL, DOUBLE, INSTANT = "DECIMAL(24,8)", "DOUBLE", "TIMESTAMPTZ"
WORDS = "VARCHAR[]"
DATES = "DATE[]"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: name, DuckDB type, comment with the unit, and whether it is always filled."""

    name: str
    type: str
    comment: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its name, what one row is, and its columns."""

    name: str
    comment: str
    columns: tuple[Column, ...]

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True, slots=True)
class View:
    """A view: its name, what one row is, its columns (named and typed as the query gives them), and its query."""

    name: str
    comment: str
    columns: tuple[Column, ...]
    query: str


@dataclass(frozen=True, slots=True)
class Derived:
    """A table whose rows follow from those of other tables: what `query` gives, kept so that no reader computes it."""

    table: Table
    query: str


def _required(name: str, type_: str, comment: str) -> Column:
    return Column(name, type_, comment, required=True)


KEY_COLUMNS = (
    _required("snapshot_id", VARCHAR, "The snapshot this row belongs to: account number, @, instant"),
    _required("account_id", VARCHAR, "Account number"),
    _required("as_of", INSTANT, "When the first resource of the snapshot was read (UTC)"),
    _required("trade_date", DATE, "America/New_York date of as_of"),
)

KEY_NAMES = tuple(column.name for column in KEY_COLUMNS)
KEYS = ", ".join(KEY_NAMES)
MOMENT = "account_id, as_of, trade_date"  # names a snapshot as its id does, and joins faster than that text
UNDERLYING_OF_POSITION = "coalesce(underlying, root, symbol)"  # a root that is not known stands for itself

TRADIER_SNAPSHOTS = Table(
    "tradier_snapshots",
    "One row per snapshot. A row here proves that every table holds the whole snapshot.",
    (
        *KEY_COLUMNS,
        _required("as_of_end", INSTANT, "When the last resource had arrived (UTC)"),
        _required("requested_at", INSTANT, "The instant in the snapshot id: scheduled or requested (UTC)"),
        _required("environment", VARCHAR, "simulator, sandbox or live"),
        _required("trigger", VARCHAR, "Why the snapshot was taken, such as manual"),
        _required("positions_count", INTEGER, "Position rows the broker listed"),
        _required("orders_count", INTEGER, "Orders the broker listed, legs not counted"),
        _required("code_version", VARCHAR, "Version of tradier-pipeline that stored the rows"),
        _required("committed_at", INSTANT, "When the rows were last written (UTC); not part of what was observed"),
        Column("coherence", VARCHAR, "coherent, torn or unknown: whether all shows one state; null: was not judged"),
        Column("coherence_evidence", VARCHAR, "What that rests on"),
        Column(
            "verdict",
            VARCHAR,
            "good or doubtful: whether anything may be concluded from it. A doubtful one is in the history and "
            "left out of the mirror, as-of reads, day figures, curves, summaries and ledger until evidence confirms it",
        ),
        Column("verdict_evidence", VARCHAR, "What contradicts it, and what has confirmed it since; null: nothing"),
        Column(
            "clock_skew_s", DECIMAL, "This machine's clock less the broker's, in seconds; null: it reported no time"
        ),
    ),
)

# Behind a table: the rows of its good snapshots. Nothing is concluded from others, which are few: an anti join of them
# costs next to nothing. Within a publish, by the headers as they are:
GOOD = """ANTI JOIN (
        SELECT account_id, as_of FROM tradier_snapshots WHERE verdict = 'doubtful'
    ) USING (account_id, as_of)"""
# Of what is published, by what the publish has kept, so that nobody reads the headers of years; with `WHERE` at its end
GOOD_OF_DAY = """LEFT JOIN (
        SELECT account_id, as_of, trade_date, true AS is_doubtful FROM doubtful_snapshots
    ) USING (account_id, as_of, trade_date) WHERE is_doubtful IS NULL"""

ACCOUNTS = Table(
    "accounts",
    "One row per snapshot: the account as the user profile lists it.",
    (
        *KEY_COLUMNS,
        _required("status", VARCHAR, "active or closed"),
        _required("type", VARCHAR, "cash or margin; pattern day trader shows in account_balances.account_type"),
        Column("classification", VARCHAR, "Such as individual, traditional_ira; free text of the broker"),
        Column("option_level", INTEGER, "Option trading level"),
        Column("day_trader", BOOLEAN, "Whether the broker marks a pattern day trader"),
        Column("date_created", INSTANT, "When the account was opened (UTC)"),
        Column("last_update_date", INSTANT, "When the account data last changed (UTC)"),
    ),
)

ACCOUNT_BALANCES = Table(
    "account_balances",
    "One row per snapshot: the balances as the broker sent them, and the four mapped names.",
    (
        *KEY_COLUMNS,
        _required("account_type", VARCHAR, "margin, cash or pdt, as sent"),
        _required("cash", DECIMAL, "USD; = total_cash"),
        _required("buying_power", DECIMAL, "USD; = option_buying_power (margin, pdt) or cash_available (cash)"),
        _required("equity", DECIMAL, "USD; = total_equity (the broker's own deprecated equity field is not stored)"),
        _required("margin_requirement", DECIMAL, "USD; = current_requirement"),
        _required("total_equity", DECIMAL, "USD; total account value"),
        _required("total_cash", DECIMAL, "USD"),
        _required("market_value", DECIMAL, "USD; long plus short market value"),
        _required("long_market_value", DECIMAL, "USD"),
        _required("short_market_value", DECIMAL, "USD; negative when short"),
        _required("stock_long_value", DECIMAL, "USD"),
        _required("option_long_value", DECIMAL, "USD"),
        _required("option_short_value", DECIMAL, "USD; negative when short"),
        _required("open_pl", DECIMAL, "USD; unrealized profit or loss"),
        _required("close_pl", DECIMAL, "USD; realized profit or loss of the current session"),
        _required("current_requirement", DECIMAL, "USD; maintenance margin requirement"),
        _required("option_requirement", DECIMAL, "USD; requirement of the option positions"),
        _required("pending_cash", DECIMAL, "USD; reserved for working orders"),
        _required("pending_orders_count", INTEGER, "Working orders, as the broker counts them"),
        _required("uncleared_funds", DECIMAL, "USD"),
        Column("option_buying_power", DECIMAL, "USD; margin and pdt accounts"),
        Column("stock_buying_power", DECIMAL, "USD; margin and pdt accounts"),
        Column("day_trade_buying_power", DECIMAL, "USD; pdt accounts, when sent"),
        Column("fed_call", DECIMAL, "USD; margin and pdt accounts"),
        Column("maintenance_call", DECIMAL, "USD; margin and pdt accounts"),
        Column("stock_short_value", DECIMAL, "USD; margin and pdt accounts"),
        Column("sweep", DECIMAL, "USD; margin and cash accounts"),
        Column("cash_available", DECIMAL, "USD; settled cash to trade with; cash accounts"),
        Column("unsettled_funds", DECIMAL, "USD; cash accounts"),
    ),
)

POSITIONS = Table(
    "positions",
    "One row per position row of the broker, in its order, none left out.",
    (
        *KEY_COLUMNS,
        _required("row_no", INTEGER, "1-based place in the broker's list"),
        _required("position_id", BIGINT, "The broker's id of the position"),
        _required("symbol", VARCHAR, "Equity ticker or compact OCC option symbol"),
        _required("quantity", DECIMAL, "Shares or contracts; negative when short"),
        _required("asset_class", VARCHAR, "equity, option, adjusted_option or unparsed"),
        Column("root", VARCHAR, "Option root, such as SPXW"),
        Column("underlying", VARCHAR, "What the option is written on, such as SPX"),
        Column("expiration", DATE, "Option expiration date"),
        Column("option_type", VARCHAR, "call or put"),
        Column("strike", DECIMAL, "USD per share"),
        Column("multiplier", INTEGER, "Shares per contract; 1 for equities; null while unknown"),
        Column("side", VARCHAR, "long or short, the sign of the quantity; null when it is zero"),
        _required("cost_basis", DECIMAL, "USD, total, as sent; its sign is not reliable for short positions"),
        Column("cost_basis_per_contract", DECIMAL, "USD per share or contract, without sign"),
        _required("date_acquired", INSTANT, "Acquired or most recently updated (UTC)"),
        Column("bid", DECIMAL, "USD per share, from the quote of the snapshot"),
        Column("ask", DECIMAL, "USD per share, from the quote of the snapshot"),
        Column("last", DECIMAL, "USD per share, from the quote of the snapshot"),
        Column("mark", DECIMAL, "USD per share: middle of bid and ask, or last where one is missing"),
        Column("market_value", DECIMAL, "USD: quantity x mark x multiplier; negative when short"),
        Column("unrealized_pl", DECIMAL, "USD: market value less cost, signed for the holder"),
    ),
)

_ORDER_SHARED = (
    _required("class", VARCHAR, "equity, option, multileg, combo, oto, oco, otoco or unknown"),
    Column("type", VARCHAR, "market, limit, stop, stop_limit, debit, credit, even or unknown; null on an oco parent"),
    Column("symbol", VARCHAR, "Equity ticker, or the underlying of an option order"),
    Column("option_symbol", VARCHAR, "Compact OCC symbol of option orders and legs"),
    Column("side", VARCHAR, "buy, sell, sell_short, buy_to_cover, buy_to_open, ..., sell_to_close or unknown"),
    Column("quantity", DECIMAL, "Ordered shares or contracts; spreads on a multileg parent"),
    _required("status", VARCHAR, "One of the closed set; a word outside it is unknown"),
    Column("duration", VARCHAR, "day, gtc, pre, post or unknown"),
    _required("raw_status", VARCHAR, "The broker's own word for status"),
    _required("raw_class", VARCHAR, "The broker's own word for class"),
    Column("raw_type", VARCHAR, "The broker's own word for type"),
    Column("raw_side", VARCHAR, "The broker's own word for side"),
    Column("raw_duration", VARCHAR, "The broker's own word for duration"),
    Column("price", DECIMAL, "USD per share: limit, or net price of a debit or credit"),
    Column("stop_price", DECIMAL, "USD per share"),
    Column("avg_fill_price", DECIMAL, "USD per share; negative for a net credit"),
    Column("exec_quantity", DECIMAL, "Filled so far"),
    Column("last_fill_price", DECIMAL, "USD per share"),
    Column("last_fill_quantity", DECIMAL, "Shares, contracts or spreads"),
    Column("remaining_quantity", DECIMAL, "Still working; 0 on every finished order, filled or not"),
    Column("create_date", INSTANT, "When the order was created (UTC)"),
    Column("transaction_date", INSTANT, "When it last changed (UTC)"),
    Column("reason", VARCHAR, "Why the broker rejected it"),
)

ORDERS = Table(
    "orders",
    "One row per order: the broker's list of the current trading day, and working orders that left the list.",
    (
        *KEY_COLUMNS,
        _required("order_id", BIGINT, "The broker's order id"),
        _required("listed", BOOLEAN, "False: not in the list any more, read by its id because it had been working"),
        *_ORDER_SHARED,
        Column("num_legs", INTEGER, "Legs, as the broker counts them"),
        Column("strategy", VARCHAR, "Such as spread, condor, covered call; the broker's word"),
        Column("tag", VARCHAR, "The client's own id of the order"),
    ),
)

ORDER_LEGS = Table(
    "order_legs",
    "One row per leg of an order with legs.",
    (
        *KEY_COLUMNS,
        _required("order_id", BIGINT, "The broker's id of the parent order"),
        _required("leg_no", INTEGER, "1-based place among the legs"),
        _required("leg_id", BIGINT, "The broker's id of the leg"),
        *_ORDER_SHARED,
    ),
)

QUOTES = Table(
    "quotes",
    "One row per symbol that is held, or that a held option is written on, as the broker quoted it right after the "
    "snapshot; none when the quotes could not be read.",
    (
        *KEY_COLUMNS,
        _required("symbol", VARCHAR, "As in positions, or what an option is written on"),
        Column("type", VARCHAR, "stock, option, etf, index, ..."),
        Column("bid", DECIMAL, "USD per share"),
        Column("ask", DECIMAL, "USD per share"),
        Column("last", DECIMAL, "USD per share"),
        Column("close", DECIMAL, "USD per share; today's close once there is one"),
        Column("prevclose", DECIMAL, "USD per share; previous session's close"),
        Column("volume", DECIMAL, "Shares or contracts today"),
        Column("open_interest", DECIMAL, "Contracts"),
        Column("contract_size", INTEGER, "Shares per contract"),
        Column("underlying", VARCHAR, "What the option is written on"),
        Column("root_symbol", VARCHAR, "Option root"),
        Column("expiration_type", VARCHAR, "standard, weeklys, quarterlys, ..."),
        Column("bid_date", INSTANT, "When the bid was set (UTC)"),
        Column("ask_date", INSTANT, "When the ask was set (UTC)"),
        Column("last_date", INSTANT, "When the last trade happened (UTC)"),
        Column("delta", DOUBLE, "USD per USD of the underlying"),
        Column("gamma", DOUBLE, "Change of delta per USD"),
        Column("theta", DOUBLE, "USD per day"),
        Column("vega", DOUBLE, "USD per point of volatility"),
        Column("rho", DOUBLE, "USD per point of interest rate"),
        Column("mid_iv", DOUBLE, "Implied volatility, 1 = 100 %"),
    ),
)

UNDERLYING_PRICE = Column(
    "underlying_price", DECIMAL, "USD: middle of bid and ask, or last where one is missing; null without a quote"
)

SPREAD_PRICES = (
    Column("entry_price", DECIMAL, "USD per share; negative for a credit; null with shares in it"),
    Column("close_price", DECIMAL, "USD per share, by the marks: negative when closing it costs; null without"),
)
SPREAD_STRIKES = (
    Column("break_even_low", DECIMAL, "USD per share: the lowest price at expiration without profit or loss"),
    Column("break_even_high", DECIMAL, "USD per share: the highest one; null if there is one alone"),
    Column("short_strike", DECIMAL, "USD per share: of the short leg that the underlying is nearest to, or over"),
    Column("short_type", VARCHAR, "call or put: that leg"),
    Column("distance", DECIMAL, "USD per share that this leg is out of the money; negative: in the money"),
)
SPREAD_GREEKS = (
    Column("delta", DOUBLE, "Shares that it moves like; null if a leg has none"),
    Column("theta", DOUBLE, "USD per day; null if a leg has none"),
    Column("vega", DOUBLE, "USD per point of volatility; null if a leg has none"),
)
SPREAD_FIGURES = (UNDERLYING_PRICE, *SPREAD_PRICES, *SPREAD_STRIKES, *SPREAD_GREEKS)

OPTION_SPREADS = Table(
    "option_spreads",
    "One row per option spread: derived from positions and orders, every contract in exactly one of them.",
    (
        *KEY_COLUMNS,
        _required("spread_no", INTEGER, "1-based, by underlying, expiration and legs"),
        _required("underlying", VARCHAR, "What the options are written on; a root that is not known stands for itself"),
        _required(
            "strategy", VARCHAR, "Such as bull_put_credit, iron_condor, covered_call, naked_put, long_call, other"
        ),
        _required("side", VARCHAR, "credit or debit of verticals and iron ones, else long or short"),
        _required("source", VARCHAR, "order: a filled order joined the legs; inferred: their terms did"),
        Column("order_id", BIGINT, "The broker's id of that order"),
        _required("quantity", DECIMAL, "How many spreads"),
        Column("expiration", DATE, "The nearest of the legs' expirations"),
        Column("width", DECIMAL, "USD per share between long and short strike, the wider of two"),
        Column("cost", DECIMAL, "USD; positive when paid, negative when received; from the broker's average cost"),
        Column("market_value", DECIMAL, "USD; null if a leg has no quote"),
        Column("unrealized_pl", DECIMAL, "USD; null if a leg has no quote"),
        _required("has_payoff", BOOLEAN, "Whether the value at expiration is known: one root, one expiration"),
        Column("max_profit", DECIMAL, "USD at expiration; null with a payoff means unlimited"),
        Column("max_loss", DECIMAL, "USD at expiration, positive for a loss; null with a payoff means unlimited"),
        *SPREAD_FIGURES,
    ),
)

OPTION_SPREAD_LEGS = Table(
    "option_spread_legs",
    "One row per leg of an option spread: the part of a position that belongs to it.",
    (
        *KEY_COLUMNS,
        _required("spread_no", INTEGER, "The spread"),
        _required("leg_no", INTEGER, "1-based place among its legs"),
        _required("symbol", VARCHAR, "As in positions"),
        _required("asset_class", VARCHAR, "As in positions; equity for the shares of a covered call or collar"),
        Column("root", VARCHAR, "Option root"),
        Column("expiration", DATE, "Option expiration date"),
        Column("option_type", VARCHAR, "call or put"),
        Column("strike", DECIMAL, "USD per share"),
        Column("multiplier", INTEGER, "Shares per contract"),
        _required("quantity", DECIMAL, "Contracts or shares; negative when short"),
        _required("ratio", INTEGER, "Contracts or shares in one unit of the spread, without sign"),
        Column("cost", DECIMAL, "USD; positive when paid, negative when received"),
        Column("market_value", DECIMAL, "USD; negative when short"),
    ),
)

SHORT_OPTIONS = Table(
    "short_options",
    "One row per position in an option that was sold: derived from positions, quotes and balances, beside what its "
    "assignment is measured against.",
    (
        *KEY_COLUMNS,
        _required("row_no", INTEGER, "As in positions"),
        _required("symbol", VARCHAR, "As in positions"),
        _required("underlying", VARCHAR, "What it is written on; a root that is not known stands for itself"),
        _required("option_type", VARCHAR, "call or put"),
        Column("strike", DECIMAL, "USD per share"),
        Column("expiration", DATE, "When it expires"),
        _required("quantity", DECIMAL, "Contracts, negative"),
        Column("multiplier", INTEGER, "Shares per contract; null while unknown"),
        Column("mark", DECIMAL, "USD per share; null without a quote"),
        UNDERLYING_PRICE,
        Column("cash", DECIMAL, "USD: of the account, for all of its puts together"),
        Column("shares_held", DECIMAL, "Shares of the underlying that are held, for all of its calls together"),
    ),
)

CONSERVATION = Table(
    "conservation",
    "One row per item that changed since the last good snapshot - a symbol, or cash, which is always there - and why. "
    "change + carried = explained + unexplained. None for a doubtful snapshot, and for the first.",
    (
        *KEY_COLUMNS,
        _required("previous_snapshot_id", VARCHAR, "The last good snapshot, with which this one is compared"),
        _required("item", VARCHAR, "A symbol as in positions, or cash"),
        Column("change", DECIMAL, "Shares, contracts or USD: since that snapshot"),
        Column("carried", DECIMAL, "Shares, contracts or USD: what that snapshot had left in flight"),
        Column(
            "explained",
            DECIMAL,
            "Shares, contracts or USD: by fills, expiry, assignment, exercise or a corporate action",
        ),
        Column("unexplained", DECIMAL, "Shares, contracts or USD: what is left"),
        Column(
            "in_flight", DECIMAL, "Shares, contracts or USD: the part of unexplained that is open for the first time"
        ),
        Column(
            "fees_at_most",
            DECIMAL,
            "USD of cash that the fees of the fills may come to; they are posted the next morning",
        ),
        _required("state", VARCHAR, "explained, fees (all that is left may be), in_flight or unexplained"),
        _required("explanation", VARCHAR, "What explains it, and what may be behind the rest"),
    ),
)

RAW_PAYLOADS = Table(
    "raw_payloads",
    "One row per landed body: where every stored value came from.",
    (
        *KEY_COLUMNS,
        _required("resource", VARCHAR, "account, balances, positions, orders, order or quotes"),
        _required("page", INTEGER, "1-based page; of orders read by their ids, 1-based place"),
        _required("status", INTEGER, "HTTP status"),
        _required("attempts", INTEGER, "Requests it took"),
        _required("started_at", INSTANT, "Start of the request that succeeded (UTC)"),
        _required("ended_at", INSTANT, "End of that request (UTC)"),
        _required("bytes", BIGINT, "Length of the body"),
        _required("sha256", VARCHAR, "Of the body, hexadecimal"),
        _required("path", VARCHAR, "File under the landing zone"),
    ),
)

LIMIT = Column("max_open_positions", INTEGER, "TRADIER_MAX_OPEN_POSITIONS when the row was written; null: no limit")
MAX_AGE = "Seconds after which the snapshot is stale: TRADIER_MAX_AGE_SECONDS when the row was written"
OPENS = Column("session_open", INSTANT, "When the session of the trade date opens (UTC); null without a session")
CLOSES = Column("session_close", INSTANT, "When the session of the trade date closes (UTC); null without a session")

TRADE_GATE_READINGS = Table(
    "trade_gate_readings",
    "One row per snapshot: what the trade gate said of it when it was read. Derived, also from the settings and the "
    "calendar: a rebuild with others gives others. Whether to trade now says the view trade_gate.",
    (
        *KEY_COLUMNS,
        _required("ready", BOOLEAN, "Whether there was no blocker"),
        _required("blockers", WORDS, "Of session_closed, max_open_positions; empty when ready"),
        _required("open_positions", INTEGER, "Option spreads of the snapshot"),
        LIMIT,
        _required("max_age_s", INTEGER, MAX_AGE),
        OPENS,
        CLOSES,
    ),
)

ORDER_RECONCILIATION = Table(
    "order_reconciliation",
    "One row per order of the ledger or of the broker: how the two compare. Derived from the ledger, too.",
    (
        *KEY_COLUMNS,
        _required("match_state", VARCHAR, "matched, unmatched_ours, unmatched_external, missing_at_broker, ambiguous"),
        Column("matched_by", VARCHAR, "broker_id or tag; null unless matched"),
        Column("client_order_id", VARCHAR, "The engine's own id; null if the ledger does not have it"),
        Column("order_id", BIGINT, "The broker's order id"),
        Column("trade_id", VARCHAR, "The trade in the ledger"),
        Column("tag", VARCHAR, "The tag at the broker"),
        Column("suggested", VARCHAR, "Ids on the other side that look alike; a hint, never written"),
        Column(
            "ledger_status", VARCHAR, "PENDING, PLACED, PARTIAL, FILLED, CANCELLED, REJECTED, EXPIRED, ERROR, UNKNOWN"
        ),
        Column("broker_status", VARCHAR, "The broker's status in the ledger's words"),
        Column("raw_status", VARCHAR, "The broker's word"),
        Column("ledger_filled", DECIMAL, "Shares, contracts or spreads"),
        Column("broker_filled", DECIMAL, "Shares, contracts or spreads"),
        Column("ledger_price", DECIMAL, "USD per share, average fill; a credit is negative"),
        Column("broker_price", DECIMAL, "USD per share, average fill; a credit is negative; null until reported"),
        Column("differences", VARCHAR, "What the sides disagree on, or what is wrong; null if nothing"),
        Column("proposed", VARCHAR, "JSON, column -> new value for the ledger; null if nothing"),
    ),
)

TRADE_RECONCILIATION = Table(
    "trade_reconciliation",
    "One row per trade of the ledger that lives, ended today or since the last snapshot, or has something wrong: where "
    "it should stand. Derived from the ledger, too.",
    (
        *KEY_COLUMNS,
        _required("trade_id", VARCHAR, "The engine's own id"),
        _required("symbol", VARCHAR, "The underlying, or the equity"),
        _required("ledger_status", VARCHAR, "Where the ledger has it"),
        _required("status", VARCHAR, "Where it should stand"),
        _required("why", VARCHAR, "What that follows from"),
        _required("entered", DECIMAL, "Spreads, contracts or shares opened"),
        _required("exited", DECIMAL, "Spreads, contracts or shares closed by fills"),
        _required("claimed", VARCHAR, "JSON, contract -> signed quantity it ought to hold"),
        _required("allocated", VARCHAR, "JSON, contract -> signed quantity of the position that is its own"),
        Column("entry_price", DECIMAL, "USD per share: received for a credit trade, paid for a debit trade"),
        Column("entry_price_source", VARCHAR, "fills, or the ledger's word"),
        Column("exit_price", DECIMAL, "USD per share: paid for a credit trade, received for a debit trade"),
        Column("exit_price_source", VARCHAR, "fills, or the ledger's word; null: nobody knows"),
        Column("exit_reason", VARCHAR, "Such as PROFIT_TARGET, BROKER_ALREADY_FLAT, EXPIRED, ASSIGNED, EXERCISED"),
        Column("realized_pnl", DECIMAL, "USD, whole trade, multiplier included"),
        Column("opened_at", INSTANT, "UTC"),
        Column("closed_at", INSTANT, "UTC; of a trade without a closing fill, the latest it can have been"),
        Column("proposed", VARCHAR, "JSON, column -> new value for the ledger; null if nothing"),
        Column("strategy", VARCHAR, "Such as bull_put_credit; the ledger's word"),
        Column("legs", VARCHAR, "JSON, contract -> signed quantity of all that was opened"),
    ),
)

RECONCILIATION_FINDINGS = Table(
    "reconciliation_findings",
    "One row per thing about the ledger that people ought to know. Derived from the ledger, too.",
    (
        *KEY_COLUMNS,
        Column("trade_id", VARCHAR, "The trade it is about; null: the account"),
        _required("code", VARCHAR, "Such as legs_missing, exit_price_unknown, position_without_trade"),
        _required("severity", VARCHAR, "info, warn or error"),
        _required("text", VARCHAR, "In words"),
        Column("evidence", VARCHAR, "Orders, contracts and figures; null if there is none"),
    ),
)

RECONCILED = (ORDER_RECONCILIATION, TRADE_RECONCILIATION, RECONCILIATION_FINDINGS)
"""What follows from the ledger as it was then. No landed byte tells it: a rebuild keeps what the old file has."""

TABLES = (
    *(TRADIER_SNAPSHOTS, ACCOUNTS, ACCOUNT_BALANCES, POSITIONS, ORDERS, ORDER_LEGS, QUOTES, RAW_PAYLOADS),
    *(OPTION_SPREADS, OPTION_SPREAD_LEGS, TRADE_GATE_READINGS, CONSERVATION),  # derived: they never change the others
    *RECONCILED,
    SHORT_OPTIONS,  # last, and derived: a lake knows what it has of a snapshot by the places of the tables
)
"""The tables that hold the rows of each snapshot."""

MISSED_SNAPSHOTS = Table(
    "missed_snapshots",
    "One row per instant of an account that has no snapshot. An instant is either published or here.",
    (
        _required("snapshot_id", VARCHAR, "The snapshot there is not: account number, @, instant"),
        _required("account_id", VARCHAR, "Account number"),
        _required("trade_date", DATE, "America/New_York date of the instant"),
        _required("requested_at", INSTANT, "The instant: scheduled or requested (UTC)"),
        _required("kind", VARCHAR, "missed: never read; failed: the broker did not answer; refused: not published"),
        Column("trigger", VARCHAR, "The cycles that were due, or who asked; null if the record cannot be read"),
        _required("reason", VARCHAR, "Why there is no snapshot"),
        _required("missed_at", INSTANT, "The instant if it was never read, else when that had failed (UTC)"),
        _required("recorded_at", INSTANT, "When it was recorded; of a refused one, when all had arrived (UTC)"),
        _required("path", VARCHAR, "What tells of it under the landing zone"),
    ),
)

CHECK_RESULTS = Table(
    "check_results",
    "One row per snapshot and rule that it did not meet when it was last stored, published or refused. No row: the "
    "rule was met. Of snapshots stored before there was this table, a rebuild tells.",
    (
        *KEY_COLUMNS,
        _required("rule", VARCHAR, "The rule, as `tradier-pipeline verify` names it"),
        Column("number", INTEGER, "Its number among the 80 checks; null: it has none"),
        _required("claim", VARCHAR, "The claim that it belongs to: the asset check in the UI"),
        _required("severity", VARCHAR, "fatal: the snapshot was not published; warn: people ought to look"),
        _required("broker", VARCHAR, "The figure of the landed bytes, as a person reads it"),
        _required("stored", VARCHAR, "The figure that is stored, or that was expected"),
        _required("differing", INTEGER, "In how many places they differ"),
        _required(
            "differences",
            "STRUCT(place VARCHAR, broker VARCHAR, stored VARCHAR)[]",
            "The first 20 of those places: what is meant, and both values",
        ),
    ),
)

FINDINGS = Table(
    "findings",
    "One row per problem from when it was first seen until it was gone. One that comes back is a new row.",
    (
        _required("finding_id", VARCHAR, "What it is over time: account, code, subject"),
        _required("account_id", VARCHAR, "Account number"),
        _required("code", VARCHAR, "Such as legs_missing, order_ambiguous, change_unexplained, doubtful"),
        Column("subject", VARCHAR, "The trade, order or symbol that it is about; null: the account"),
        _required("severity", VARCHAR, "info, warn or error, when last seen; an open error blocks the trade gate"),
        _required("text", VARCHAR, "In words, when last seen"),
        Column("evidence", VARCHAR, "Orders, contracts and figures, when last seen; null if there is none"),
        _required("suggested_action", VARCHAR, "What to do about it"),
        _required("first_seen", INSTANT, "As-of of the first snapshot that showed it (UTC)"),
        _required("first_snapshot_id", VARCHAR, "That snapshot"),
        _required("last_seen", INSTANT, "As-of of the last snapshot that showed it (UTC)"),
        _required("last_snapshot_id", VARCHAR, "That snapshot"),
        _required("times_seen", INTEGER, "Snapshots that showed it"),
        Column("resolved_at", INSTANT, "As-of of the first good snapshot without it (UTC); null while it is open"),
    ),
)

SESSIONS = Table(
    "sessions",
    "One row per session of the exchange since the history began. A day without a row had none.",
    (
        _required("trade_date", DATE, "America/New_York date"),
        _required("session_open", INSTANT, "When it opened (UTC)"),
        _required(
            "session_close", INSTANT, "When it closed (UTC), early closes and TRADIER_CLOSE_EXTENSION_MINUTES in"
        ),
    ),
)

_ACCOUNT_ID = _required("account_id", VARCHAR, "Account number")

ACTIVITY_EXTRACTS = Table(
    "activity_extracts",
    "One row per read of what the broker tells over night: which dates of which resource it covers.",
    (
        _ACCOUNT_ID,
        _required("resource", VARCHAR, "history, gainloss or historical_balances"),
        _required("since", DATE, "First date that it covers"),
        _required("until", DATE, "Last date that it covers"),
        _required("read_at", INSTANT, "When its first page was asked for (UTC)"),
        _required("environment", VARCHAR, "simulator, sandbox or live"),
        _required("row_count", INTEGER, "Rows of the broker"),
        _required("page_count", INTEGER, "Pages, each a landed body"),
        _required("path", VARCHAR, "Its directory under the landing zone"),
        Column(
            "dates",
            DATES,
            "The dates from since to until that it speaks of; null: all. Of historical_balances those with a value, "
            "and those without one amid neighbours that have one: a value a week says nothing of the other days",
        ),
    ),
)

_READ = (
    _required("content_key", VARCHAR, "SHA-256 of what the broker sent of the row: it gives rows no id"),
    _required("ordinal", INTEGER, "1-based among rows of the date with the same content"),
    _required("first_read_at", INSTANT, "When it was read first (UTC)"),
    _required("last_read_at", INSTANT, "When it was read last (UTC)"),
    Column("retracted_at", INSTANT, "First read of its date that no longer had it (UTC); null: it counts"),
)

ACCOUNT_ACTIVITY = Table(
    "account_activity_versions",
    "One row per event of the account's history at the broker, with what the broker has taken back since: trades, "
    "deposits, dividends, fees. Reported over night; live accounts only. What counts now: account_activity.",
    (
        _ACCOUNT_ID,
        _required("trade_date", DATE, "The date that the broker gives; it tells no time of day"),
        _required(
            "type", VARCHAR, "trade, option, ach, wire, check, transfer, journal, dividend, interest, fee, tax, ..."
        ),
        _required("amount", DECIMAL, "USD that cash changed by"),
        Column("description", VARCHAR, "The broker's words"),
        Column("symbol", VARCHAR, "Equity ticker or compact OCC option symbol; of trades only"),
        Column("quantity", DECIMAL, "Shares or contracts; negative when sold"),
        Column("price", DECIMAL, "USD per share"),
        Column("commission", DECIMAL, "USD"),
        Column("trade_type", VARCHAR, "equity or option, in lower case"),
        Column("option_event", VARCHAR, "OPTEXP, OPTASN, OPTEXC, ...; the broker's word for what became of an option"),
        *_READ,
    ),
)

CLOSED_LOTS = Table(
    "closed_lots_versions",
    "One row per closed lot of the broker's gain and loss report, with what the broker has taken back or corrected "
    "since. Reported over night. What counts now: closed_lots.",
    (
        _ACCOUNT_ID,
        _required("close_date", DATE, "When it was closed; the broker tells no time of day"),
        _required("open_date", DATE, "When it was opened"),
        _required("symbol", VARCHAR, "Equity ticker or compact OCC option symbol"),
        Column("underlying", VARCHAR, "What the option is written on, or the equity; null for an unknown root"),
        _required("quantity", DECIMAL, "Shares or contracts; negative when it was short"),
        _required("cost", DECIMAL, "USD"),
        _required("proceeds", DECIMAL, "USD"),
        _required("gain_loss", DECIMAL, "USD; realized profit or loss"),
        Column("gain_loss_percent", DECIMAL, "Percent of the cost"),
        Column("term_days", INTEGER, "Days that it was held"),
        *_READ,
    ),
)

BROKER_DAILY_BALANCES = Table(
    "broker_daily_balances_versions",
    "One row per day and value: the account's value as the broker's own history has or had it. What counts now: "
    "broker_daily_balances.",
    (
        _ACCOUNT_ID,
        _required("trade_date", DATE, "The day"),
        _required("value", DECIMAL, "USD; total account value at the close"),
        *_READ,
    ),
)

STATED_FLOWS = Table(
    "stated_flows",
    "One row per flow that the owner states beside the broker's history, as the ledger has it: what came into an "
    "account or left it. `tradier-pipeline flows` changes them.",
    (
        _required("flow_id", BIGINT, "Its id in the ledger"),
        _ACCOUNT_ID,
        _required("trade_date", DATE, "New York date on which it came or left, as stated"),
        _required("kind", VARCHAR, "deposit or withdrawal"),
        _required("amount", DECIMAL, "USD, or what the securities were worth; negative for a withdrawal"),
        Column("symbol", VARCHAR, "Equity ticker or compact OCC option symbol; null for cash"),
        Column("quantity", DECIMAL, "Shares or contracts, without sign; null for cash"),
        Column("note", VARCHAR, "In words"),
        _required("stated_by", VARCHAR, "Who stated it"),
        _required("stated_at", INSTANT, "When it was stated (UTC)"),
    ),
)

DAILY_PRICES = Table(
    "daily_prices",
    "One row per environment, symbol and day: its price as the broker reports it, such as that of the benchmark which "
    "returns are compared with. What an earlier read had is replaced. Prices of different reads may differ by a split: "
    "previous_close is of the same read as close.",
    (
        _required("environment", VARCHAR, "simulator, sandbox or live: whose market it is"),
        _required("symbol", VARCHAR, "Equity ticker"),
        _required("trade_date", DATE, "The day"),
        Column("open", DECIMAL, "USD per share; null: not reported"),
        Column("high", DECIMAL, "USD per share; null: not reported"),
        Column("low", DECIMAL, "USD per share; null: not reported"),
        Column("close", DECIMAL, "USD per share, dividends not added; null: not reported, as of a day without a trade"),
        Column("volume", DECIMAL, "Shares; null: not reported"),
        Column("previous_date", DATE, "The day with a price before it in the same read; null: it is the first of it"),
        Column("previous_close", DECIMAL, "USD per share; the close of that day"),
        _required("read_at", INSTANT, "When it was read (UTC)"),
        _required("path", VARCHAR, "The extract, relative to the landing zone"),
    ),
)

DIVIDENDS = Table(
    "dividends",
    "One row per environment, symbol and dividend: when it goes ex-dividend and what it pays, as the newest read that "
    "has any tells it, from 400 days before that read on. Read once a day for each underlying of a short call; the "
    "sandbox has none.",
    (
        _required("environment", VARCHAR, "simulator or live: whose market it is"),
        _required("symbol", VARCHAR, "Equity ticker"),
        _required("ex_date", DATE, "The first day on which a buyer does not get it; it may be yet to come"),
        _required("ordinal", INTEGER, "1-based among those of the day"),
        Column("cash_amount", DECIMAL, "Per share, in the currency; null: not reported"),
        Column("currency", VARCHAR, "Such as USD; null: not reported"),
        Column("dividend_type", VARCHAR, "The broker's word: CD for cash"),
        Column("declaration_date", DATE, "When it was announced; null: not reported"),
        Column("record_date", DATE, "Who holds it then is paid; null: not reported"),
        Column("pay_date", DATE, "When it is paid; null: not reported"),
        Column("frequency", INTEGER, "How often a year; null: not reported"),
        _required("read_at", INSTANT, "When it was read (UTC)"),
        _required("path", VARCHAR, "The extract, relative to the landing zone"),
    ),
)

MARKET = (DAILY_PRICES, DIVIDENDS)
"""What is read of symbols, whoever holds them. Their rows belong to no account."""

ACTIVITY = (ACTIVITY_EXTRACTS, ACCOUNT_ACTIVITY, CLOSED_LOTS, BROKER_DAILY_BALANCES)
"""What the broker tells over night. Their rows belong to a date of an account, not to a snapshot."""


def _current(table: Table, comment: str) -> View:
    name = table.name.removesuffix(VERSIONS)
    return View(name, comment, table.columns, f"FROM {table.name} WHERE retracted_at IS NULL")


VERSIONS = "_versions"
CURRENT_ACTIVITY = (
    _current(
        ACCOUNT_ACTIVITY,
        "One row per event of the account's history at the broker as it stands now: trades, deposits, dividends, fees. "
        "Reported over night; live accounts only.",
    ),
    _current(
        CLOSED_LOTS,
        "One row per closed lot of the broker's gain and loss report as it stands now. A close may be several.",
    ),
    _current(BROKER_DAILY_BALANCES, "One row per day: the account's value as the broker's own history has it now."),
)
"""What holds now of the tables whose rows the broker may take back, under the names that people query."""

_TRADES_OF_DAY = (
    "STRUCT(id VARCHAR, symbol VARCHAR, strategy VARCHAR, status VARCHAR, quantity DECIMAL(24,8), "
    "entry_price DECIMAL(24,8), exit_price DECIMAL(24,8), exit_reason VARCHAR, realized_pnl DECIMAL(24,8), "
    "opened_at TIMESTAMP WITH TIME ZONE, closed_at TIMESTAMP WITH TIME ZONE)[]"
)
_COUNTS = "MAP(VARCHAR, INTEGER)"

DAILY_SUMMARIES = Table(
    "daily_summaries",
    "One row per account, trade date and revision: what the day came to, by what was stored of it alone. A revision "
    "never changes; where the day turns out otherwise, another one follows. Figures of trades are null if the ledger "
    "was not set beside any snapshot of the day.",
    (
        _ACCOUNT_ID,
        _required("trade_date", DATE, "America/New_York date"),
        _required("revision", INTEGER, "1-based"),
        _required("generated_at", INSTANT, "When this revision was made (UTC); not a figure"),
        _required("snapshot_id", VARCHAR, "The snapshot it is built from: the last good one of the date"),
        _required("as_of", INSTANT, "As-of of that snapshot (UTC)"),
        CLOSES,
        Column("after_close", BOOLEAN, "Whether that snapshot was read after the close; null without a session"),
        _required("snapshots", INTEGER, "Snapshots of the date"),
        _required("missed", INTEGER, "Instants of the date that were never read"),
        _required("failed", INTEGER, "Instants of the date that the broker did not answer"),
        _required("refused", INTEGER, "Snapshots of the date that were not published"),
        _required("equity", DECIMAL, "USD; of that snapshot: the close of the day"),
        _required("equity_open", DECIMAL, "USD; of the first good snapshot of the date"),
        _required("equity_high", DECIMAL, "USD; the highest of the good snapshots of the date"),
        _required("equity_low", DECIMAL, "USD; the lowest of the good snapshots of the date"),
        Column(
            "equity_change",
            DECIMAL,
            "USD; since the last good snapshot of an earlier date, deposits included; null if there is none",
        ),
        _required("cash", DECIMAL, "USD; of that snapshot"),
        _required("buying_power", DECIMAL, "USD; = option_buying_power (margin, pdt) or cash_available (cash)"),
        _required("close_pl", DECIMAL, "USD; realized profit or loss of the session as the broker has it"),
        _required("positions", INTEGER, "Position rows of that snapshot"),
        _required("open_spreads", INTEGER, "Option spreads of that snapshot"),
        _required("orders_placed", INTEGER, "Orders created on the date, by the broker's word as all of these"),
        _required("orders_filled", INTEGER, "Orders that became filled on the date"),
        _required("orders_canceled", INTEGER, "Orders that were canceled on the date"),
        _required("orders_rejected", INTEGER, "Orders that were rejected on the date"),
        _required("orders_expired", INTEGER, "Orders that expired on the date"),
        Column("trades_as_of", INSTANT, "As-of of the last good snapshot of the date that the ledger was set beside"),
        Column(
            "trades_since",
            INSTANT,
            "As-of of the last such snapshot of an earlier date: trades are opened and closed since it, so that each "
            "counts once, also one whose end is known over night; null if there is none: of the date",
        ),
        Column("trades_opened", INTEGER, "Trades of the ledger opened since"),
        Column("trades_closed", INTEGER, "Trades of the ledger that were found closed since"),
        Column("trades_open", INTEGER, "Trades of the ledger that are open"),
        Column(
            "realized_pnl",
            DECIMAL,
            "USD; of the closed trades whose profit or loss is known; null if it is of none of them",
        ),
        Column("realized_unknown", INTEGER, "Closed trades whose profit or loss nobody knows"),
        Column("exit_reasons", _COUNTS, "Exit reason -> closed trades"),
        Column("trades_by_strategy", _COUNTS, "Strategy -> trades opened, closed or open"),
        Column("opened_trades", _TRADES_OF_DAY, "The trades opened; prices in USD per share, profit in USD"),
        Column("closed_trades", _TRADES_OF_DAY, "The trades closed; prices in USD per share, profit in USD"),
        Column("open_trades", _TRADES_OF_DAY, "The trades that are open; prices in USD per share"),
        _required("content_key", VARCHAR, "SHA-256 of all figures: the same figures are the same revision"),
    ),
)

CHAIN_HEADS = Table(
    "chain_heads",
    "One row per hash chain of the landing zone and date on which it grew: where it stood at the last publish of the "
    "date. `tradier-pipeline audit` proves that the chain has come there, and that what was filed is as it was.",
    (
        _required("chain", VARCHAR, "The account number; _prices, _dividends: of what is read of symbols"),
        _required("trade_date", DATE, "America/New_York date of the publish"),
        _required("entries", BIGINT, "Lines of the chain"),
        _required("head", VARCHAR, "The hash of the last one: SHA-256, in hex"),
    ),
)

ALL_TABLES = (
    *(*TABLES, MISSED_SNAPSHOTS, CHECK_RESULTS, FINDINGS, SESSIONS, *ACTIVITY, STATED_FLOWS, *MARKET),
    *(DAILY_SUMMARIES, CHAIN_HEADS),
)


def ddl(table: Table, name: str | None = None) -> str:
    """CREATE TABLE, if it is not there, with NOT NULL where a column is required, and the comments.

    Args:
        name: under which it is created; None: its own.
    """
    name = name or table.name
    columns = ", ".join(
        f'"{column.name}" {column.type}{" NOT NULL" if column.required else ""}' for column in table.columns
    )
    return f"CREATE TABLE IF NOT EXISTS {name} ({columns}); {comments('TABLE', name, table.comment, table.columns)}"


def comments(kind: str, name: str, comment: str, columns: Sequence[Column]) -> str:
    """COMMENT ON a table or view, and on its columns."""
    of_columns = "".join(
        f'COMMENT ON COLUMN {name}."{column.name}" IS {literal(column.comment)}; ' for column in columns
    )
    return f"COMMENT ON {kind} {name} IS {literal(comment)}; {of_columns}"
