"""Why a part of the page has nothing to show, in one sentence."""

from collections.abc import Iterable

from analysis.sets.schema import Summary


def why_unlabelled(summary: Summary) -> str:
    """Why nothing is said of accuracy."""
    return _why(
        summary,
        ("no-images", "multi-label", "no-true-labels"),
        "No item has a result to summarise."
        if not summary.counts.succeeded
        else "No image has a true label among the labels: nothing is said of accuracy.",
    )


def why_empty(summary: Summary) -> str:
    """Why nothing is said of any image."""
    return _why(summary, ("no-images",), "No item has a result to summarise.")


def why_no_late(summary: Summary) -> str:
    """Why no image flips late."""
    if not summary.counts.succeeded:
        return why_empty(summary)
    if len(summary.layers) == 1:
        return "The job has a single layer: nothing can flip."
    return "Every image has one top label throughout."


def why_no_ranks(summary: Summary) -> str:
    """Why no label's rank is drawn."""
    if not summary.counts.succeeded:
        return why_empty(summary)
    if len(summary.labels) == 1:
        return "A single label is always in the first place."
    return (
        "No examples were handed to this page. The rank of the true label of each item at each layer is in"
        " layers.parquet."
    )


def why_no_points(summary: Summary) -> str:
    """Why no map of a sample is drawn."""
    if not summary.counts.succeeded:
        return why_empty(summary)
    return (
        "No coordinates were handed to this page. The embeddings to make them from are in embeddings.parquet."
    )


def why_no_comparison(summary: Summary) -> str:
    """Why nothing is said of another job."""
    if summary.comparison is None:
        return "No other job was named to compare with."
    nothing = "No labelled image has results of both jobs and the same truth in both."
    return _why(summary, ("comparison-multi-label",), nothing)


def why_no_candidates(summary: Summary) -> str:
    """Why there are no candidates for label errors."""
    if summary.label_candidates.n:
        judged = summary.label_candidates.n
        return f"None found: the probe believes every one of the {judged:,} true labels that it judged."
    told = _why(summary, ("candidates-none", "one-class", "multi-label"), "")
    return told or (
        why_unlabelled(summary)
        if not any(layer.n for layer in summary.layers)
        else "Too few images of too few labels: a probe could not be trained on folds."
    )


def why_unranked(summary: Summary) -> str:
    """Why no label is told from the others."""
    return _why(summary, ("auroc-none", "no-images"), "No image has a true label among the labels.")


def why_no_maps(summary: Summary) -> str:
    """Why nothing is said of where labels are read."""
    told = _why(summary, ("label-maps-none", "label-maps-few"), "")
    return told or why_unlabelled(summary)


def why_no_groups(summary: Summary) -> str:
    """Why there are no groups of duplicates."""
    if not summary.counts.succeeded:
        return why_empty(summary)
    return f"None found among {summary.duplicates.compared:,} images that were compared."


def why_no_outliers(summary: Summary) -> str:
    """Why no image has a score as an outlier."""
    if not summary.counts.succeeded:
        return why_empty(summary)
    return _why(
        summary, ("outliers-too-few",), "Too few images: there are no neighbours to compare density with."
    )


def why_no_drift(summary: Summary) -> str:
    """Why nothing is said of drift."""
    return _why(summary, ("drift-too-few",), "No reference version was named to measure drift from.")


def _why(summary: Summary, codes: Iterable[str], otherwise: str) -> str:
    """The message of the first warning with one of the codes."""
    return next((said.message for code in codes for said in summary.warnings if said.code == code), otherwise)
