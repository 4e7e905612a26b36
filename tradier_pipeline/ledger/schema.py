"""The tables of the ledger, and what guards them whoever writes: constraints, defaults and triggers.

Trading engines in any language write by plain SQL, so nothing here relies on our code running.
Money, prices and quantities are exact decimal texts; instants are UTC texts such as 2026-11-20T14:31:00.000Z.
"""

# ruff: noqa: S608 - every part of these texts is a constant of this module
from __future__ import annotations

NOW = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
MINUTE_OPENED = "substr(coalesce(opened_at, created_at), 1, 16)"

# What an engine says about an order. A change of any of these asks for a snapshot.
ENGINE_COLUMNS = (
    *("account_id", "broker_order_id", "trade_id", "role", "status", "class", "order_type", "duration", "symbol"),
    *("legs", "quantity", "limit_price", "avg_fill_price", "filled_quantity", "remaining_quantity", "raw_status"),
    "reject_reason",
)


def _words(column: str, *words: str) -> str:
    return f"CONSTRAINT {column}_is_known CHECK ({column} IN ({', '.join(repr(word) for word in words)}))"


def _is_amount(value: str) -> str:
    """A plain decimal number that is not negative: digits and at most one point between them."""
    return (
        f"({value} NOT GLOB '*[^0-9.]*' AND {value} NOT GLOB '*.*.*'"
        f" AND {value} GLOB '[0-9]*' AND {value} GLOB '*[0-9]')"
    )


def _amount(column: str) -> str:
    return f"CONSTRAINT {column}_is_an_amount CHECK ({column} IS NULL OR {_is_amount(column)})"


def _decimal(column: str) -> str:
    """An amount, with a minus before it if need be."""
    number = f"substr({column}, 1 + ({column} GLOB '-*'))"
    return f"CONSTRAINT {column}_is_a_decimal CHECK ({column} IS NULL OR {_is_amount(number)})"


def _instant(column: str) -> str:
    # the modifier makes SQLite work the date out: 30 February becomes 2 March
    seconds = f"substr({column}, 1, 19)"  # without the fractions, which would be rounded up
    worked_out = f"strftime('%Y-%m-%dT%H:%M:%S', {seconds}, '+0 days') IS {seconds}"
    written = f"{column} GLOB '*Z' AND julianday({column}) IS NOT NULL AND {worked_out}"
    return f"CONSTRAINT {column}_is_an_instant CHECK ({column} IS NULL OR ({written}))"


SNAPSHOT = "CONSTRAINT snapshot_of_the_account CHECK (snapshot_id GLOB account_id || '@*Z')"
ACCOUNT = (
    "CONSTRAINT account_number CHECK (length(account_id) BETWEEN 1 AND 32 AND account_id NOT GLOB '*[^A-Za-z0-9]*')"
)
LEGS = "CONSTRAINT legs_are_a_list CHECK (json_valid(legs) AND json_type(legs) = 'array')"
ORDER_STATUSES = (
    *("PENDING", "PLACED", "PARTIAL", "FILLED"),
    *("CANCELLED", "REJECTED", "EXPIRED", "ERROR", "UNKNOWN"),
)
TRADE_STATUSES = (
    *("ENTRY_PENDING", "OPEN", "CLOSING_PENDING", "CLOSED", "CANCELLED"),
    *("EXIT_ERROR", "CLOSE_FAILED", "INVALID_STRUCTURE"),
)
ORDER_SIDES = (
    *("buy", "sell", "sell_short", "buy_to_cover"),
    *("buy_to_open", "buy_to_close", "sell_to_open", "sell_to_close"),
)


def _leg_triggers(table: str, *sides: str) -> str:
    """A CHECK cannot look into a list: these refuse a leg without symbol, side and quantity."""
    quantity = "json_extract(leg.value, '$.quantity')"
    refuse = f"""
        SELECT RAISE(ABORT, 'a leg of {table} needs option_symbol, side ({", ".join(sides)}) and quantity')
        FROM json_each(new.legs) AS leg
        WHERE leg.type <> 'object'
           OR json_type(leg.value, '$.option_symbol') IS NOT 'text'
           OR json_extract(leg.value, '$.side') IS NULL
           OR json_extract(leg.value, '$.side') NOT IN ({", ".join(repr(side) for side in sides)})
           OR {quantity} IS NULL OR NOT {_is_amount(quantity)};
    """
    return f"""
    CREATE TRIGGER {table}_legs_inserted BEFORE INSERT ON {table} WHEN json_valid(new.legs)
    BEGIN {refuse} END;
    CREATE TRIGGER {table}_legs_updated BEFORE UPDATE OF legs ON {table} WHEN json_valid(new.legs)
    BEGIN {refuse} END;
    """


def _touch_trigger(table: str, key: str) -> str:
    """Keeps updated_at when the writer does not. The last condition ends it where triggers may recurse."""
    return f"""
    CREATE TRIGGER {table}_touched AFTER UPDATE ON {table}
    WHEN new.updated_at IS old.updated_at AND new.updated_at IS NOT {NOW}
    BEGIN
        UPDATE {table} SET updated_at = {NOW} WHERE {key} = new.{key};
    END;
    """


_ASK = """
    INSERT INTO snapshot_requests (account_id, reason, order_id)
    SELECT new.account_id, 'order_placed', new.client_order_id
    WHERE NOT EXISTS (
        SELECT 1 FROM snapshot_requests
        WHERE snapshot_id IS NULL AND account_id = new.account_id
          AND reason = 'order_placed' AND order_id = new.client_order_id
    );
"""

_VERSION_1 = f"""
CREATE TABLE snapshot_requests ( -- the inbox: who wants a snapshot and why, and which snapshot it was
    request_id INTEGER PRIMARY KEY AUTOINCREMENT, -- in the order of arrival, never used twice
    account_id TEXT NOT NULL {ACCOUNT}, -- account number
    reason TEXT NOT NULL -- order_placed (after an entry), position_flat (after an exit), manual or debug
        {_words("reason", "order_placed", "position_flat", "manual", "debug")},
    order_id TEXT, -- the order or trade that it is about: orders.client_order_id or trades.trade_id
    note TEXT, -- in words
    requested_at TEXT NOT NULL DEFAULT ({NOW}) {_instant("requested_at")}, -- when it was written (UTC)
    snapshot_id TEXT {SNAPSHOT}, -- the snapshot that answers it; null while it waits
    claimed_at TEXT {_instant("claimed_at")}, -- when that snapshot took it on, before its first fetch (UTC)
    CONSTRAINT claimed_with_its_instant CHECK ((snapshot_id IS NULL) = (claimed_at IS NULL))
) STRICT;
CREATE INDEX waiting_requests ON snapshot_requests (account_id) WHERE snapshot_id IS NULL;
CREATE TRIGGER snapshot_requests_claimed_once BEFORE UPDATE ON snapshot_requests WHEN old.snapshot_id IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'a snapshot has answered this request; write a new one');
END;

CREATE TABLE orders ( -- an order as the trading engine believes it to be
    client_order_id TEXT PRIMARY KEY NOT NULL -- the engine's own id; sent to the broker as its tag
        CONSTRAINT client_order_id_is_a_tag
        CHECK (length(client_order_id) BETWEEN 1 AND 255 AND client_order_id NOT GLOB '*[^A-Za-z0-9-]*'),
    account_id TEXT NOT NULL {ACCOUNT}, -- account number
    broker_order_id INTEGER CHECK (broker_order_id > 0), -- the broker's id; null until it has answered
    trade_id TEXT, -- trades.trade_id; null for an order of no trade. The order may be written first
    role TEXT NOT NULL {_words("role", "ENTRY", "EXIT")}, -- whether it opens or closes its trade
    status TEXT NOT NULL DEFAULT 'PENDING' -- PENDING: not known to be at the broker; PLACED: works there
        {_words("status", *ORDER_STATUSES)},
    class TEXT {_words("class", "equity", "option", "multileg", "combo")}, -- the broker's word
    order_type TEXT -- the broker's word
        {_words("order_type", "market", "limit", "stop", "stop_limit", "debit", "credit", "even")},
    duration TEXT {_words("duration", "day", "gtc", "pre", "post")}, -- the broker's word
    symbol TEXT, -- the underlying, or the equity
    legs TEXT NOT NULL DEFAULT '[]' {LEGS}, -- list of objects: option_symbol, side (buy_to_open, ...), quantity
    quantity TEXT {_amount("quantity")}, -- ordered shares, contracts or spreads
    limit_price TEXT {_decimal("limit_price")}, -- USD per share, without sign for debits and credits alike
    avg_fill_price TEXT {_decimal("avg_fill_price")}, -- USD per share, as the broker says: a credit is negative
    filled_quantity TEXT {_amount("filled_quantity")}, -- shares, contracts or spreads
    remaining_quantity TEXT {_amount("remaining_quantity")}, -- shares, contracts or spreads
    raw_status TEXT, -- the broker's word for the status
    reject_reason TEXT, -- the broker's words
    snapshot_id TEXT {SNAPSHOT}, -- whose facts last changed the row; null: the engine's
    created_at TEXT NOT NULL DEFAULT ({NOW}) {_instant("created_at")}, -- UTC
    updated_at TEXT NOT NULL DEFAULT ({NOW}) {_instant("updated_at")} -- UTC; kept by a trigger
) STRICT;
CREATE UNIQUE INDEX broker_orders ON orders (account_id, broker_order_id) WHERE broker_order_id IS NOT NULL;
CREATE INDEX orders_of_trades ON orders (trade_id);
{_touch_trigger("orders", "client_order_id")}
{_leg_triggers("orders", *ORDER_SIDES)}
CREATE TRIGGER orders_inserted AFTER INSERT ON orders WHEN new.snapshot_id IS NULL -- not what is imported
BEGIN {_ASK} END;
CREATE TRIGGER orders_updated AFTER UPDATE ON orders
WHEN (new.snapshot_id IS NULL OR new.snapshot_id IS old.snapshot_id) -- not what a snapshot has just reported us
 AND ({", ".join(f"new.{column}" for column in ENGINE_COLUMNS)})
     IS NOT ({", ".join(f"old.{column}" for column in ENGINE_COLUMNS)})
BEGIN {_ASK} END;

CREATE TABLE trades ( -- a trade as the trading engine believes it to be: what it opened, holds, or has closed
    trade_id TEXT PRIMARY KEY NOT NULL CHECK (trade_id <> ''), -- the engine's own id
    account_id TEXT NOT NULL {ACCOUNT}, -- account number
    symbol TEXT NOT NULL, -- the underlying, or the equity
    expiration TEXT CHECK (expiration IS date(expiration, '+0 days')), -- YYYY-MM-DD; null if there is not just one
    strategy TEXT, -- such as bull_put_credit
    short_strike TEXT {_amount("short_strike")}, -- USD per share
    long_strike TEXT {_amount("long_strike")}, -- USD per share
    width TEXT {_amount("width")}, -- USD per share, between the strikes
    legs TEXT NOT NULL DEFAULT '[]' {LEGS}, -- list of objects: option_symbol, side (long, short), quantity
    quantity TEXT NOT NULL {_amount("quantity")}, -- spreads, contracts or shares
    multiplier INTEGER NOT NULL DEFAULT 100 CHECK (multiplier > 0), -- shares per contract; 1 for equities
    status TEXT NOT NULL -- where it stands
        {_words("status", *TRADE_STATUSES)},
    entry_price TEXT {_decimal("entry_price")}, -- USD per share, net
    entry_price_source TEXT, -- where that figure comes from
    exit_price TEXT {_decimal("exit_price")}, -- USD per share, net
    exit_price_source TEXT, -- where that figure comes from
    exit_reason TEXT, -- why it was closed, such as PROFIT_TARGET
    broker_order_id_open INTEGER CHECK (broker_order_id_open > 0), -- the broker's id of the opening order
    broker_order_id_close INTEGER CHECK (broker_order_id_close > 0), -- the broker's id of the closing order
    opened_at TEXT {_instant("opened_at")}, -- UTC
    closed_at TEXT {_instant("closed_at")}, -- UTC
    realized_pnl TEXT {_decimal("realized_pnl")}, -- USD, whole trade, multiplier included
    max_profit TEXT {_decimal("max_profit")}, -- USD, whole trade, multiplier included
    max_loss TEXT {_decimal("max_loss")}, -- USD, whole trade, multiplier included
    iv_entry TEXT {_amount("iv_entry")}, -- implied volatility at the entry; 0.25 is 25 %
    max_seen_profit_fraction TEXT {_decimal("max_seen_profit_fraction")}, -- of max_profit; 0.5 is half of it
    origin TEXT, -- who opened it, such as ENGINE or MANUAL
    managed INTEGER NOT NULL DEFAULT 1 CHECK (managed IN (0, 1)), -- 1: the engine manages its exit
    snapshot_id TEXT {SNAPSHOT}, -- whose facts last changed the row; null: the engine's
    created_at TEXT NOT NULL DEFAULT ({NOW}) {_instant("created_at")}, -- UTC
    updated_at TEXT NOT NULL DEFAULT ({NOW}) {_instant("updated_at")} -- UTC; kept by a trigger
) STRICT;
CREATE INDEX trades_by_status ON trades (status);
{_touch_trigger("trades", "trade_id")}
{_leg_triggers("trades", "long", "short")}
"""

_VERSION_2 = f"""
CREATE TABLE ledger_changes ( -- the audit: what a snapshot's facts changed in this ledger, and why
    change_id INTEGER PRIMARY KEY AUTOINCREMENT, -- in the order of writing, never used twice
    snapshot_id TEXT NOT NULL CHECK (snapshot_id GLOB '?*@*Z'), -- whose facts they were
    table_name TEXT NOT NULL {_words("table_name", "orders", "trades")},
    row_key TEXT NOT NULL, -- client_order_id or trade_id
    before TEXT NOT NULL CHECK (json_valid(before) AND json_type(before) = 'object'), -- column -> value it had
    after TEXT NOT NULL CHECK (json_valid(after) AND json_type(after) = 'object'), -- column -> value it got
    why TEXT NOT NULL CHECK (why <> ''), -- in words
    applied_at TEXT NOT NULL DEFAULT ({NOW}) {_instant("applied_at")} -- UTC
) STRICT;
CREATE INDEX changes_of_rows ON ledger_changes (table_name, row_key);
CREATE TRIGGER ledger_changes_stay BEFORE UPDATE ON ledger_changes
BEGIN SELECT RAISE(ABORT, 'what was written to the audit stays'); END;
CREATE TRIGGER ledger_changes_are_kept BEFORE DELETE ON ledger_changes
BEGIN SELECT RAISE(ABORT, 'what was written to the audit stays'); END;
"""

# what a snapshot asks for, so that it takes as long after years as on the first day; see relevant.py
_VERSION_3 = f"""
CREATE INDEX orders_by_status ON orders (account_id, status);
CREATE INDEX orders_by_creation ON orders (account_id, created_at);
CREATE INDEX orders_by_update ON orders (account_id, updated_at);
CREATE INDEX trades_by_account ON trades (account_id, status);
CREATE INDEX trades_by_update ON trades (account_id, updated_at);
CREATE INDEX trades_by_minute ON trades (account_id, {MINUTE_OPENED});
CREATE INDEX opening_orders ON trades (account_id, broker_order_id_open) WHERE broker_order_id_open IS NOT NULL;
CREATE INDEX closing_orders ON trades (account_id, broker_order_id_close) WHERE broker_order_id_close IS NOT NULL;
"""

# what the owner states of flows that the broker's history does not tell, or does not tell the worth of
_VERSION_4 = f"""
CREATE TABLE stated_flows ( -- what came into an account or left it, as its owner states
    flow_id INTEGER PRIMARY KEY AUTOINCREMENT, -- in the order of stating, never used twice
    account_id TEXT NOT NULL {ACCOUNT}, -- account number
    trade_date TEXT NOT NULL CHECK (trade_date IS date(trade_date, '+0 days')), -- YYYY-MM-DD, New York
    kind TEXT NOT NULL {_words("kind", "deposit", "withdrawal")},
    amount TEXT NOT NULL {_decimal("amount")}, -- USD, or what the securities were worth; a withdrawal is negative
    symbol TEXT, -- equity ticker or compact OCC option symbol; null for cash
    quantity TEXT {_amount("quantity")}, -- shares or contracts, without sign; null for cash
    note TEXT, -- in words
    stated_by TEXT NOT NULL CHECK (stated_by <> ''), -- who
    stated_at TEXT NOT NULL DEFAULT ({NOW}) {_instant("stated_at")}, -- UTC
    removed_by TEXT, -- who took it back; null: it stands
    removed_at TEXT {_instant("removed_at")}, -- UTC
    CONSTRAINT sign_of_the_kind CHECK ((kind = 'withdrawal') OR amount NOT GLOB '-*'),
    CONSTRAINT securities_have_both CHECK ((symbol IS NULL) = (quantity IS NULL)),
    CONSTRAINT removed_with_its_instant CHECK ((removed_by IS NULL) = (removed_at IS NULL))
) STRICT;
CREATE TRIGGER stated_flows_are_kept BEFORE DELETE ON stated_flows
BEGIN SELECT RAISE(ABORT, 'what was stated stays; take it back instead'); END;
"""

# what brings a ledger from one version to the next; a version that was released never changes
MIGRATIONS = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4)
VERSION = len(MIGRATIONS)
