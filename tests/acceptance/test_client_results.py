"""Results by the client: whole jobs as arrays, events, and what there is for those who doubt."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lensqueue_client import Client, JobArrays, JobNotEndedError
from tests.acceptance.clients import LABELS, PATHS
from tests.acceptance.conftest import RunningService
from tests.conftest import SAMPLES


def test_a_job_becomes_arrays_with_a_row_for_every_item(client: Client) -> None:
    job = client.wait(client.submit_lens([*PATHS, b"no picture"], LABELS))
    assert (job.done, job.complete, job.fruitless) == (True, False, False)
    found = client.to_numpy(job)
    assert found.cosine is not None
    assert found.logit is not None
    assert found.cosine.shape == (4, 7, 3)
    assert found.layers == tuple(range(7))
    assert np.isfinite(found.cosine[:3]).all()
    assert np.isnan(found.cosine[3]).all()
    for item in client.results(job):
        if item.error is None:
            np.testing.assert_array_equal(found.cosine[item.index], item.cosine)
            np.testing.assert_array_equal(found.logit[item.index], item.logit)
        else:
            assert (item.index, item.error.code) == (3, "not-an-image")


def test_a_job_that_goes_on_becomes_arrays_only_if_part_of_it_will_do(client: Client) -> None:
    job = client.submit_embedding(texts=["a ring", "a heart"], model="google/siglip-base-patch16-224")
    for make in (client.to_numpy, client.job_array):
        for named in (job, job.id):
            with pytest.raises(
                JobNotEndedError, match=r"is queued, 0 of 2 items done.*partial=True"
            ) as refused:
                make(named)
            assert (refused.value.code, refused.value.job.id) == ("not-ended", job.id)
    assert len(client.to_numpy(job, partial=True).index) == 0
    client.cancel(job)
    assert len(client.to_numpy(job).index) == 0


def test_a_whole_job_has_named_axes_where_xarray_is_installed(client: Client) -> None:
    xarray = pytest.importorskip("xarray")
    job = client.wait(client.submit_lens([*PATHS, b"no picture"], LABELS))
    named, plain = client.job_array(job), client.to_numpy(job)
    assert isinstance(named, xarray.Dataset)
    assert dict(named.sizes) == {"item": 4, "layer": 7, "label": 3}
    assert list(named.name.values) == [*(path.name for path in PATHS), "3"]
    assert plain.cosine is not None
    assert plain.logit is not None
    found = named.cosine.sel(layer=6, label="red diamond")
    np.testing.assert_array_equal(found.values, plain.cosine[:, 6, 1])
    np.testing.assert_array_equal(named.logit.values, plain.logit)
    embedded = client.job_array(client.wait(client.submit_embedding(texts="a ring")))
    assert embedded.embedding.dims == ("item", "width")
    assert set(embedded.data_vars) == {"embedding"}


def test_a_whole_job_has_plain_arrays_where_xarray_is_not_installed(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xarray", None)  # by which Python remembers that there is none
    named = client.job_array(client.wait(client.submit_lens(PATHS[0], LABELS)))
    assert isinstance(named, JobArrays)
    with pytest.raises(ImportError):
        named.to_xarray()


def test_events_tell_of_every_item_once_and_end_with_the_job(client: Client) -> None:
    job = client.submit_embedding(PATHS * 5)
    events = list(client.events(job))
    assert [event.name for event in events if event.name == "done"] == ["done"]
    assert events[-1].data["id"] == job.id
    assert sorted(event.data["index"] for event in events if event.name == "item") == list(range(15))
    assert list(client.events(job, last_event_id=events[-1].id)) == []


def test_the_script_for_those_who_doubt_computes_the_same_logits(sync_client: Client, tmp_path: Path) -> None:
    client = sync_client
    labels: list[str | dict[str, Any]] = [
        "cyan ring",
        {"name": "diamond", "prompts": ["a red diamond", "A blue diamond"]},
        {"name": "rather a ring", "positive": ["a ring"], "negative": ["a square", "an arrow"]},
    ]
    job = client.wait(client.submit_lens(PATHS[0], labels, template="a photo of a {}"))
    (item,) = client.results(job)
    found = client.reproduce(job)
    assert found.body["labels"] == labels
    assert found.script is not None
    assert len(found.script.splitlines()) <= 30
    script = tmp_path / "reproduce.py"
    script.write_text(found.script)
    done = subprocess.run(
        [sys.executable, str(script), str(PATHS[0]), str(SAMPLES.parents[1] / "checkpoint")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    alone = [sys.executable, str(script), str(PATHS[0])]
    lost = subprocess.run(alone, capture_output=True, text=True, timeout=100, check=False)
    assert (lost.returncode, "say which folder holds" in lost.stderr) == (1, True)
    assert item.cosine is not None
    assert item.logit is not None
    theirs = json.loads(done.stdout)
    for label, cosine, logit in zip(item.labels, item.cosine[-1], item.logit, strict=True):
        assert abs(theirs[label]["cosine"] - cosine) < 1e-5, label
        if label == "rather a ring":
            assert (theirs[label]["logit"], np.isnan(logit)) == (None, True)
        else:
            assert abs(theirs[label]["logit"] - logit) < 1e-4, label


def test_a_job_is_submitted_again_by_the_body_that_it_was_made_of(client: Client) -> None:
    labels: list[str | dict[str, Any]] = ["cyan ring", {"name": "diamond", "prompts": ["a red diamond"]}]
    job = client.wait(client.submit_lens(PATHS[0], labels))
    found = client.reproduce(job)
    assert found.body["labels"] == labels
    again = client.wait(client.submit(found.body))
    assert client.to_numpy(again).labels == ("cyan ring", "diamond")


def test_the_example_draws_a_lens(service: RunningService, tmp_path: Path) -> None:
    example = SAMPLES.parents[2] / "client" / "examples" / "plot_layers.py"
    target = tmp_path / "layers.png"
    url = f"http://127.0.0.1:{service.port}"
    done = subprocess.run(
        [sys.executable, str(example), str(PATHS[0]), "cyan ring,red diamond", "-o", str(target)],
        env={**os.environ, "LENSQUEUE_URL": url, "LENSQUEUE_API_KEY": service.key},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cyan ring, from layer" in done.stdout
    with Image.open(target) as drawn:
        assert drawn.size == (70 + 2 * 110, 30 + 7 * 26)
