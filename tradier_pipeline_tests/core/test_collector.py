"""What was imported is left out of collections, and nothing of the caller's own collector changes."""

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tradier_pipeline.core import collector
from tradier_pipeline_tests.conftest import COUNT_FROZEN


@pytest.fixture(autouse=True)
def collector_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process of its own; the suite has frozen what it collected."""
    monkeypatch.setattr(gc, "get_freeze_count", COUNT_FROZEN)
    gc.unfreeze()
    yield
    gc.freeze()
    gc.enable()


def test_a_pause_ends_with_the_collector_on_and_nothing_frozen() -> None:
    with collector.paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_what_was_made_in_a_pause_counts_as_old() -> None:
    with collector.paused():
        made: list[object] = [[] for _ in range(10_000)]
    young = {id(one) for generation in (0, 1) for one in gc.get_objects(generation)}
    assert not any(id(one) in young for one in made)


def test_a_pause_ends_when_what_it_holds_fails() -> None:
    with pytest.raises(ImportError), collector.paused():
        raise ImportError
    assert gc.isenabled()


def test_a_collector_that_the_caller_switched_off_stays_off() -> None:
    gc.disable()
    with collector.paused():
        pass
    assert not gc.isenabled()


def test_only_what_is_made_from_now_on_is_collected() -> None:
    with collector.sparing():
        assert gc.isenabled()
        assert gc.get_freeze_count() > 10_000
    assert gc.get_freeze_count() == 0


def test_what_the_caller_froze_stays_frozen() -> None:
    gc.freeze()
    with collector.sparing(), collector.paused():
        pass
    assert gc.get_freeze_count() > 10_000


def test_the_end_of_a_command_looks_for_nothing() -> None:
    program = (
        "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 1000))\n"  # runs last
        "from tradier_pipeline.core import collector; collector.skip_at_exit()"
    )
    assert subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True).stdout == b"True\n"
