"""Small random checkpoints on disk, in the files and formats of the real ones."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import SiglipConfig, SiglipModel

COLOURS = ["red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "white", "black"]
SHAPES = ["circle", "square", "triangle", "star", "heart", "ring", "cross", "diamond", "crescent", "arrow"]
SENTENCES = [
    f"this is a photo of a {colour} {shape}, isn't it? yes!" for colour in COLOURS for shape in SHAPES
]


MOST_DRAWS = 1_000_003
"""A prime: rows of a matrix then never begin at the same place of the stretch."""


@dataclass(frozen=True)
class Sizes:
    """The dimensions of a checkpoint; `vocabulary` None is as many entries as its small tokenizer has."""

    # 48 pixels in patches of 14: 3 x 3 patches cover 42 of them, as 27 x 14 = 378 of 384 in the real so400m
    image_size: int = 48
    patch_size: int = 14
    width: int = 32
    layers: int = 3
    heads: int = 4
    mlp: int = 72
    vocabulary: int | None = None


SMALL = Sizes()


def save_siglip(folder: Path, sizes: Sizes = SMALL, dtype: torch.dtype = torch.float32) -> Path:
    """A random SigLIP with a sentencepiece tokenizer (`SiglipTokenizer`) and the bicubic filter."""
    folder.mkdir(parents=True)
    text = folder / "sentences.txt"
    text.write_text("\n".join(SENTENCES), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "spiece"),
        vocab_size=120,
        model_type="unigram",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "SiglipTokenizer", "model_max_length": 64})
    _write_preprocessor(folder, sizes, resample=3)
    _save_model(folder, sizes, vocabulary=120, pad=1, dtype=dtype)
    return folder


def save_siglip2(
    folder: Path,
    tokenizer_class: str = "GemmaTokenizer",
    *,
    sizes: Sizes = SMALL,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """A fixed-resolution SigLIP 2: the same towers, a Gemma tokenizer (eos 1, pad 0, no bos), bilinear."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *[f"<0x{byte:02X}>" for byte in range(256)]]
    capitals = [sentence.title() for sentence in SENTENCES]
    tokenizer.train_from_iterator(
        SENTENCES + capitals,
        trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": tokenizer_class,
            "add_bos_token": False,
            "add_eos_token": True,
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "padding_side": "left",
        },
    )
    _write_preprocessor(folder, sizes, resample=2, do_convert_rgb=None)
    _save_model(folder, sizes, vocabulary=tokenizer.get_vocab_size(), pad=0, dtype=dtype)
    return folder


def _save_model(folder: Path, sizes: Sizes, vocabulary: int, pad: int, dtype: torch.dtype) -> None:
    tower = {
        "hidden_size": sizes.width,
        "intermediate_size": sizes.mlp,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
    }
    config = SiglipConfig(
        text_config={
            **tower,
            "vocab_size": sizes.vocabulary or vocabulary,
            "projection_size": sizes.width,
            "pad_token_id": pad,
            "eos_token_id": 1,
            "bos_token_id": None,
        },
        vision_config={**tower, "image_size": sizes.image_size, "patch_size": sizes.patch_size},
    )
    # the library's own initial weights, which would be overwritten, take longer than all the rest
    with torch.device("meta"):
        model = SiglipModel(config).to(dtype)
    model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(7)
    # As large as a trained model's, so that no term of a formula is too small to be missed.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(min(parameter.numel(), MOST_DRAWS), generator=generator)
            if "norm" in name and name.endswith("weight"):
                _fill(parameter, 1.0 + 0.3 * noise)
            elif parameter.ndim > 1:
                _fill(parameter, noise * 1.5 / parameter.shape[-1] ** 0.5)
            else:
                _fill(parameter, 0.2 * noise)
        model.logit_scale.fill_(4.7)
        model.logit_bias.fill_(-12.9)
    model.save_pretrained(folder)


def _fill(parameter: torch.Tensor, stretch: torch.Tensor) -> None:
    """Repeat a stretch over a parameter: a billion draws take minutes, and a billion sums many seconds."""
    flat, stretch = parameter.view(-1), stretch.to(parameter.dtype)
    times, rest = divmod(len(flat), len(stretch))
    flat[: len(flat) - rest].view(times, -1).copy_(stretch)
    flat[len(flat) - rest :].copy_(stretch[:rest])


def _write_preprocessor(
    folder: Path, sizes: Sizes, resample: int, *, do_convert_rgb: bool | None = True
) -> None:
    _write(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "SiglipImageProcessor",
            "processor_class": "SiglipProcessor",
            "do_convert_rgb": do_convert_rgb,
            "do_resize": True,
            "do_rescale": True,
            "do_normalize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
            "resample": resample,
            "rescale_factor": 1 / 255,
            "size": {"height": sizes.image_size, "width": sizes.image_size},
        },
    )


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
