"""What the report shows beside its summary: a sample of images in the plane, told by how it was laid out."""

import dataclasses
from pathlib import Path

import numpy as np

from analysis.set_report.facts import Points
from analysis.set_report.supplement import supplement_of
from analysis.sets.facts import SetFacts
from analysis.sets.summary import summarize
from tests.unit.sets.made import make_facts, repeat


def test_few_images_lie_along_the_directions_in_which_they_vary_most() -> None:
    facts = repeat(make_facts(40), exact=[(2, 8), (2, 9)])
    # a spread along the first axis that all else is small beside
    vectors = facts.vectors * np.float32(0.01)
    vectors[:, 0] = np.linspace(-1, 1, len(vectors))
    told = _points(dataclasses.replace(facts, vectors=vectors))
    # items with the same bytes are one image
    assert len(told.at) == 38
    assert np.ptp(told.at[:, 0]) > 1.9
    assert "principal components" in told.method
    assert "across >99" in told.method or "across 99" in told.method
    assert "directions mean nothing" not in told.method


def test_many_images_lie_beside_their_neighbours() -> None:
    told = _points(make_facts(101))
    assert told.at.shape == (101, 2)
    assert "t-SNE" in told.method
    assert "directions mean nothing" in told.method


def _points(facts: SetFacts) -> Points:
    points = supplement_of(facts, summarize(facts), Path("/nowhere"), lambda _: None).points
    assert points is not None
    return points
