"""The tokenizer: the world's words and some English whole, the rest letter by letter."""

import string
from typing import Any, Final

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from demo.captions import ENGLISH
from demo.world import COLOUR_NAMES, SHAPES

PAD: Final = "<pad>"
END: Final = "</s>"
UNKNOWN: Final = "<unk>"
SPACE: Final = "▁"
COMMON: Final = ["a", "an", "photo", "image", "picture", "object", "shape", "thing", "small", "large"]
WORDS: Final = tuple(dict.fromkeys((*COLOUR_NAMES, *SHAPES, *COMMON, *ENGLISH)))
VOCABULARY: Final = [
    *(PAD, END, UNKNOWN, SPACE),
    *(SPACE + word for word in WORDS),
    *string.ascii_lowercase,
    *string.digits,
]
WORD_SCORE: Final = -8.0
LETTER_SCORE: Final = -12.0


def build_tokenizer(positions: int) -> Any:
    """A fast tokenizer that lower-cases, drops punctuation, ends texts with "</s>" and pads with it too.

    It returns `input_ids` only: SigLIP pools at the last position and takes no mask.
    """
    tokenizer = Tokenizer(
        models.Unigram(
            [(word, _score(word)) for word in VOCABULARY],
            unk_id=VOCABULARY.index(UNKNOWN),
            byte_fallback=False,
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[^\p{L}\p{N}\s]"), " "),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always", split=True)
    tokenizer.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, VOCABULARY.index(END))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        unk_token=UNKNOWN,
        pad_token=END,
        model_max_length=positions,
        model_input_names=["input_ids"],
    )


def _score(word: str) -> float:
    whole = len(word) > 1 and not word.startswith("<")
    return WORD_SCORE if whole else LETTER_SCORE
