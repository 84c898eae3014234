"""Texts: what changes an embedding without anybody noticing, for each kind of tokenizer."""

import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, product
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from engine.errors import ModelLoadFailedError, TextTruncatedWarning
from engine.siglip import SiglipEngine
from engine.text import TEXT_BATCH, TEXT_POSITIONS, tokenize
from tests.numerics.checkpoints import save_siglip2

TEXT = "This is a photo of a Red Circle."


def test_texts_are_padded_on_the_right_to_64(engine: SiglipEngine) -> None:
    tokenizer = engine.processor.tokenizer
    ids, cut = tokenize(tokenizer, [TEXT, "star"])
    assert ids.shape == (2, TEXT_POSITIONS)
    assert cut == [False, False]
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    for row in ids.tolist():
        first_end = row.index(end)
        assert end not in row[:first_end]
        assert first_end > 0
        assert set(row[first_end + 1 :]) == {pad}


def test_case_makes_no_difference(engine: SiglipEngine) -> None:
    assert torch.equal(engine.embed_text(TEXT), engine.embed_text(TEXT.lower()))
    assert torch.equal(engine.embed_text(TEXT), engine.embed_text(TEXT.upper()))


def test_siglip2_s_tokenizer_alone_would_not_lowercase(siglip2: SiglipEngine) -> None:
    tokenizer = siglip2.processor.tokenizer
    assert tokenizer(TEXT)["input_ids"] != tokenizer(TEXT.lower())["input_ids"]
    assert tokenizer.padding_side == "left"


def test_punctuation_is_dropped_by_siglip_and_kept_by_siglip2(
    siglip: SiglipEngine, siglip2: SiglipEngine
) -> None:
    assert torch.equal(siglip.embed_text("red, circle!"), siglip.embed_text("red circle"))
    assert not torch.equal(siglip2.embed_text("red, circle!"), siglip2.embed_text("red circle"))


def test_siglip2_reads_the_same_tokens_whichever_class_its_repository_names(
    siglip2: SiglipEngine, tmp_path: Path
) -> None:
    folder = save_siglip2(tmp_path / "checkpoint", tokenizer_class="Siglip2Tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert type(tokenizer).__name__ == "Siglip2Tokenizer"
    expected, _ = tokenize(siglip2.processor.tokenizer, [TEXT, "blue star"])
    assert torch.equal(tokenize(tokenizer, [TEXT, "blue star"])[0], expected)


def test_anything_but_full_padding_changes_the_embedding(engine: SiglipEngine) -> None:
    """Why the arguments are forced: shorter padding or a mask is another input, not a cheaper one."""
    ids, _ = tokenize(engine.processor.tokenizer, [TEXT])
    ours = engine.embed_text(TEXT)
    short = ids[:, : ids[0].tolist().index(engine.processor.tokenizer.eos_token_id) + 1]
    mask = torch.zeros_like(ids)
    mask[:, : short.shape[1]] = 1
    with torch.no_grad():
        unpadded = engine.model.text_model(input_ids=short).pooler_output
        masked = engine.model.text_model(input_ids=ids, attention_mask=mask).pooler_output
    assert torch.cosine_similarity(ours, unpadded).item() < 0.99
    assert torch.cosine_similarity(ours, masked).item() < 0.9999


def test_a_long_text_warns_and_keeps_its_end_token(engine: SiglipEngine) -> None:
    text = "red circle " * 60
    with pytest.warns(TextTruncatedWarning, match="longer than 64 tokens"):
        ids, cut = tokenize(engine.processor.tokenizer, [text, "star"])
    assert cut == [True, False]
    assert ids[0, -1] == engine.processor.tokenizer.eos_token_id
    with pytest.warns(TextTruncatedWarning):
        directions = engine.embed_labels([text, "star"])
    assert directions.truncated.tolist() == [True, False]


def test_a_tokenizer_without_an_end_token_is_refused(siglip2_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(siglip2_folder, add_eos_token=False)
    with pytest.raises(ModelLoadFailedError, match="does not end"):
        tokenize(tokenizer, [TEXT])


def test_no_text_gives_no_row_and_an_empty_one_gives_one(engine: SiglipEngine) -> None:
    assert engine.embed_text([]).shape == (0, engine.config.hidden_size)
    assert np.isfinite(engine.embed_text("").numpy()).all()


def test_labels_are_embedded_in_steps(engine: SiglipEngine) -> None:
    steps: list[None] = []
    words = product(sorted(set(TEXT.removesuffix(".").split())), repeat=4)
    labels = [" ".join(some) for some in islice(words, 2 * TEXT_BATCH + 1)]
    stepped = engine.embed_labels(labels, step=lambda: steps.append(None))
    assert len(steps) == 3
    np.testing.assert_array_equal(stepped.unit, engine.embed_labels(labels).unit)


def test_threads_read_texts_with_one_tokenizer(demo: SiglipEngine) -> None:
    tokenizer = demo.processor.tokenizer
    texts = [f"a {word} ring" for word in ("red", "blue", "green")]
    alone = [tokenize(tokenizer, [text])[0] for text in texts]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda text: tokenize(tokenizer, [text])[0], texts * 200))
    finally:
        sys.setswitchinterval(interval)
    for answer, wanted in zip(answers, alone * 200, strict=True):
        assert torch.equal(answer, wanted)
