"""Train the vision and instruction towers of the embedded world together, so that words and patches share a space."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from tqdm import trange
from transformers import (
    InstructBlipQFormerConfig,
    InstructBlipQFormerModel,
    InstructBlipVisionConfig,
    PreTrainedTokenizerBase,
)

from dynfocus.models.towers import VisionTower
from dynfocus.world.towers.frames import CATEGORIES, PATCH, SIZE, UNKNOWN, LabelledFrames
from dynfocus.world.towers.muon import optimizers, step_all
from dynfocus.world.towers.tower_settings import VisionSettings

BY_CELL = "t (r a c b) ... -> (t r c) (a b) ..."
INIT = 0.02  # the vision class's own default, 1e-10, would see the same in every image


class SharedSpace(nn.Module):
    """A vision tower and an instruction tower whose outputs are read by the instruction tower's word embeddings."""

    def __init__(self, settings: VisionSettings, tokenizer: PreTrainedTokenizerBase, mean: list, std: list) -> None:
        super().__init__()
        self.vision = VisionTower(vision_config(settings), mean, std)
        self.instruction = InstructBlipQFormerModel(
            instruction_config(settings, len(tokenizer), tokenizer.pad_token_id)
        )
        self.query_tokens = nn.Parameter(torch.randn(1, settings.queries, settings.width) * INIT)
        self.absent = nn.Parameter(torch.zeros(3))  # logit of "no thing here", for color, shape and cell
        vocabulary = tokenizer.get_vocab()
        self.words = [torch.tensor([vocabulary[word] for word in words]) for words in CATEGORIES.values()]
        nn.init.normal_(self.table, std=0.3)
        nn.init.normal_(self.vision.encoder.embeddings.position_embedding, std=0.1)

    @property
    def table(self) -> Tensor:
        """The word embeddings ``[V, d]``."""
        return self.instruction.embeddings.word_embeddings.weight

    def attributes(self, features: Tensor) -> list[Tensor]:
        """Compute the logits of each category's words, and of no thing but for places, for patches ``[..., d]``."""
        out = [features @ self.table[words].mT for words in self.words]
        absent = [bias.expand(*features.shape[:-1], 1) for bias in self.absent]
        return [torch.cat([a, b], -1) for a, b in zip(out[:3], absent, strict=True)] + [out[3]]

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Compute logits over the vocabulary for each instruction token."""
        return self.instruction(input_ids=ids, attention_mask=mask).last_hidden_state @ self.table.mT


def vision_config(settings: VisionSettings) -> InstructBlipVisionConfig:
    return InstructBlipVisionConfig(
        hidden_size=settings.width,
        intermediate_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        image_size=SIZE,
        patch_size=PATCH,
        initializer_range=INIT,
    )


def instruction_config(settings: VisionSettings, words: int, pad: int) -> InstructBlipQFormerConfig:
    return InstructBlipQFormerConfig(
        vocab_size=words,
        hidden_size=settings.width,
        num_hidden_layers=settings.instruction_layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.hidden,
        encoder_hidden_size=settings.width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=512,
        pad_token_id=pad,
        initializer_range=0.1,
    )


def compute_loss(model: SharedSpace, frames: Tensor, labels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Compute the cross-entropy of patches' words and of instruction tokens, and a pull to features of variance 1."""
    features = model.vision(frames)
    parts = [
        F.cross_entropy(rearrange(logits, "t n c -> t c n"), labels[..., i], ignore_index=UNKNOWN)
        for i, logits in enumerate(model.attributes(features))
    ]
    keep = mask.bool()
    words = F.cross_entropy(model.read(ids, mask)[keep], ids[keep])
    scale = features.var().log().square()
    return sum(parts, torch.zeros(())) + parts[1] + 0.2 * words + 0.1 * scale


def train_vision(
    settings: VisionSettings,
    tokenizer: PreTrainedTokenizerBase,
    data: LabelledFrames,
    texts: list[str],
    seed: int,
    progress: bool = True,
    position: int = 0,
) -> tuple[SharedSpace, list[float]]:
    """Train both towers; half of every batch are frames with things.

    Returns:
        the towers, and the loss of every step.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pixels = data.frames.float() / 255
        mean, std = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))
        model = SharedSpace(settings, tokenizer, mean.tolist(), std.tolist())
        coded = tokenizer(texts, padding=True, return_tensors="pt")
        eventful, plain = data.eventful.nonzero().flatten(), (~data.eventful).nonzero().flatten()
        steppers = optimizers(model, settings.rate, settings.matrix_rate, settings.steps)
        losses = []
        bar = trange(settings.steps, desc="vision and instruction towers", disable=not progress, position=position)
        for _ in bar:
            half = settings.batch // 2
            indices = torch.cat([of[torch.randint(len(of), (half,))] for of in (eventful, plain) if len(of)])
            some = torch.randint(len(texts), (settings.texts,))
            loss = compute_loss(
                model,
                data.frames[indices],
                data.labels[indices],
                coded["input_ids"][some],
                coded["attention_mask"][some],
            )
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            step_all(steppers)
            losses.append(loss.item())
            bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
    return model.eval(), losses


@torch.no_grad()
def vision_quality(model: SharedSpace, data: LabelledFrames) -> dict[str, float]:
    """Measure the share of things whose color, shape and cell, and of frames whose place, the mean logits give.

    A thing's patches may also answer that there is no thing. ``patch`` is the share of patches with every word right.
    """
    right: dict[str, list[Tensor]] = {name: [] for name in (*CATEGORIES, "patch")}
    for frames, labels in zip(data.frames.split(100), data.labels.split(100), strict=True):
        logits = model.attributes(model.vision(frames))
        has_place = labels[..., 3] != UNKNOWN
        hits = [a.argmax(-1) == labels[..., i] for i, a in enumerate(logits)]
        right["patch"].append((hits[0] & hits[1] & hits[2] & (hits[3] | ~has_place)).flatten())
        right["place"].append((logits[3].mean(1).argmax(-1) == labels[:, 0, 3])[has_place[:, 0]])
        for i, name in enumerate(("color", "shape", "cell")):
            answers, truth = (rearrange(x, BY_CELL, r=3, a=2, b=2, c=3) for x in (logits[i], labels[..., i]))
            thing = truth[:, 0] < len(CATEGORIES[name])
            right[name].append((answers.mean(1).argmax(-1) == truth[:, 0])[thing])
    return {name: torch.cat(hits).float().mean().item() for name, hits in right.items()}


@torch.no_grad()
def instruction_quality(model: SharedSpace, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> float:
    """Measure the share of instruction tokens whose output is nearest to their own word."""
    coded = tokenizer(texts, padding=True, return_tensors="pt")
    answers = model.read(coded["input_ids"], coded["attention_mask"]).argmax(-1)
    return (answers == coded["input_ids"])[coded["attention_mask"].bool()].float().mean().item()
