"""What the Python clients do, round by round, and how they talk with the test.

The test writes a line for each round that it wants and reads one when it is done. What a
client sees that it should not ends the program with a traceback.
"""

import random
import sys

KEPT = 100
BIG = 1_000_000


def kept(prefix):
    """The keys that are set once, and their values."""
    return {f"{prefix}kept{i}": f"value {i} " * (i + 1) for i in range(KEPT)}


def big(round):
    return random.Random(round).randbytes(BIG)


def same(got, want, what):
    if got != want:
        raise AssertionError(f"{what}: {str(got)[:200]!r}, want {str(want)[:200]!r}")


def serve(version, begin, work):
    """Calls begin once, and work with the number of each round."""
    begin()
    print(version, flush=True)
    for round, _ in enumerate(sys.stdin, 1):
        work(round)
        print("done", round, flush=True)
