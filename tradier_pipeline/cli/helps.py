"""What `--help` says beside the options: the commands in groups, each in a line, and examples."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import click

GROUPS: Mapping[str, Mapping[str, str]] = {
    "Take": {
        "snapshot": "take one now, prove it, show it",
        "backfill": "read the past, as far as the broker reports it",
        "request": "ask for a snapshot and do not wait for it",
        "verify": "prove stored snapshots again, against the landed bytes",
        "rebuild": "write the warehouse anew from the landed bytes",
    },
    "Look": {
        "today": "the evening on one screen: profit, month, risk, exits",
        "portfolio": "what is held now: positions, value, profit",
        "spreads": "the option spreads: profit, days left, distance",
        "orders": "the orders as they were seen last",
        "trades": "the trades of the ledger, each with its profit",
        "balances": "equity, cash and buying power over time; statements",
        "returns": "profit, returns and drawdown, beside a benchmark",
        "pnl": "what was realized, by month, symbol, strategy or tag",
        "exposure": "greeks, notional, buying power used, what expires",
        "summary": "what a trade date came to",
        "report": "all of it, as a page for the browser",
        "query": "any SQL query, read-only",
        "tables": "which tables and views there are",
        "describe": "what the columns of a table mean",
        "export": "the books for beancount and hledger, Form 8949",
    },
    "Trade": {
        "gate": "whether to trade now, and if not why",
        "findings": "open problems, and what to do about each",
        "ledger": "your engine's orders and trades, beside the broker's",
        "flows": "deposits and withdrawals that you state yourself",
    },
    "Operate": {
        "up": "a snapshot every minute of the session, and the UI",
        "listen": "a snapshot after every change of an order",
        "seal": "what is old becomes files of its own",
        "audit": "prove that nothing was changed since it was filed",
        "backup": "copy what is new to another disk, while snapshots go on",
        "restore": "a home from a backup, proven by an audit",
        "watch": "for cron: whether history is current, without a daemon",
        "lake": "the history of many machines in one place",
        "status": "age, failures, missed instants, disk, request budget",
        "broker": "how the broker serves, and what service levels are reached",
        "simulate": "the simulated broker as a server",
    },
}

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "snapshot": ("snapshot", "snapshot --account VA12345678 -v"),
    "backfill": ("backfill", "backfill --since 2026-01-01"),
    "request": ("request --reason manual --note 'before the report'",),
    "verify": ("verify", "verify --all"),
    "rebuild": ("rebuild",),
    "today": ("today", "today --target 60 --days 21"),
    "portfolio": ("portfolio", "portfolio --format csv -o positions.csv"),
    "spreads": ("spreads",),
    "orders": ("orders", "orders --since 2026-11-01"),
    "trades": ("trades", "trades --all"),
    "balances": ("balances --by day --since 2026-11-01", "balances --by month --total"),
    "returns": ("returns", "returns --by month --benchmark SPY"),
    "pnl": ("pnl", "pnl --by strategy --since 2026-01-01"),
    "exposure": ("exposure", "exposure --by expiring"),
    "summary": ("summary", "summary 2026-11-25 --generate"),
    "report": ("report --open", "report --day 2026-11-25"),
    "query": ('query "FROM daily_balances"', 'query "SELECT symbol, unrealized_pl FROM portfolio_positions"'),
    "tables": ("tables",),
    "describe": ("describe portfolio_positions",),
    "export": ("export --format beancount -o books.beancount", "export --format form8949 --since 2026-01-01"),
    "broker": ("broker --since 2026-11-01", "broker --table levels --format csv"),
    "gate": ("gate", "gate && ./trade.sh"),
    "findings": ("findings", "findings --all --format csv"),
    "ledger": ("ledger diff",),
    "ledger diff": ("ledger diff", "ledger diff --format csv"),
    "ledger apply": ("ledger apply",),
    "ledger link": ("ledger link my-trade-7 228175",),
    "ledger import": ("ledger import d1.sql --account VA12345678",),
    "flows": ("flows list",),
    "flows add": (
        "flows add --account VA12345678 --date 2026-11-02 --amount 5000",
        "flows add --account VA12345678 --date 2026-11-02 --symbol SPY --quantity 10 --value 6800",
    ),
    "flows confirm": ("flows confirm --account VA12345678 --date 2026-11-02 --note 'sold the house'",),
    "flows list": ("flows list",),
    "flows remove": ("flows remove 3",),
    "up": ("up", "up --port 3001"),
    "listen": ("listen",),
    "seal": ("seal", "seal --until 2026-10", "seal --undo"),
    "audit": ("audit", "audit --anchor /mnt/usb/anchors.jsonl", "audit --against /mnt/usb/anchors.jsonl"),
    "backup": ("backup /mnt/usb/tradier", "backup /mnt/usb/tradier --keep 10"),
    "restore": ("restore /mnt/usb/tradier --to ~/tradier-home",),
    "watch": ("watch", "watch --call '/usr/local/bin/page-me'", "watch --url https://hc-ping.com/ID/fail"),
    "lake": ("lake ship", "lake status"),
    "lake ship": ("lake ship", "lake ship --follow"),
    "lake status": ("lake status",),
    "lake maintain": ("lake maintain",),
    "status": ("status",),
    "simulate": ("simulate", "simulate --port 0"),
}

COMPLETION = """\b
Shell completion, in ~/.bashrc, ~/.zshrc or ~/.config/fish/completions:
  eval "$(_TRADIER_PIPELINE_COMPLETE=bash_source tradier-pipeline)"
  eval "$(_TRADIER_PIPELINE_COMPLETE=zsh_source tradier-pipeline)"
  _TRADIER_PIPELINE_COMPLETE=fish_source tradier-pipeline | source"""


def add_examples(command: click.Command, path: str = "") -> None:
    """Let the help of a command, and of each below it, end with its examples."""
    if examples := EXAMPLES.get(path):
        text = "\n".join(f"  tradier-pipeline {example}" for example in examples)
        command.epilog = f"\b\nExample{'s' if len(examples) > 1 else ''}:\n{text}"
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            add_examples(below, f"{path} {name}".strip())


class Group(click.Group):
    """Commands below a command; its help says of each what it does in a whole sentence."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            named = sorted(self.commands.items())
            formatter.write_dl([(name, one.get_short_help_str(limit=sys.maxsize)) for name, one in named])


class ListGroup(Group):
    """A group that lists when no command of it is named: `flows --format csv` is `flows list --format csv`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def write_groups(formatter: click.HelpFormatter) -> None:
    """The commands in their groups, a line each."""
    longest = max(len(name) for group in GROUPS.values() for name in group)
    for title, group in GROUPS.items():
        with formatter.section(title):
            formatter.write_dl([(f"{name:<{longest}}", text) for name, text in group.items()])
