-- Run by year.py, which gives the sessions in the temporary table `days` (number d from 0) and three variables:
-- `account`, whether it has a `ledger`, and how many `minutes` are between two snapshots. Temporary tables say what
-- happened; then each table of the warehouse is filled in the order of the snapshots, as the pipeline would have
-- appended to it.

-- 0 to k - 1, always the same for the same arguments
CREATE OR REPLACE TEMP MACRO noise(a, b, k) AS (hash(a, b) % k)::INTEGER;

-- `fate`: what became of an instant that has no snapshot
CREATE OR REPLACE TEMP TABLE instants AS
SELECT account_id, account_id || '@' || strftime(requested_at, '%Y-%m-%dT%H:%M:%SZ') AS snapshot_id, trade_date,
       requested_at, n, d, m, session_open, session_close, m BETWEEN 0 AND length - 1 AS in_session,
       requested_at + to_milliseconds(800 + noise(n, 'late', 1400)) AS as_of,
       CASE WHEN NOT in_session THEN 'account_sync' WHEN m % 15 = 0 THEN 'monitor_cycle,trade_cycle'
            ELSE 'monitor_cycle' END AS trigger,
       CASE WHEN d % 100 = 3 OR (d % 50 = 7 AND m BETWEEN 100 AND 130) THEN 'missed'
            WHEN noise(n, 'fate', 300) = 0 THEN ['missed', 'failed', 'refused'][1 + noise(n, 'kind', 3)] END AS fate,
       CASE WHEN noise(n, 'torn', 100) = 0 THEN 'torn' ELSE 'coherent' END AS coherence
FROM (SELECT *, getvariable('account') AS account_id, session_open + to_minutes(m) AS requested_at,
             row_number() OVER (ORDER BY d, m) AS n
      FROM (SELECT *, unnest(range(-90, length + 16)) AS m
            FROM (SELECT *, date_diff('minute', session_open, session_close) AS length FROM days))
      WHERE m = -90 OR (m BETWEEN 0 AND length - 1 AND m % getvariable('minutes') = 0) OR m = length + 15);

CREATE OR REPLACE TEMP TABLE taken AS SELECT * EXCLUDE fate FROM instants WHERE fate IS NULL ORDER BY n;

-- one put spread for each day: how many, and when its two orders were placed and filled
CREATE OR REPLACE TEMP TABLE trades AS
SELECT opened.d AS t, opened.d, coalesce(closed.d, 1000000) AS closed_d, 1 + opened.d % 3 AS quantity,
       opened.trade_date + 30 AS expiration, 560 + 5 * (opened.d % 20) AS strike,
       opened.session_open + INTERVAL 30 MINUTE AS placed_at,
       opened.session_open + INTERVAL 31 MINUTE AS partial_at,
       opened.session_open + INTERVAL 33 MINUTE AS filled_at,
       closed.session_open + INTERVAL 60 MINUTE AS closing_at,
       coalesce(closed.session_open + INTERVAL 64 MINUTE, 'infinity'::TIMESTAMPTZ) AS closed_at,
       (quantity * (noise(opened.d, 'made', 160) - 50))::DECIMAL(24, 8) AS realized_pnl
FROM days AS opened LEFT JOIN days AS closed ON closed.d = opened.d + 3;

CREATE OR REPLACE TEMP TABLE legs AS
SELECT t, leg_no, leg_strike AS strike, expiration, sign,
       'SPY' || strftime(expiration, '%y%m%d') || 'P' || lpad((leg_strike * 1000)::VARCHAR, 8, '0') AS symbol
FROM (SELECT t, expiration, unnest([1, 2]) AS leg_no, unnest([strike, strike - 3]) AS leg_strike,
             unnest([-1, 1]) AS sign
      FROM trades);

-- ten orders a day
CREATE OR REPLACE TEMP TABLE placed AS
SELECT 228000 + 10 * d AS order_id, d, d AS last_d, t, 'entry' AS kind, placed_at,
       CASE WHEN quantity > 1 THEN partial_at ELSE filled_at END AS partial_at, filled_at AS done_at,
       'filled' AS ends, quantity, -1.20 AS price
FROM trades
UNION ALL BY NAME
SELECT 228001 + 10 * closed_d AS order_id, closed_d AS d, closed_d AS last_d, t, 'exit' AS kind,
       closing_at AS placed_at, closed_at AS partial_at, closed_at AS done_at, 'filled' AS ends, quantity,
       0.80 AS price
FROM trades WHERE closed_d < 1000000
UNION ALL BY NAME
SELECT 228002 + 10 * d + k AS order_id, d, d AS last_d, CASE WHEN k = 4 THEN 'sell' ELSE 'buy' END AS kind,
       session_open + to_minutes(20 + 25 * k) AS placed_at, session_open + to_minutes(38 + 25 * k) AS partial_at,
       partial_at AS done_at,
       ['canceled', 'filled', 'expired', 'rejected', 'filled', 'canceled', 'expired'][k + 1] AS ends,
       10 AS quantity, 12.30 AS price
FROM days, range(7) AS _(k)
UNION ALL BY NAME
SELECT 228009 + 10 * placed.d AS order_id, placed.d, ended.d AS last_d, 'rest' AS kind,
       placed.session_open + INTERVAL 15 MINUTE AS placed_at, ended.session_open + INTERVAL 50 MINUTE AS done_at,
       done_at AS partial_at, 'canceled' AS ends, 10 AS quantity, 9.10 AS price
FROM days AS placed JOIN days AS ended ON ended.d = placed.d + 4 WHERE placed.d % 5 = 0;

-- listed on the day they were placed; one that rests longer is read by its id until that has reported its end
CREATE OR REPLACE TEMP TABLE shown AS
SELECT taken.*, order_id, t, kind, quantity, price, placed_at, taken.d = placed.d AS listed,
       CASE WHEN as_of >= done_at THEN ends WHEN as_of >= partial_at THEN 'partially_filled' ELSE 'open' END AS status,
       CASE WHEN ends <> 'filled' THEN 0 WHEN as_of >= done_at THEN quantity WHEN as_of >= partial_at THEN 1 ELSE 0 END
           AS exec_quantity,
       CASE WHEN as_of >= done_at THEN done_at WHEN as_of >= partial_at THEN partial_at ELSE placed_at END AS changed_at
FROM taken JOIN (SELECT *, unnest(range(d, last_d + 1)) AS shown_d FROM placed) AS placed ON taken.d = shown_d
WHERE as_of >= placed_at AND (taken.d = placed.d OR as_of < done_at + INTERVAL 1 MINUTE)
ORDER BY n, order_id;

-- what was held from when to when; `t` joins what is one spread
CREATE OR REPLACE TEMP TABLE holdings AS
SELECT symbol, t, d, closed_d, sign * held AS quantity, from_at, until_at, legs.strike, legs.expiration, 1.10 AS base
FROM (SELECT t, d, closed_d, 1 AS held, partial_at AS from_at, filled_at AS until_at FROM trades WHERE quantity > 1
      UNION ALL SELECT t, d, closed_d, quantity, filled_at, closed_at FROM trades) JOIN legs USING (t)
UNION ALL BY NAME
SELECT *, 0 AS d, 1000000 AS closed_d, '-infinity'::TIMESTAMPTZ AS from_at,
       'infinity'::TIMESTAMPTZ AS until_at
FROM (VALUES ('AAPL', -1, 100, NULL, NULL, 230.00), ('SPY', NULL, 50, NULL, NULL, 590.00),
             ('AAPL271217C00300000', -1, -1, 300, DATE '2027-12-17', 14.00))
    AS _(symbol, t, quantity, strike, expiration, base)
UNION ALL BY NAME
SELECT 'F' AS symbol, d, d AS closed_d, 10 AS quantity, session_open + INTERVAL 63 MINUTE AS from_at,
       session_open + INTERVAL 138 MINUTE AS until_at, 12.30 AS base
FROM days;

-- one price for the position and for its quote; `quoted`: the quotes were read
CREATE OR REPLACE TEMP TABLE held AS
SELECT taken.*, symbol, t, quantity, strike, expiration, base, from_at,
       (base + (noise(d, symbol, 100) + noise(n, symbol, 30)) / 100)::DECIMAL(24, 8) AS price,
       noise(n, 'quotes', 97) > 0 AS quoted, row_number() OVER (PARTITION BY n ORDER BY symbol) AS row_no,
       strike IS NOT NULL AS is_option, CASE WHEN is_option THEN 100 ELSE 1 END AS multiplier,
       (abs(quantity) * base * multiplier)::DECIMAL(24, 8) AS cost_basis,
       (quantity * price * multiplier)::DECIMAL(24, 8) AS worth,
       CASE WHEN is_option AND t = -1 THEN 'AAPL' WHEN is_option THEN 'SPY' END AS underlying
FROM taken JOIN (SELECT * EXCLUDE d, unnest(range(d, least(closed_d, last_d) + 1)) AS d
                 FROM holdings, (SELECT max(d) AS last_d FROM days)) AS holdings USING (d)
WHERE from_at <= as_of AND as_of < until_at
ORDER BY n, row_no;

CREATE OR REPLACE TEMP TABLE spreads AS
SELECT *, row_number() OVER (PARTITION BY n ORDER BY underlying, expiration, t) AS spread_no
FROM (SELECT n, t, max(underlying) AS underlying, max(expiration) AS expiration,
             max(abs(quantity)) FILTER (is_option) AS quantity, sum(sign(quantity) * cost_basis) AS cost,
             sum(worth) AS worth, bool_and(quoted) AS quoted
      FROM held WHERE t IS NOT NULL GROUP BY n, t);

-- what every snapshot fills -------------------------------------------------------------------------------------------

INSERT INTO tradier_snapshots BY NAME
SELECT snapshot_id, account_id, as_of, trade_date, as_of + INTERVAL 400 MILLISECOND AS as_of_end, requested_at,
       'simulator' AS environment, trigger, coalesce(positions, 0) AS positions_count,
       coalesce(orders, 0) AS orders_count, '0.1.0' AS code_version, as_of + INTERVAL 900 MILLISECOND AS committed_at,
       coherence, 'nothing changed' AS coherence_evidence,
       CASE coherence WHEN 'torn' THEN 'doubtful' ELSE 'good' END AS verdict, NULL::VARCHAR AS verdict_evidence
FROM taken LEFT JOIN (SELECT n, count(*) AS positions FROM held GROUP BY n) USING (n)
LEFT JOIN (SELECT n, count(*) AS orders FROM shown WHERE listed GROUP BY n) USING (n) ORDER BY n;

INSERT INTO accounts BY NAME
SELECT snapshot_id, account_id, as_of, trade_date, 'active' AS status, 'margin' AS type,
       'individual' AS classification, 6 AS option_level, false AS day_trader,
       TIMESTAMPTZ '2016-08-01 21:08:55+00' AS date_created
FROM taken ORDER BY n;

INSERT INTO account_balances BY NAME
SELECT snapshot_id, account_id, as_of, trade_date, 'margin' AS account_type, total_cash AS cash,
       2 * total_cash AS buying_power, total_equity AS equity, requirement AS margin_requirement, total_equity,
       total_cash, market_value, long_value AS long_market_value, market_value - long_value AS short_market_value,
       stock_value AS stock_long_value, long_value - stock_value AS option_long_value,
       market_value - long_value AS option_short_value, market_value - 50000 AS open_pl, close_pl,
       requirement AS current_requirement, requirement AS option_requirement, 0 AS pending_cash,
       coalesce(working, 0) AS pending_orders_count, 0 AS uncleared_funds, 2 * total_cash AS option_buying_power,
       4 * total_cash AS stock_buying_power, 0 AS fed_call, 0 AS maintenance_call, 0 AS stock_short_value, 0 AS sweep
FROM (SELECT taken.*, coalesce(realized_pnl, 0) AS close_pl, 50000 + 5000 * (taken.d // 21) + 30 * taken.d + close_pl
                 AS total_cash,
             total_cash + market_value AS total_equity, 3000 + 300 * (taken.d % 3) AS requirement, market_value,
             long_value, stock_value
      FROM taken
      JOIN (SELECT n, sum(worth) AS market_value, sum(worth) FILTER (worth > 0) AS long_value,
                   sum(worth) FILTER (NOT is_option) AS stock_value FROM held GROUP BY n) USING (n)
      LEFT JOIN trades ON taken.d = closed_d AND as_of >= closed_at)
LEFT JOIN (SELECT n, count(*) AS working FROM shown WHERE status IN ('open', 'partially_filled') GROUP BY n) USING (n)
ORDER BY n;

INSERT INTO positions BY NAME
SELECT snapshot_id, account_id, as_of, trade_date, row_no, 130000 + noise(symbol, 'id', 100000) AS position_id, symbol,
       quantity, CASE WHEN is_option THEN 'option' ELSE 'equity' END AS asset_class, underlying AS root, underlying,
       expiration, CASE WHEN is_option AND t = -1 THEN 'call' WHEN is_option THEN 'put' END AS option_type, strike,
       multiplier, CASE WHEN quantity > 0 THEN 'long' ELSE 'short' END AS side, cost_basis,
       base * multiplier AS cost_basis_per_contract,
       greatest(from_at, TIMESTAMPTZ '2024-08-08 14:41:11.405+00') AS date_acquired,
       CASE WHEN quoted THEN price - 0.05 END AS bid, CASE WHEN quoted THEN price + 0.05 END AS ask,
       CASE WHEN quoted THEN price END AS last, CASE WHEN quoted THEN price END AS mark,
       CASE WHEN quoted THEN worth END AS market_value,
       CASE WHEN quoted THEN worth - sign(quantity) * cost_basis END AS unrealized_pl
FROM held ORDER BY n, row_no;

-- the broker's greeks change once an hour
INSERT INTO quotes BY NAME
SELECT snapshot_id, account_id, as_of, trade_date, symbol, CASE WHEN is_option THEN 'option' ELSE 'stock' END AS type,
       price - 0.05 AS bid, price + 0.05 AS ask, price AS last, base AS prevclose,
       40 * greatest(m, 0) + noise(d, symbol, 90) AS volume, noise(d, symbol, 5000) AS open_interest,
       multiplier AS contract_size, underlying, underlying AS root_symbol,
       CASE WHEN is_option THEN 'weeklys' END AS expiration_type,
       as_of - to_milliseconds(noise(n, symbol, 3000)) AS bid_date,
       as_of - to_milliseconds(noise(n, symbol, 2000)) AS ask_date,
       as_of - to_milliseconds(noise(n, symbol, 60000)) AS last_date,
       CASE WHEN is_option THEN noise(hour, symbol || 'd', 99999) / 100000 END AS delta,
       CASE WHEN is_option THEN noise(hour, symbol || 'g', 99999) / 1000000 END AS gamma,
       CASE WHEN is_option THEN noise(hour, symbol || 't', 99999) / -100000 END AS theta,
       CASE WHEN is_option THEN noise(hour, symbol || 'v', 99999) / 100000 END AS vega,
       CASE WHEN is_option THEN noise(hour, symbol || 'r', 99999) / 1000000 END AS rho,
       CASE WHEN is_option THEN noise(hour, symbol || 'i', 99999) / 200000 END AS mid_iv
FROM (SELECT *, 100 * d + m // 60 AS hour FROM held WHERE quoted) ORDER BY n, row_no;

INSERT INTO orders BY NAME
SELECT snapshot_id, account_id, as_of, trade_date, order_id, listed,
       CASE WHEN t IS NULL THEN 'equity' ELSE 'multileg' END AS class,
       CASE kind WHEN 'entry' THEN 'credit' WHEN 'exit' THEN 'debit' ELSE 'limit' END AS type,
       CASE WHEN t IS NULL THEN 'F' ELSE 'SPY' END AS symbol, CASE kind WHEN 'sell' THEN 'sell' ELSE 'buy' END AS side,
       quantity, status, CASE kind WHEN 'rest' THEN 'gtc' ELSE 'day' END AS duration, status AS raw_status,
       class AS raw_class, type AS raw_type, side AS raw_side, duration AS raw_duration, price,
       CASE WHEN exec_quantity > 0 THEN price ELSE 0 END AS avg_fill_price, exec_quantity,
       avg_fill_price AS last_fill_price, exec_quantity AS last_fill_quantity,
       CASE WHEN status IN ('open', 'partially_filled') THEN quantity - exec_quantity ELSE 0 END AS remaining_quantity,
       placed_at AS create_date, changed_at AS transaction_date, CASE WHEN t IS NOT NULL THEN 2 END AS num_legs,
       CASE WHEN t IS NOT NULL THEN 'spread' END AS strategy,
       CASE WHEN t IS NOT NULL THEN 'gw-' || t || '-' || kind END AS tag
FROM shown ORDER BY n, order_id;

INSERT INTO order_legs BY NAME
SELECT snapshot_id, account_id, as_of, trade_date, order_id, leg_no, 10 * order_id + leg_no AS leg_id,
       'option' AS class, 'market' AS type, 'SPY' AS symbol, legs.symbol AS option_symbol,
       CASE WHEN (kind = 'entry') = (sign < 0) THEN 'sell_to_' ELSE 'buy_to_' END
           || CASE kind WHEN 'entry' THEN 'open' ELSE 'close' END AS side,
       quantity, status, 'day' AS duration, status AS raw_status, class AS raw_class, type AS raw_type,
       side AS raw_side, duration AS raw_duration, 0.60 AS avg_fill_price, exec_quantity, placed_at AS create_date,
       changed_at AS transaction_date
FROM shown JOIN legs USING (t) ORDER BY n, order_id, leg_no;

INSERT INTO option_spreads BY NAME
SELECT snapshot_id, account_id, as_of, trade_date, spread_no, underlying,
       CASE WHEN t = -1 THEN 'covered_call' ELSE 'bull_put_credit' END AS strategy,
       CASE WHEN t = -1 THEN 'long' ELSE 'credit' END AS side,
       CASE WHEN t = -1 THEN 'inferred' ELSE 'order' END AS source,
       CASE WHEN t >= 0 THEN 228000 + 10 * t END AS order_id, quantity, expiration,
       CASE WHEN t >= 0 THEN 3 END AS width, cost, CASE WHEN quoted THEN worth END AS market_value,
       CASE WHEN quoted THEN worth - cost END AS unrealized_pl, true AS has_payoff, 120 * quantity AS max_profit,
       180 * quantity AS max_loss
FROM taken JOIN spreads USING (n) ORDER BY n, spread_no;

INSERT INTO option_spread_legs BY NAME
SELECT snapshot_id, account_id, as_of, trade_date, spread_no,
       row_number() OVER (PARTITION BY n, spread_no ORDER BY symbol) AS leg_no, symbol,
       CASE WHEN is_option THEN 'option' ELSE 'equity' END AS asset_class, held.underlying AS root, held.expiration,
       CASE WHEN is_option AND t = -1 THEN 'call' WHEN is_option THEN 'put' END AS option_type, strike, multiplier,
       held.quantity, abs(held.quantity) // spreads.quantity AS ratio, sign(held.quantity) * cost_basis AS cost,
       CASE WHEN held.quoted THEN held.worth END AS market_value
FROM held JOIN spreads USING (n, t) ORDER BY n, spread_no, leg_no;

INSERT INTO trade_gate_readings BY NAME
SELECT snapshot_id, account_id, as_of, trade_date, in_session AS ready,
       CASE WHEN in_session THEN [] ELSE ['session_closed'] END AS blockers, open_positions, 10 AS max_open_positions,
       120 AS max_age_s, session_open, session_close
FROM taken JOIN (SELECT n, count(*) AS open_positions FROM spreads GROUP BY n) USING (n) ORDER BY n;

INSERT INTO conservation BY NAME
SELECT snapshot_id, account_id, as_of, trade_date, previous_snapshot_id, 'cash' AS item, 0 AS change, 0 AS carried,
       0 AS explained, 0 AS unexplained, 0 AS in_flight, 0 AS fees_at_most, 'explained' AS state,
       'nothing changed' AS explanation
FROM (SELECT *, lag(snapshot_id) OVER (ORDER BY n) AS previous_snapshot_id FROM taken WHERE coherence <> 'torn')
WHERE previous_snapshot_id IS NOT NULL ORDER BY n;

INSERT INTO raw_payloads BY NAME
SELECT snapshot_id, account_id, as_of, trade_date, resource, 1 AS page, 200 AS status, 1 AS attempts,
       as_of AS started_at, as_of + to_milliseconds(80 + noise(n, resource, 300)) AS ended_at,
       700 + noise(n, resource, 9000) AS bytes,
       sha256(resource || CASE resource WHEN 'account' THEN 0 WHEN 'orders' THEN n // 8 ELSE n END) AS sha256,
       account_id || '/' || trade_date || '/' || strftime(requested_at, '%H%M%S') || '/' || resource || '.json' AS path
FROM (SELECT *, unnest(['account', 'balances', 'positions', 'orders', 'quotes']) AS resource FROM taken) ORDER BY n;

INSERT INTO missed_snapshots BY NAME
SELECT snapshot_id, account_id, trade_date, requested_at, fate AS kind, trigger, 'nobody was there' AS reason,
       requested_at AS missed_at, requested_at + INTERVAL 1 MINUTE AS recorded_at,
       account_id || '/' || trade_date || '/' || m || '.missed' AS path
FROM instants WHERE fate IS NOT NULL ORDER BY n;

INSERT INTO findings BY NAME
SELECT md5(account_id || d) AS finding_id, account_id, 'change_unexplained' AS code, 'cash' AS subject,
       'warn' AS severity, 'cash changed by 5000 USD' AS text, 'Look at the deposits' AS suggested_action,
       min(as_of) AS first_seen, min(snapshot_id) AS first_snapshot_id, max(as_of) AS last_seen,
       max(snapshot_id) AS last_snapshot_id, count(*) AS times_seen,
       CASE WHEN d > 0 THEN max(session_close) + INTERVAL 1 HOUR END AS resolved_at
FROM taken WHERE d % 21 = 0 GROUP BY account_id, d ORDER BY d;

-- what the broker tells over night ------------------------------------------------------------------------------------

INSERT INTO activity_extracts BY NAME
SELECT getvariable('account') AS account_id, unnest(['history', 'gainloss', 'historical_balances']) AS resource,
       trade_date AS since, trade_date AS until, session_close + INTERVAL 15 HOUR AS read_at,
       'simulator' AS environment, 5 AS row_count, 1 AS page_count, account_id || '/activity/' || trade_date AS path
FROM days ORDER BY d;

INSERT INTO account_activity_versions BY NAME
SELECT events.*, getvariable('account') AS account_id, 1 AS ordinal,
       sha256(trade_date || type || coalesce(symbol, '') || amount) AS content_key,
       session_close + INTERVAL 15 HOUR AS first_read_at, first_read_at AS last_read_at
FROM (SELECT trade_date, 'ach' AS type, 5000 AS amount, 'ACH DEPOSIT' AS description
      FROM days WHERE d % 21 = 0 AND d > 0
      UNION ALL BY NAME
      SELECT trade_date, 'dividend' AS type, 24.75 AS amount, 'DIVIDEND AAPL' AS description
      FROM days WHERE d % 63 = 30
      UNION ALL BY NAME
      SELECT trade_date, 'option' AS type, -sign * trades.quantity * 60 AS amount, 'OPTION TRADE' AS description,
             symbol, sign * trades.quantity AS quantity, 0.60 AS price, 0.35 AS commission, 'option' AS trade_type
      FROM days JOIN trades USING (d) JOIN legs USING (t)) AS events
JOIN days USING (trade_date) ORDER BY trade_date;

INSERT INTO closed_lots_versions BY NAME
SELECT getvariable('account') AS account_id, closed.trade_date AS close_date, opened.trade_date AS open_date, symbol,
       'SPY' AS underlying, sign * quantity AS quantity, 60 * quantity AS cost, cost + realized_pnl / 2 AS proceeds,
       realized_pnl / 2 AS gain_loss, closed.trade_date - opened.trade_date AS term_days, 1 AS ordinal,
       sha256(closed.trade_date || symbol) AS content_key, closed.session_close + INTERVAL 15 HOUR AS first_read_at,
       first_read_at AS last_read_at
FROM trades JOIN legs USING (t) JOIN days AS opened ON opened.d = trades.d JOIN days AS closed ON closed.d = closed_d
ORDER BY close_date;

INSERT INTO broker_daily_balances_versions BY NAME
SELECT getvariable('account') AS account_id, trade_date, coalesce(value, 140000) AS value, 1 AS ordinal,
       sha256(trade_date::VARCHAR) AS content_key, session_close + INTERVAL 15 HOUR AS first_read_at,
       first_read_at AS last_read_at
FROM days LEFT JOIN (SELECT trade_date, arg_max(equity, as_of) AS value FROM account_balances
                     WHERE account_id = getvariable('account') GROUP BY trade_date) USING (trade_date)
ORDER BY trade_date;

-- what followed from the ledger of a trading engine whose trades are the put spreads ----------------------------------

-- of every fourth trade nobody knows what it made
INSERT INTO trade_reconciliation BY NAME
SELECT snapshot_id, account_id, as_of, trade_date, 't-' || t AS trade_id, 'SPY' AS symbol, status AS ledger_status,
       status, 'its orders' AS why, CASE status WHEN 'ENTRY_PENDING' THEN 0 ELSE quantity END AS entered,
       CASE status WHEN 'CLOSED' THEN quantity ELSE 0 END AS exited, '{"short": "-1", "long": "1"}' AS claimed,
       claimed AS allocated, 1.20 AS entry_price, 'fills' AS entry_price_source,
       CASE status WHEN 'CLOSED' THEN 0.80 END AS exit_price, CASE status WHEN 'CLOSED' THEN 'fills' END
           AS exit_price_source,
       CASE status WHEN 'CLOSED' THEN 'PROFIT_TARGET' END AS exit_reason,
       CASE WHEN status = 'CLOSED' AND t % 4 > 0 THEN realized_pnl END AS realized_pnl,
       CASE WHEN as_of >= filled_at THEN filled_at END AS opened_at, CASE status WHEN 'CLOSED' THEN closed_at END
           AS closed_at
FROM (SELECT taken.*, trades.* EXCLUDE d, CASE WHEN as_of < filled_at THEN 'ENTRY_PENDING' WHEN as_of < closing_at
                 OR closing_at IS NULL THEN 'OPEN' WHEN as_of < closed_at THEN 'CLOSING_PENDING' ELSE 'CLOSED' END
                 AS status
      FROM taken JOIN trades ON taken.d BETWEEN trades.d AND closed_d AND as_of >= placed_at)
WHERE getvariable('ledger') ORDER BY n, t;

INSERT INTO order_reconciliation BY NAME
SELECT snapshot_id, account_id, as_of, trade_date, 'matched' AS match_state, 'broker_id' AS matched_by,
       'gw-' || t || '-' || kind AS client_order_id, order_id, 't-' || t AS trade_id, client_order_id AS tag,
       upper(status) AS ledger_status, upper(status) AS broker_status, status AS raw_status,
       exec_quantity AS ledger_filled, exec_quantity AS broker_filled
FROM shown WHERE getvariable('ledger') AND t IS NOT NULL ORDER BY n, order_id;
