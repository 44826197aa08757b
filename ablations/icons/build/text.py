"""The text encoder: a T5 encoder and fast tokenizer in transformers' own formats, trained on the caption grammar.

It learns by filling masked words and by naming, at every noun, that object's class, color, count and relation. The
naming heads are thrown away; what they asked for stays in the features, as it does in a large T5 that has read text.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ablations.icons.glyphs import COLORS, GLYPHS
from ablations.icons.scenes import NUMBERS, article, plural
from ablations.icons.world import RELATIONS

PAD, END, UNKNOWN, MASK = 0, 1, 2, 3
TARGETS = {"object": len(GLYPHS), "color": len(COLORS) + 1, "count": 4, "relation": 9}


@dataclass(frozen=True)
class Tagged:
    """A caption; `nouns` has for each noun the index of its last letter and its four labels in the order of TARGETS."""

    text: str
    nouns: tuple[tuple[int, tuple[int, int, int, int]], ...]


def random_caption(rng: np.random.Generator) -> Tagged:
    """A caption of the grammar over all classes with a glyph: one or two things, maybe colored, counted or related."""
    names, colors = list(GLYPHS), list(COLORS)
    text, nouns = "a photo of ", []
    things = 1 if rng.random() < 0.35 else 2
    relation = int(rng.integers(4)) if things == 2 and rng.random() < 0.5 else None
    for index in range(things):
        kind = int(rng.integers(len(names)))
        color = int(rng.integers(len(colors))) if rng.random() < 0.6 else None
        count = int(rng.integers(2, 5)) if rng.random() < (0.4 if things == 1 else 0.1) else 1
        words = (f"{colors[color]} " if color is not None else "") + names[kind]
        words = article(words) if count == 1 else f"{NUMBERS[count]} {plural(words)}"
        if index:
            text += " and " if relation is None else f" {RELATIONS[relation]} "
        text += words
        role = 0 if relation is None else 1 + relation + (4 if index else 0)
        nouns.append((len(text) - 1, (kind, len(colors) if color is None else color, count - 1, role)))
    return Tagged(text, tuple(nouns))


def captions(seed: int | tuple[int, ...], count: int, *, held_out: bool) -> list[Tagged]:
    """Random captions; a tenth of all texts, chosen by hash, is held out from training and kept for the probe."""
    rng = np.random.default_rng(seed)
    found: list[Tagged] = []
    while len(found) < count:
        caption = random_caption(rng)
        if (hashlib.sha256(caption.text.encode()).digest()[0] < 26) == held_out:
            found.append(caption)
    return found


def train_tokenizer(seed: int):
    """A byte-level BPE of 768 pieces: the grammar's words become single tokens, any other text stays encodable."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=768, special_tokens=special, initial_alphabet=alphabet)
    corpus = [caption.text for caption in captions((seed, 21), 20_000, held_out=False)]
    corpus += [f"a photo of a {color}-colored object" for color in COLORS] * 50
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", END)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", mask_token="<mask>",
        model_max_length=128,
    )  # fmt: skip


def train_text(out: Path, *, seed: int = 0, steps: int = 4000) -> dict[str, Any]:
    """Train tokenizer and encoder, save both under `out`; returns the probe's accuracies on held-out captions."""
    import torch
    from torch import nn
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(seed)
    tokenizer, started = train_tokenizer(seed), time.perf_counter()
    config = T5Config(  # type: ignore[call-arg]  # some settings are declared by its base class only
        vocab_size=len(tokenizer), d_model=64, d_kv=16, d_ff=192, num_layers=3, num_heads=4, dropout_rate=0.0,
        relative_attention_num_buckets=16, relative_attention_max_distance=32, feed_forward_proj="gated-gelu",
        pad_token_id=PAD, eos_token_id=END, tie_word_embeddings=False,
    )  # fmt: skip
    encoder = T5EncoderModel(config)
    heads = nn.ModuleDict({name: nn.Linear(64, size) for name, size in TARGETS.items()} | {"word": nn.Linear(64, 768)})
    weights = [*encoder.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        batch = captions((seed, 22, step), 128, held_out=False)
        ids, mask, rows, columns, labels = encode(tokenizer, batch)
        # Words are hidden in half of the captions; the other half is read whole, as it will be in use.
        hidden = (torch.rand(ids.shape) < 0.2) & mask.bool() & (torch.arange(len(batch)) % 2 == 0)[:, None]
        features = encoder(ids.masked_fill(hidden, MASK), mask).last_hidden_state
        loss = nn.functional.cross_entropy(heads["word"](features[hidden]), ids[hidden])
        whole = rows % 2 == 1
        at_nouns = features[rows[whole], columns[whole]]
        for index, name in enumerate(TARGETS):
            loss = loss + nn.functional.cross_entropy(heads[name](at_nouns), labels[whole, index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if step % 500 == 0:
            print(f"text {step} loss {loss.item():.4f}", flush=True)
    encoder.eval()
    _normalize_scale(encoder, tokenizer, seed)
    quality = {"probe_accuracy": probe(encoder, tokenizer, seed), "seed": seed, "steps": steps}
    encoder.save_pretrained(out)
    tokenizer.save_pretrained(out)
    parameters = sum(weight.numel() for weight in encoder.parameters())
    return quality | {"parameters": parameters, "train_seconds": round(time.perf_counter() - started)}


def encode(tokenizer, batch: list[Tagged]):
    """Token ids and mask (B, L), and for all nouns their row, their last token's column and their labels (M, 4)."""
    import torch

    encoded = tokenizer(
        [caption.text for caption in batch], padding=True, return_tensors="pt", return_offsets_mapping=True
    )
    ends = encoded["offset_mapping"][..., 1]
    rows, columns, labels = [], [], []
    for row, caption in enumerate(batch):
        for last_letter, classes in caption.nouns:
            rows.append(row)
            columns.append(int((ends[row] > last_letter).int().argmax()))
            labels.append(classes)
    return (
        encoded["input_ids"],
        encoded["attention_mask"],
        torch.tensor(rows),
        torch.tensor(columns),
        torch.tensor(labels),
    )


def _normalize_scale(encoder, tokenizer, seed: int) -> None:
    """Fold one number into the last norm so that features have unit variance, whatever the training left them at."""
    import torch

    ids, mask, *_ = encode(tokenizer, captions((seed, 23), 2000, held_out=False))
    with torch.no_grad():
        spread = encoder(ids, mask).last_hidden_state[mask.bool()].std()
        encoder.encoder.final_layer_norm.weight /= spread


def probe(encoder, tokenizer, seed: int) -> dict[str, float]:
    """Accuracy, on captions never trained on, of linear classifiers fitted to the frozen features at each noun."""
    import torch
    from torch import nn

    def features(batch):
        ids, mask, rows, columns, labels = encode(tokenizer, batch)
        with torch.no_grad():
            return encoder(ids, mask).last_hidden_state[rows, columns], labels

    torch.manual_seed(seed)
    x, y = features(captions((seed, 24), 8000, held_out=False))
    x_new, y_new = features(captions((seed, 25), 2000, held_out=True))
    accuracy = {}
    for index, (name, size) in enumerate(TARGETS.items()):
        linear = nn.Linear(x.shape[1], size)
        optimizer = torch.optim.Adam(linear.parameters(), lr=0.05)
        for _ in range(300):
            optimizer.zero_grad()
            nn.functional.cross_entropy(linear(x), y[:, index]).backward()
            optimizer.step()
        accuracy[name] = round((linear(x_new).argmax(1) == y_new[:, index]).float().mean().item(), 4)
    return accuracy
