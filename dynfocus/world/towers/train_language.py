"""Train the language model of the embedded world on symbolic scenes.

It stands for a language model that can already read, and its training is no ordinary text pretraining.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import trange
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from dynfocus.models.prompts import IGNORED
from dynfocus.world.recipes import EASY, WorldSettings
from dynfocus.world.towers.muon import optimizers, step_all
from dynfocus.world.towers.symbolic_rows import RowMaker, SymbolicRow
from dynfocus.world.towers.tower_settings import LanguageSettings

TRAINING_SEED = 1_000_000  # far from the seeds of the data set's splits
OFFSETS = (1, 2)
LOOK = 4.0
LOUD = 1.5  # the noise of a glitch, in standard deviations of the word embeddings


def language_config(settings: LanguageSettings, tokenizer: PreTrainedTokenizerBase) -> LlamaConfig:
    """Configure the Llama class, with biases in its attention, which `look_back` needs."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=2048,
        attention_bias=True,
        initializer_range=settings.init,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def look_back(model: LlamaForCausalLM) -> None:
    """Let the first heads of the first layer begin by looking at the tokens just before, through their biases alone.

    Rotary attention scores a distance n by the sum over frequencies f of strength^2 cos((n - offset) f). Order is read
    from the token before, and a model this small learns to look there late or never.
    """
    attention = model.model.layers[0].self_attn
    half = attention.head_dim // 2
    turn = model.model.rotary_emb.inv_freq
    with torch.no_grad():
        for head, offset in enumerate(OFFSETS[: model.config.num_attention_heads - 1]):
            part = slice(head * attention.head_dim, (head + 1) * attention.head_dim)
            attention.k_proj.bias[part] = LOOK * torch.cat([torch.ones(half), torch.zeros(half)])
            attention.q_proj.bias[part] = LOOK * torch.cat([torch.cos(offset * turn), -torch.sin(offset * turn)])


def collate(rows: list[SymbolicRow], pad: int) -> tuple[Int[Tensor, "B S"], Int[Tensor, "B S"], Float[Tensor, "M W"]]:
    """Collate rows into ids and labels, padded at the end, and all visual tokens' weights, one after another."""
    longest = max(len(row.ids) for row in rows)
    ids, labels = np.full((len(rows), longest), pad), np.full((len(rows), longest), IGNORED)
    for n, row in enumerate(rows):
        ids[n, : len(row.ids)], labels[n, : len(row.ids)] = row.ids, row.labels
    weights = np.concatenate([row.weights for row in rows]).astype(np.float32)
    return torch.from_numpy(ids), torch.from_numpy(labels), torch.from_numpy(weights)


def embed(
    table: Float[Tensor, "V D"], ids: Int[Tensor, "B S"], image_id: int, weights: Float[Tensor, "M W"], jitter: bool
) -> Float[Tensor, "B S D"]:
    """Embed words, with the visual tokens at the ``<image>`` ids: sums of word embeddings, and noise.

    With ``jitter`` their strength varies by up to 30 %, and one in fifty is lost.
    """
    if jitter:
        weights = weights * torch.empty(len(weights), 1).uniform_(0.7, 1.3) * (torch.rand(len(weights), 1) > 0.02)
    noise = torch.randn(len(weights), table.shape[1]) * table.detach().std() * LOUD
    visual = weights[:, :-1] @ table + weights[:, -1:] * noise
    return F.embedding(ids, table).masked_scatter((ids == image_id)[..., None], visual)


def answer_loss(model: LlamaForCausalLM, inputs: Float[Tensor, "B S D"], labels: Int[Tensor, "B S"]) -> Tensor:
    """Compute the cross-entropy of the answers' tokens; padding is at the end, where a causal model needs no mask."""
    hidden = model.model(inputs_embeds=inputs, use_cache=False).last_hidden_state[:, :-1]
    learned = labels[:, 1:] != IGNORED
    return F.cross_entropy(model.lm_head(hidden[learned]), labels[:, 1:][learned])


def shares(settings: LanguageSettings) -> tuple[dict[str, float], dict[str, float]]:
    """Return the kinds of rows and their shares: in the easy steps, and after them."""
    early = {"orders": settings.easy_orders, "repeats": settings.easy_repeats}
    easy = {"images": 0.9 - sum(early.values()), "texts": 0.1, **early}
    later = {kind: float(getattr(settings, kind)) for kind in ("images", "texts", "captions", "orders")}
    later["videos"] = 1 - sum(later.values()) - settings.repeats
    return easy, later | {"repeats": settings.repeats}


def make_pool(maker: RowMaker, seed: int, progress: bool, position: int) -> dict[str, list[SymbolicRow]]:
    """Make the rows to draw from, as many of each kind as its share needs."""
    easy, later = shares(maker.settings)
    counts = {
        kind: max(1, round(maker.settings.pool * max(share, easy.get(kind, 0.0) * maker.settings.easy)))
        for kind, share in later.items()
    }
    with trange(
        sum(counts.values()), desc="symbolic rows", disable=not progress, position=position, leave=False
    ) as bar:
        pool: dict[str, list[SymbolicRow]] = {}
        for kind, count in counts.items():
            pool[kind] = []
            for index in range(count):
                pool[kind].append(maker.kinds[kind](TRAINING_SEED + seed, index))
                bar.update()
    return pool


def train_language(
    settings: LanguageSettings,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    progress: bool = True,
    position: int = 0,
    world: WorldSettings = EASY,
) -> tuple[LlamaForCausalLM, list[float]]:
    """Train the language model: first on images, texts and short streams, then on whole videos among them.

    Returns:
        the model, and the loss of every step.
    """
    maker, rng = RowMaker(tokenizer, settings, world), np.random.default_rng(seed)
    pool = make_pool(maker, seed, progress, position)
    easy, later = shares(settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(language_config(settings, tokenizer)).train()
        look_back(model)
        steppers = optimizers(model, settings.rate, settings.matrix_rate, settings.steps)
        losses = []
        bar = trange(settings.steps, desc="language model", disable=not progress, position=position)
        for step in bar:
            mix = easy if step < settings.easy * settings.steps else later
            kind = str(rng.choice(list(mix), p=np.array(list(mix.values())) / sum(mix.values())))
            count = settings.batch * (1 if kind in ("videos", "captions") else 2)
            rows = [pool[kind][i] for i in rng.integers(len(pool[kind]), size=count)]
            ids, labels, weights = collate(rows, int(tokenizer.pad_token_id))
            inputs = embed(model.model.embed_tokens.weight, ids, maker.image_id, weights, jitter=True)
            loss = answer_loss(model, inputs, labels)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            step_all(steppers)
            losses.append(loss.item())
            bar.set_postfix(loss=f"{losses[-1]:.3f}", rows=kind, refresh=False)
    return model.eval(), losses
