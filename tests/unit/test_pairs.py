"""Measuring in turn: what a ratio means, and that neither side has an advantage."""

from benchmarks.pairs import compare, ratio_of


def test_a_ratio_says_how_many_times_faster_ours_is() -> None:
    ratio = ratio_of([1.0, 2.0, 1.0, 4.0, 1.0], [2.0, 4.0, 2.0, 8.0, 200.0])
    assert (ratio.median, ratio.ours_s, ratio.theirs_s, ratio.pairs) == (2.0, 1.0, 4.0, 5)
    assert ratio.low == 2.0
    assert 2.0 <= ratio.high <= 200.0


def test_the_interval_holds_the_median_and_is_the_same_every_time() -> None:
    ours = [1.0 + place / 50 for place in range(15)]
    theirs = [3.0 - place / 40 for place in range(15)]
    ratio = ratio_of(ours, theirs)
    assert ratio.low < ratio.median < ratio.high
    assert ratio == ratio_of(ours, theirs)
    assert ratio.describe()["median"] == round(ratio.median, 3)


def test_both_are_called_in_turn_and_take_turns_at_being_first() -> None:
    now = 0.0
    called: list[str] = []

    def run(name: str, seconds: float) -> None:
        nonlocal now
        now += seconds
        called.append(name)

    ratio = compare(lambda: run("ours", 2.0), lambda: run("theirs", 5.0), 4, calls=3, clock=lambda: now)
    assert (ratio.median, ratio.low, ratio.high) == (2.5, 2.5, 2.5)
    assert (ratio.ours_s, ratio.theirs_s) == (2.0, 5.0)
    measured = called[-24:]
    assert measured[:12] == ["ours"] * 3 + ["theirs"] * 6 + ["ours"] * 3
    assert measured.count("ours") == measured.count("theirs") == 12
