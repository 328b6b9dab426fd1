"""Run a training step or an answer on tensors without numbers, and watch how many bytes are held at which moment."""

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any, Literal

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dynfocus.budget import budget
from dynfocus.method.dpe import EventPrototypeSelector
from dynfocus.method.sketch import cluster_patches, pool
from dynfocus.method.topk import mix
from dynfocus.models.lora import without_adapters
from dynfocus.models.model import DynFocusModel
from dynfocus.plan.towers import Towers, build_model, decoder_layers
from dynfocus.plan.training import Training, count_prompt_tokens
from dynfocus.settings import CHUNK, ConnectorSettings, count_kept, prototypes
from dynfocus.types import Focus, FrameSketch, SelectorInputs

Moment = Literal["encode", "forward", "recompute", "backward", "update", "connect", "prefill", "generate"]
QUESTION = 32  # R, tokens of an instruction


class Meter(TorchDispatchMode):
    """Count the bytes of all tensors that are made and still alive, by the part of the model that made them.

    The weights of ``model``, and gradients that are there already, are left out. ``worst`` is what was alive at each
    moment when it was most.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.part: str = ""
        self.moments: tuple[Moment, ...] = ()
        self.live: Counter[str] = Counter()
        self.worst: dict[Moment, Counter[str]] = {}
        tensors = [*model.parameters(), *model.buffers()]
        tensors += [weight.grad for weight in model.parameters() if weight.grad is not None]
        self.storages = weakref.WeakValueDictionary({id(t.untyped_storage()): t.untyped_storage() for t in tensors})

    def enter(self, part: str, *moments: Moment) -> None:
        """From now on ``part`` makes tensors; where moments are given, it is these."""
        self.part, self.moments = part, moments or self.moments
        self._compare()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and id(storage := tensor.untyped_storage()) not in self.storages:
                self.storages[id(storage)] = storage
                size = Counter({self.part: storage.nbytes()})
                self.live.update(size)
                weakref.finalize(storage, self.live.subtract, size)
                self._compare()
        return made

    def _compare(self) -> None:
        for moment in self.moments:
            if self.live.total() >= self.worst.get(moment, Counter()).total():
                self.worst[moment] = self.live.copy()


@contextmanager
def without_numbers(
    settings: ConnectorSettings, training: Training, towers: Towers, half_layers: bool = False
) -> Iterator[DynFocusModel]:
    """A model whose tensors hold no numbers, as do those that are made meanwhile; autocast takes them for a CPU's.

    With ``half_layers`` the language model's layers are in bfloat16; fake tensors cannot always be converted later.
    """
    with torch.device("meta"):
        model = build_model(settings, training, towers)
    if half_layers:
        decoder_layers(model).to(torch.bfloat16)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield model.to_empty(device="cpu")


def extrapolate(one: Counter[str], two: Counter[str], layers: int) -> Counter[str]:
    """What is counted of so many layers, which are alike, from the counts of one and of two."""
    return Counter({name: one[name] + (layers - 1) * (two[name] - one[name]) for name in one | two})


@cache
def watch_step(
    frames: int, settings: ConnectorSettings, training: Training, towers: Towers
) -> dict[Moment, Counter[str]]:
    """Bytes of activations at the moments of a training step, into gradients that are there already."""
    one, two = (_watch_step(frames, settings, training, towers.cut(layers)) for layers in (1, 2))
    return {moment: extrapolate(one[moment], two[moment], towers.language.num_hidden_layers) for moment in one}


def _watch_step(
    frames: int, settings: ConnectorSettings, training: Training, towers: Towers
) -> dict[Moment, Counter[str]]:
    mixed, gathered = training.precision != "32", training.strategy == "fsdp"
    with without_numbers(settings, training, towers, half_layers=gathered and mixed) as model:
        for weight in model.parameters():
            weight.grad = torch.empty_like(weight) if weight.requires_grad else None
        decoder, first = without_adapters(model.language_model).get_decoder(), decoder_layers(model)[0]
        with Meter(model) as meter:
            decoder.register_forward_pre_hook(lambda *_: meter.enter("language model"))
            decoder.register_forward_hook(lambda *_: meter.enter("logits"))

            def watch_end(*call: Any) -> None:
                call[-1].register_hook(lambda _: meter.enter("gradients", "recompute", "backward"))

            first.register_forward_hook(watch_end)
            meter.enter("connector", "forward")
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                embeds = embed(model, frames, training)
                embeds = embeds.bfloat16() if gathered and mixed else embeds
                logits = read(model, embeds, training.answer).flatten(0, 1).float()
                loss = cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long), reduction="sum")
            meter.enter("gradients", "recompute")
            loss.backward()
    return meter.worst


@cache
def watch_encoding(frames: int, settings: ConnectorSettings, training: Training, towers: Towers) -> Counter[str]:
    """Bytes at work while a chunk of frames is encoded and sketched; nothing of it is kept."""
    with without_numbers(settings, training, towers.cut(1)) as model, Meter(model) as meter:
        meter.enter("frames", "encode")
        encode(model, min(frames, CHUNK))
    return meter.worst["encode"]


@cache
def watch_answer(
    frames: int, settings: ConnectorSettings, training: Training, towers: Towers
) -> dict[Moment, Counter[str]]:
    """Bytes at work at the moments of an answer, the cache of keys and values left out."""
    with without_numbers(settings, training, towers.cut(1)) as model, Meter(model.eval()) as meter, torch.no_grad():
        meter.enter("connector", "connect")
        embeds = embed(model, frames, training)
        meter.enter("language model", "prefill")
        logits = read(model, embeds, 1).float()
        meter.enter("language model", "generate")
        del embeds, logits
    return meter.worst


def encode(model: DynFocusModel, frames: int) -> None:
    """Encode and sketch some frames, as `DynFocusModel.sketch` does."""
    with torch.no_grad():
        patches = model.vision(torch.empty(frames, model.vision.size, model.vision.size, 3, dtype=torch.uint8))
        pool(patches, model.settings.pooled)
        cluster_patches(patches, model.settings)


def embed(model: DynFocusModel, frames: int, training: Training) -> Tensor:
    """The embeddings of all rows' prompts, visual tokens in their places, as `DynFocusModel.embed` makes them."""
    tokens = connect(model, frames, training.rows * training.slots)
    words = torch.zeros(training.rows, count_prompt_tokens(frames, model.settings, training), dtype=torch.long)
    embeds = model.language_model.get_input_embeddings()(words) + (0.0 * tokens).sum()
    return embeds.masked_scatter((words > 0)[..., None], tokens.flatten(0, 1).clone().to(embeds.dtype))


def connect(model: DynFocusModel, frames: int, slots: int) -> Tensor:
    """The visual tokens of so many slots: as `DynFocusModel.connect`, but for what asks tensors for their numbers."""
    settings, mask = model.settings, torch.ones(slots, QUESTION, dtype=torch.bool)
    connector: Any = model.connector
    question = model.instruction(mask.long(), mask).to(next(connector.parameters()).dtype)
    pooled, grains = (
        torch.empty(slots, frames, rows, model.vision.width, dtype=getattr(torch, settings.sketch_dtype))
        for rows in (settings.pooled, settings.grains)
    )
    sketch = FrameSketch(pooled, grains, torch.ones(slots, frames, dtype=torch.bool))
    if settings.encoder == "average_pooling":
        return connector.fine(sketch.pooled).flatten(1, 2)
    focus = choose(model, sketch, question, mask)
    if settings.cone_rows == "random" and focus.patches is not None and settings.kept_tokens != 256:
        cones = connector.cones.fine(focus.patches[:, :, : settings.cones])  # which places they are of needs numbers
    else:
        cones = connector.cones(focus)
    rods = connector.rods(sketch, question, mask)
    tokens = torch.cat([cones.flatten(1, 2), rods.flatten(1, 2)], 1)
    return tokens[:, : budget(frames, settings).visual_tokens]


def choose(model: DynFocusModel, sketch: FrameSketch, question: Tensor, mask: Tensor) -> Focus:
    """The kept frames: as DPE chooses them, or, for selectors that may ask for numbers, any of them."""
    settings, select, (slots, frames) = model.settings, model.connector.select, sketch.mask.shape
    keep, events = count_kept(frames, settings), prototypes(frames, settings)
    if isinstance(select, EventPrototypeSelector):
        select.noise = lambda _, scores: scores.new_empty(slots, settings.samples, events)  # type: ignore[method-assign, assignment]
        inputs = SelectorInputs((frames,) * slots, (keep,) * slots, torch.arange(slots), 0, question, mask)
        focus = select(sketch, inputs)
    else:
        pooled, grains = sketch.pooled[:, :keep].float(), sketch.grains[:, :keep].float()
        focus = Focus(torch.arange(keep).expand(slots, keep), sketch.mask[:, :keep], pooled, grains)
    if not settings.reads_patches:
        return focus
    patches = sketch.pooled.new_empty(slots, events, settings.patches, model.vision.width)
    mixed = patches[:, :keep] if focus.mixture is None else mix(focus.mixture, patches.float())
    return replace(focus, patches=mixed)


def read(model: DynFocusModel, embeds: Tensor, last: int) -> Tensor:
    """The language model's logits at the ``last`` positions of prompts."""
    tokens = embeds.shape[1]
    mask = torch.ones(1, 1, tokens, tokens, dtype=torch.bool)  # transformers would ask a shorter one for its numbers
    places = torch.arange(tokens - last, tokens)
    return model.language_model(
        inputs_embeds=embeds, attention_mask=mask, use_cache=False, logits_to_keep=places
    ).logits
