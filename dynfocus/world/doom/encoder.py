"""Train a tiny CLIP on the walks' frames, so that selectors can compare frames with questions.

Frames and texts share one space: a text lies near the frames, and near the patches, that show a kind of thing which it
names. The folder is a checkpoint of CLIP as transformers writes it, for ``dynfocus select --encoder``.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from tqdm import tqdm, trange
from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from dynfocus.device import one_thread
from dynfocus.settings import FrameRule
from dynfocus.video import read_media
from dynfocus.world.doom.dataset import SIGHTINGS, read_doom
from dynfocus.world.doom.things import CLEAR, GLIMPSE, KINDS
from dynfocus.world.towers.folders import write_folder
from dynfocus.world.towers.muon import optimizers, step_all
from dynfocus.world.towers.record import is_finished

CONTENT = 1  # another number whenever the same settings give another encoder
SIZE, PATCH = 96, 8
SIDE = SIZE // PATCH
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
SHOWN, ABSENT, UNKNOWN = 1.0, 0.0, -1.0
NOTHING = 0.05  # weight of a patch that shows no thing, as nearly all do


@dataclass(frozen=True)
class EncoderSettings:
    """Sizes and steps.

    Attributes:
        width, hidden, heads: of both transformers.
        layers, text_layers: of the vision and the text transformer.
        steps, batch: frames of a step.
        texts: questions of a step, beside the name of every kind.
        rate, matrix_rate: of AdamW and of Muon.
    """

    width: int = 64
    hidden: int = 128
    heads: int = 4
    layers: int = 2
    text_layers: int = 1
    steps: int = 600
    batch: int = 64
    texts: int = 26
    rate: float = 3e-3
    matrix_rate: float = 1e-2


@dataclass(frozen=True)
class LabelledWalks:
    """Frames of walks and what they show.

    Attributes:
        frames: uint8 [M, 96, 96, 3].
        shown: [M, kinds], 1 where a frame shows a kind clearly, 0 where it shows none of it, -1 between both.
        patches: [M, 144], the kind that a patch shows, or their number where it shows none.
    """

    frames: Tensor
    shown: Tensor
    patches: Tensor


class TextFrameEncoder(nn.Module):
    """A CLIP of transformers with its tokenizer, and the mean and spread of its frames' colors."""

    def __init__(self, settings: EncoderSettings, tokenizer: PreTrainedTokenizerFast, frames: Tensor) -> None:
        super().__init__()
        some = frames[:: max(1, len(frames) // 200)].float() / 255
        self.mean, self.std = some.mean((0, 1, 2)), some.std((0, 1, 2))
        self.layers, self.tokenizer = CLIPModel(_configure(settings, tokenizer)), tokenizer
        self.bias = nn.Parameter(torch.tensor(-2.0))  # of the sigmoid, as most names fit no frame
        self.nothing = nn.Parameter(torch.zeros(1))  # logit of a patch that shows no thing

    def embed_texts(self, texts: list[str]) -> Tensor:
        """The vectors ``[texts, d]`` of texts, of length 1."""
        coded = self.tokenizer(texts, padding=True, return_tensors="pt")
        states = self.layers.text_model(input_ids=coded["input_ids"], attention_mask=coded["attention_mask"])
        return F.normalize(self.layers.text_projection(states.pooler_output), dim=-1)

    def embed_frames(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors of frames ``[B, d]`` and of their patches ``[B, 144, d]``, of length 1."""
        pixels = ((frames / 255 - self.mean) / self.std).permute(0, 3, 1, 2)
        vision = self.layers.vision_model
        states = vision(pixels)
        patches = self.layers.visual_projection(vision.post_layernorm(states.last_hidden_state[:, 1:]))
        images = self.layers.visual_projection(states.pooler_output)
        return F.normalize(images, dim=-1), F.normalize(patches, dim=-1)

    def compute_loss(self, walks: LabelledWalks, rows: Tensor, asked: Sequence[tuple[str, list[int]]]) -> Tensor:
        """Compute the cross-entropy of whether each text fits each frame, and of what each patch shows."""
        texts = self.embed_texts([*KINDS, *(text for text, _ in asked)])
        images, patches = self.embed_frames(walks.frames[rows])
        scale, shown = self.layers.logit_scale.exp(), walks.shown[rows]
        truth = torch.cat([shown, *(_any_of(shown[:, kinds])[:, None] for _, kinds in asked)], 1)
        known = truth != UNKNOWN
        fits = F.binary_cross_entropy_with_logits((scale * images @ texts.T + self.bias)[known], truth[known])
        logits = scale * patches @ texts[: len(KINDS)].T
        logits = torch.cat([logits, self.nothing.expand(*logits.shape[:-1], 1)], -1)
        weights = torch.ones(len(KINDS) + 1)
        weights[-1] = NOTHING
        return fits + F.cross_entropy(logits.flatten(0, 1), walks.patches[rows].flatten(), weights)


def train_encoder(
    data: Path,
    out: Path,
    seed: int = 0,
    settings: EncoderSettings = EncoderSettings(),
    progress: bool = True,
) -> dict[str, Any]:
    """Train the encoder on the training walks of a written data set; a finished one is kept.

    Args:
        data: a folder of `dynfocus.world.doom.dataset.write_doom`.
        out: the folder to write; its ``tower.json`` says what it was made with, and how well it finds things.
        seed: of first weights and batches.
        settings: sizes and steps.
        progress: whether to show bars.

    Returns:
        of the validation walks ``kinds``: the mean over kinds of the chance that a frame which shows the kind clearly
        lies nearer to its name than one which shows none of it, and ``measured``, how many such kinds there are.

    Raises:
        ConfigError: if the folder holds an encoder made with other settings.
        DataError: if ``data`` is no such data set.
    """
    wanted = json.loads(json.dumps({"content": CONTENT, "seed": seed, "settings": asdict(settings)}))
    wanted |= {"world": read_doom(data)}
    if is_finished(out, wanted):
        return json.loads((out / "tower.json").read_text())["quality"]
    began = time.perf_counter()
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        questions = _read_questions(data)
        tokenizer = make_tokenizer([text for text, _ in questions])
        walks = read_walks(data, "train", progress)
        model = TextFrameEncoder(settings, tokenizer, walks.frames)
        losses = _train(model, walks, questions, settings, progress)
        quality = measure_encoder(model, read_walks(data, "val", progress))
    record = {**wanted, "seconds": round(time.perf_counter() - began, 1), "quality": quality}
    record |= {"loss": {"first": fmean(losses[:5]), "last": fmean(losses[-20:])}}
    write_folder(out, record, partial(_save, model=model))
    return quality


def make_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Make a tokenizer of whole words in small letters, from the words of some texts and of the names of all kinds."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator([*KINDS, *texts], trainer)
    ends = [(word, tokenizer.token_to_id(word)) for word in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    named = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **named)


def read_walks(data: Path, split: str, progress: bool = True) -> LabelledWalks:
    """Decode the walks of a split, and label their frames and patches."""
    rule = FrameRule(SIZE, fps=None)
    with (Path(data) / SIGHTINGS).open() as file:
        walks = [one for one in map(json.loads, file) if one["video"].startswith(f"videos/{split}_")]
    frames, shown, patches = [], [], []
    for walk in tqdm(walks, desc=f"frames of {split}", leave=False, disable=not progress):
        frames.append(read_media(Path(data) / walk["video"], rule).frames)
        for sightings in walk["frames"]:
            one, two = label_frame(sightings)
            shown.append(one)
            patches.append(two)
    return LabelledWalks(torch.cat(frames), torch.stack(shown), torch.stack(patches))


def label_frame(sightings: Sequence[Any]) -> tuple[Tensor, Tensor]:
    """Label what a frame shows of each kind, and which kind each of its patches shows, the smallest thing in front."""
    shown, patches = torch.full((len(KINDS),), ABSENT), torch.full((SIDE, SIDE), len(KINDS))
    things = []
    for name, share, boxes in sightings:
        if name not in KINDS or share < GLIMPSE:
            continue
        shown[KINDS.index(name)] = SHOWN if share >= CLEAR else UNKNOWN
        things += [(width * height, KINDS.index(name), x, y, width, height) for x, y, width, height in boxes]
    for area, kind, x, y, width, height in sorted(things, reverse=True):
        if area < CLEAR / 2:
            continue
        rows = slice(round(y * SIDE), max(round(y * SIDE) + 1, round((y + height) * SIDE)))
        columns = slice(round(x * SIDE), max(round(x * SIDE) + 1, round((x + width) * SIDE)))
        patches[rows, columns] = kind
    return shown, patches.flatten()


@torch.no_grad()
def measure_encoder(model: TextFrameEncoder, walks: LabelledWalks) -> dict[str, float]:
    """Measure how well the names of kinds tell the frames that show them from those that do not: a mean AUROC."""
    names = model.embed_texts(list(KINDS))
    images = torch.cat([model.embed_frames(part)[0] for part in walks.frames.split(100)])
    scores, found = images @ names.T, []
    for kind in range(len(KINDS)):
        with_it, without = (scores[walks.shown[:, kind] == value, kind] for value in (SHOWN, ABSENT))
        if len(with_it) and len(without):
            found.append((with_it[:, None] > without[None]).float().mean().item())
    return {"kinds": fmean(found) if found else 0.0, "measured": len(found)}


def _configure(settings: EncoderSettings, tokenizer: PreTrainedTokenizerFast) -> CLIPConfig:
    shared: dict[str, Any] = {
        "hidden_size": settings.width,
        "intermediate_size": settings.hidden,
        "projection_dim": settings.width,
    }
    shared |= {"num_attention_heads": settings.heads, "hidden_act": "gelu"}
    ends = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    text = {"vocab_size": len(tokenizer), "num_hidden_layers": settings.text_layers, "max_position_embeddings": 64}
    vision = {"image_size": SIZE, "patch_size": PATCH, "num_hidden_layers": settings.layers}
    return CLIPConfig(text_config=shared | text | ends, vision_config=shared | vision, projection_dim=settings.width)


def _read_questions(data: Path) -> list[tuple[str, list[int]]]:
    """Read the texts of the training questions, and which kinds each of them names."""
    with (Path(data) / "train.jsonl").open() as file:
        asked = [json.loads(line)["questions"][0] for line in file]
    return [(one["text"], [KINDS.index(name) for name in one["meta"]["names"]]) for one in asked]


def _train(
    model: TextFrameEncoder,
    walks: LabelledWalks,
    questions: list[tuple[str, list[int]]],
    settings: EncoderSettings,
    progress: bool,
) -> list[float]:
    """Train on frames that are drawn the more often, the rarer what they show; returns the loss of every step."""
    model.train()
    steppers = optimizers(model, settings.rate, settings.matrix_rate, settings.steps)
    chances, losses = _weigh_frames(walks), []
    for _ in (bar := trange(settings.steps, desc="encoder", disable=not progress)):
        rows = torch.multinomial(chances, settings.batch, replacement=True)
        asked = [questions[n] for n in torch.randint(len(questions), (settings.texts,)).tolist()]
        loss = model.compute_loss(walks, rows, asked)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        step_all(steppers)
        losses.append(loss.item())
        bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
    model.eval()
    return losses


def _any_of(shown: Tensor) -> Tensor:
    """What holds of several kinds together: shown if one is, absent if all are, else not known."""
    return torch.where((shown == SHOWN).any(1), SHOWN, torch.where((shown == ABSENT).all(1), ABSENT, UNKNOWN))


def _weigh_frames(walks: LabelledWalks) -> Tensor:
    """How often each frame is drawn: the rarer the kinds that it shows, the more often; those without any at times."""
    has = walks.shown == SHOWN
    return (has / has.sum(0).clamp(min=1).sqrt()).sum(1) + 0.2 / len(has) ** 0.5


def _save(folder: Path, model: TextFrameEncoder) -> None:
    model.layers.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    pixels = {"image_processor_type": "CLIPImageProcessor", "do_center_crop": False, "do_resize": True}
    pixels |= {"do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "rescale_factor": 1 / 255}
    pixels |= {"size": {"height": SIZE, "width": SIZE}, "image_mean": model.mean.tolist()}
    pixels |= {"image_std": model.std.tolist()}
    (folder / "preprocessor_config.json").write_text(json.dumps(pixels, indent=2) + "\n")
