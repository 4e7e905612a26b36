"""An audit of sealed months and of what is posted overnight; and a backup of both."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from tradier_pipeline import clock
from tradier_pipeline.core.settings import load_settings
from tradier_pipeline.extract.activity import extract_activity
from tradier_pipeline.extract.prices import extract_prices
from tradier_pipeline.landing.activity import ActivityRange
from tradier_pipeline.landing.prices import PriceRange
from tradier_pipeline.publish.audit import audit
from tradier_pipeline.publish.seal import seal
from tradier_pipeline.publish.store import store_activity, store_prices
from tradier_pipeline.simulator.server import embedded_simulator
from tradier_pipeline_tests.conftest import ROUND_THE_CLOCK, Home, Simulated, take
from tradier_pipeline_tests.publish.test_audit import change_a_byte, files, restored
from tradier_pipeline_tests.support.command_line import run
from tradier_pipeline_tests.support.sampling import sampled
from tradier_pipeline_tests.support.scripted_account import scripted_account, three_a_month

AUGUST = datetime(2026, 8, 3, 15, 0, tzinfo=UTC)
FIRST_DAY = "WHERE trade_date = (SELECT min(trade_date) FROM daily_prices)"
NOVEMBER = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def sealed_once(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Six snapshots of two months, of which both are sealed but for the newest one."""
    made = Home(tmp_path_factory.mktemp("sealed") / "home")
    with pytest.MonkeyPatch.context() as patched, scripted_account(made, patched) as scripted:
        three_a_month(scripted, AUGUST, 2)
        patched.setattr(clock, "now", lambda: NOVEMBER)
        assert seal(made.warehouse).files
    return made


@pytest.fixture
def sealed_home(home: Home, sealed_once: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A copy of that, in November."""
    shutil.copytree(sealed_once.path, home.path)
    assert home.warehouse.repoint()
    monkeypatch.setattr(clock, "now", lambda: NOVEMBER)
    return home


def test_a_changed_byte_of_a_sealed_month_is_named(sealed_home: Home) -> None:
    assert not audit(load_settings()).wrong
    chosen = random.Random(18)
    parquet = sorted((sealed_home.path / "sealed").rglob("*.parquet"))
    for _ in range(8):
        path = chosen.choice(parquet)
        with restored(path):
            change_a_byte(path, chosen.randrange(path.stat().st_size), chosen.randrange(1, 256))
            assert str(path) in [damage.path for damage in audit(load_settings(), rows=False).wrong]
    one, other = parquet[:2]
    shutil.copy(other, one.with_name("2020-01.parquet"))
    assert str(one.with_name("2020-01.parquet")) in [damage.path for damage in audit(load_settings(), rows=False).wrong]


@pytest.mark.soak
def test_sealed_months_are_backed_up_and_found_in_the_restored_home(sealed_home: Home, tmp_path: Path) -> None:
    assert run("backup", str(tmp_path / "disk")).exit_code == 0
    shutil.rmtree(sealed_home.path / "sealed")
    result = run("restore", str(tmp_path / "disk"), "--to", str(tmp_path / "new"))
    assert result.exit_code == 0, result.output
    assert "all as filed" in result.stdout


@pytest.fixture(scope="module")
def simulated() -> Iterator[Simulated]:
    with embedded_simulator(None, limits=None, calendar=ROUND_THE_CLOCK) as url:
        yield Simulated(url)


@pytest.fixture(scope="module")
def posted_once(simulated: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A snapshot, what was posted on the day before, and a year of prices."""
    home = Home(tmp_path_factory.mktemp("posted") / "home")
    landed, _ = take(home, simulated.broker)
    yesterday = clock.trade_date(clock.now()) - timedelta(days=1)
    account = landed.manifest.account_id
    activity = extract_activity(home.zone, simulated.broker, ActivityRange.of_day(account, yesterday))
    store_activity(home.warehouse, activity, ROUND_THE_CLOCK)
    prices = extract_prices(home.zone, simulated.broker, PriceRange("SPY", date(2026, 1, 2), yesterday))
    store_prices(home.warehouse, prices)
    return home


@pytest.fixture
def posted(home: Home, posted_once: Home) -> Home:
    """A copy of that."""
    shutil.copytree(posted_once.path, home.path)
    return home


def test_a_changed_byte_of_activity_and_prices_is_named(posted: Home) -> None:
    assert not audit(load_settings()).wrong
    chosen = random.Random(18)
    paths = [path for path in files(posted.zone.root) if "activity" in path.parts or "_prices" in path.parts]
    assert len(paths) >= 6
    for _ in range(8):
        path = chosen.choice(paths)
        with restored(path):
            change_a_byte(path, chosen.randrange(path.stat().st_size), chosen.randrange(1, 256))
            assert audit(load_settings(), rows=False).wrong, path


@sampled(
    "statement,named",
    [
        (f"UPDATE daily_prices SET close = close + 0.01 {FIRST_DAY}", "daily_prices"),
        (f"UPDATE daily_prices SET volume = 1 {FIRST_DAY}", "daily_prices"),
        (f"DELETE FROM daily_prices {FIRST_DAY}", "daily_prices"),
        ("UPDATE activity_extracts SET row_count = row_count + 1", "activity_extracts"),
        (
            "INSERT INTO broker_daily_balances_versions SELECT account_id, since, 1, 'k', 1, read_at, read_at, read_at "
            "FROM activity_extracts LIMIT 1",
            "broker_daily_balances_versions",
        ),
    ],
    kept=(0, 2, 4),  # changed, taken away, added
)
def test_a_changed_row_of_what_was_posted_or_of_a_price_is_named(posted: Home, statement: str, named: str) -> None:
    posted.warehouse.path.chmod(0o644)
    with duckdb.connect(posted.warehouse.path) as connection:
        connection.execute(statement)
    assert named in [damage.path for damage in audit(load_settings()).wrong]
