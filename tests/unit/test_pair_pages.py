"""The pages of a comparison and of a drift: what a reader finds there, and what no browser is asked to do."""

import dataclasses

import numpy as np
import pytest

from analysis.comparing import describe_comparison
from analysis.drifting import describe_drift
from analysis.set_report.pair_pages import render_comparison, render_drift
from analysis.sets.facts import SetFacts
from tests.reports import HOSTILE, Page, text_of
from tests.set_reports import pictures
from tests.unit.sets.made import make_facts, unit

LABELS = HOSTILE[:5]


def two_jobs() -> tuple[SetFacts, SetFacts]:
    """Jobs over one version, the second worse, with labels that mean harm."""
    facts = dataclasses.replace(make_facts(120, unlabelled=0), labels=LABELS)
    noise = np.random.default_rng(1).normal(0, 0.08, facts.cosine.shape).astype(np.float32)
    origin = dataclasses.replace(facts.origin, job_id="job-2", model={"id": "other"})
    return facts, dataclasses.replace(facts, origin=origin, cosine=facts.cosine + noise)


def two_versions() -> tuple[SetFacts, SetFacts]:
    """The second version with one direction of its own."""
    facts, reference = make_facts(60, seed=2, version="version-2"), make_facts(60, seed=1)
    moved = facts.vectors.astype(float)
    moved[:20, 0] += 2
    return dataclasses.replace(facts, labels=LABELS, vectors=unit(moved)), reference


@pytest.mark.parametrize("scene", ["comparison", "drift"])
def test_nothing_runs_and_nothing_is_fetched(scene: str) -> None:
    if scene == "comparison":
        html = render_comparison(describe_comparison(*two_jobs()), pictures, title=HOSTILE[0])
    else:
        document = describe_drift(*two_versions())
        html = render_drift(document, pictures, pictures, title=HOSTILE[0], reference_title=HOSTILE[2])
    page = Page(html)
    assert {tag for tag, _ in page.tags} & {"script", "img", "link", "iframe"} == set()
    anchors = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    for href in page.attributes("href"):
        assert href in {"comparison.json", "drift.json"} or href.removeprefix("#") in anchors
    assert len(anchors) == len([attrs for _, attrs in page.tags if "id" in attrs])


def test_a_comparison_lists_the_images_that_one_job_alone_has_right() -> None:
    facts, other = two_jobs()
    document = describe_comparison(facts, other)
    right, other_right = (each.cosine[:, -1].argmax(axis=1) == facts.true_label for each in (facts, other))
    assert document.only_this.count == (right & ~other_right).sum()
    assert document.only_other.count == (~right & other_right).sum()
    last = np.sort(other.cosine[:, -1], axis=1)
    leads = (last[:, -1] - last[:, -2])[[item.index // 2 for item in document.only_this.items]]
    assert (np.diff(leads) <= 0).all()
    page = Page(render_comparison(document, pictures, title="shapes"))
    cells = [[cell.strip() for cell in row] for row in page.rows]
    assert ["This job is right", str((right & other_right).sum()), str(document.only_this.count)] in cells
    assert ["This job is wrong", str(document.only_other.count), str((~right & ~other_right).sum())] in cells


def test_a_drift_shows_what_came() -> None:
    document = describe_drift(*two_versions())
    assert document.drift is not None
    # item 2n is row n, and the first twenty were moved
    assert {item.index for item in document.drift.came[:15]} <= set(range(0, 40, 2))
    text = text_of(Page(render_drift(document, pictures, pictures, title="new", reference_title="old")))
    assert "The version lies apart from its reference" in text


def test_what_cannot_be_told_is_said() -> None:
    blank = make_facts(3, unlabelled=1)
    compared = describe_comparison(blank, blank)
    assert "No labelled image has results of both jobs" in render_comparison(compared, pictures, title="none")
    one = make_facts(1, version="version-2")
    drift = describe_drift(one, blank)
    assert drift.drift is None
    page = render_drift(drift, pictures, pictures, title="one", reference_title="none")
    assert "Drift needs two images in each version at least." in page
