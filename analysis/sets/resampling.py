"""Intervals of shares: Wilson's for images that are independent, and the bootstrap of groups."""

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.proportion import proportion_confint

RESAMPLES = 2000
MOST_DRAWS = 50_000_000
SLICE_DRAWS = 1 << 21
TAILS = (2.5, 97.5)
WORD_BITS = 62


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The 95 % interval of Wilson (1927) of a share."""
    low, high = proportion_confint(hits, total, alpha=0.05, method="wilson")
    return max(0.0, float(low)), min(1.0, float(high))


def percentiles(drawn: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of percentiles of resampled values."""
    low, high = np.percentile(drawn, TAILS)
    return float(low), float(high)


def resample_means(
    values: NDArray[np.bool_], groups: NDArray[np.int64], chance: np.random.Generator
) -> NDArray[np.float64]:
    """Means of the columns of `values` [image, column] under the bootstrap: [resample, column].

    Whole groups are drawn with replacement, as many as there are; images without a companion are groups of
    one. All columns see the same draws, so that differences of columns are paired. Groups that count alike
    are drawn together: how often each kind is drawn is multinomial. Where kinds are too many for that, there
    are tens of thousands of groups, and the normal limit of the same bootstrap is drawn from instead.
    """
    sizes = np.bincount(groups)
    columns = [np.bincount(groups, weights=column, minlength=len(sizes)) for column in values.T]
    table = np.column_stack([sizes, *columns])[sizes > 0].astype(np.int32)
    kinds, counts = _kinds(table)
    if len(kinds) * RESAMPLES > MOST_DRAWS:
        sums = _draw_limit(table, chance)
    else:
        step = max(1, SLICE_DRAWS // len(kinds))
        sums = np.concatenate(
            [
                chance.multinomial(len(table), counts / len(table), min(step, RESAMPLES - start)) @ kinds
                for start in range(0, RESAMPLES, step)
            ]
        ).astype(np.float64)
    # the limit knows no bounds
    return np.clip(sums[:, 1:] / sums[:, :1], 0, 1)


def _kinds(table: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """The different rows of `table`, which holds no negative numbers, and how often each is there."""
    most = table.max(axis=0).astype(np.int64) + 1
    if np.log2(most).sum() >= WORD_BITS:
        return np.unique(table, axis=0, return_counts=True)
    # a row as one number, which sorts a million in a tenth of a second
    packed, counts = np.unique(np.ravel_multi_index(tuple(table.T), tuple(most)), return_counts=True)
    return np.column_stack(np.unravel_index(packed, tuple(most))).astype(np.int32), counts


def _draw_limit(table: NDArray[np.int32], chance: np.random.Generator) -> NDArray[np.float64]:
    """Sums of resampled rows of `table` from the normal distribution that they tend to."""
    spread = np.cov(table.T, ddof=0) * len(table)
    return np.asarray(chance.multivariate_normal(table.sum(axis=0), spread, RESAMPLES, method="eigh"))
