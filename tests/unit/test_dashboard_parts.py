"""What the pages of the dashboard share."""

import pytest

from api.dashboard import pages


@pytest.mark.parametrize(
    ("counts", "value", "told", "beside"),
    [
        ((1, 1, 0, 3), 2, "2 of 3 done", "1 failed"),
        ((0, 3, 0, 3), 0, "0 of 3 succeeded", "3 failed"),
        ((44, 0, 956, 1000), 44, "44 of 1,000 done", "956 dropped"),
        ((3, 0, 0, 3), 3, "3 of 3 done", ""),
    ],
)
def test_a_bar_is_what_succeeded_and_the_rest_is_said_in_words(
    counts: tuple[int, int, int, int], value: int, told: str, beside: str
) -> None:
    shown = str(pages.ENVIRONMENT.get_template("parts.html").module.progress(*counts))  # type: ignore[attr-defined]
    assert f'<progress max="{counts[-1]}" value="{value}" aria-label="{told}">' in shown
    assert beside in shown
    assert ("failed" in shown, "dropped" in shown) == (counts[1] > 0, counts[2] > 0)
