import random, sys
from tradier_pipeline.core.settings import load_settings
from tradier_pipeline.publish.audit import audit
from tradier_pipeline_tests.publish.test_audit import change_a_byte, change_and_audit, filled, held, restored, simulated
from tradier_pipeline_tests.publish.test_audit_sealed import sealed_home

OUT = open("/tmp/bytes.log", "a")


def say(*a):
    print(*a, file=OUT, flush=True)


def test_sealed(sealed_home):
    chosen = random.Random(20261127)
    named = 0
    parquet = sorted((sealed_home.path / "sealed").rglob("*.parquet"))
    for n in range(100):
        path = chosen.choice(parquet)
        with restored(path):
            change_a_byte(path, chosen.randrange(path.stat().st_size), chosen.randrange(1, 256))
            named += str(path) in [d.path for d in audit(load_settings(), rows=False).wrong]
    say("sealed: named", named, "of 100 in", len(parquet), "files, seed 20261127")


def test_held(held):
    for seed in (20261128, 20261129, 20261130, 20261131):
        n, w, m = change_and_audit(held, 50, seed)
        say("held seed", seed, "named", n, "without effect", w, "missed", m)
