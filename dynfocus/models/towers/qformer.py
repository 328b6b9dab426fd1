"""The instruction encoder: InstructBLIP's Q-Former and its tokenizer, read from their files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import InstructBlipConfig, InstructBlipQFormerConfig, InstructBlipQFormerModel

from dynfocus.errors import CheckpointError, FeatureError
from dynfocus.models.towers import lavis
from dynfocus.models.towers.language import read_tokenizer
from dynfocus.models.towers.weights import Named, fill, read_json, read_part, read_settings, unfit

Mode = Literal["instruction", "frame"]
IMAGE_ONLY = (".crossattention.", ".intermediate_query.", ".output_query.")
TEXT_ONLY = (".intermediate.", ".output.")


class QueryTokens(nn.Module):
    """The learned tokens that read a frame."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(1, count, width))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.tokens, std=0.02)


class InstructionTower(nn.Module):
    """Instruction ids -> Q.

    In ``instruction`` mode Q is the Q-Former's text path alone, no query tokens and no image. In ``frame`` mode query
    tokens read each frame under the instruction, and Q is theirs, of every frame another.

    Args:
        config: the Q-Former's sizes.
        mode: either of the two.
        queries: how many query tokens there are.

    Departs: it stays frozen in both stages, where LLaMA-VID trains it in the second: the paper says nothing of it.
    """

    def __init__(self, config: InstructBlipQFormerConfig, mode: Mode = "instruction", queries: int = 32) -> None:
        super().__init__()
        self.encoder = InstructBlipQFormerModel(config)
        self.mode, self.queries = mode, queries
        if mode == "frame":
            self.query_tokens = QueryTokens(queries, config.hidden_size)

    def forward(self, ids: Int[Tensor, "I R"], mask: Bool[Tensor, "I R"]) -> Float[Tensor, "I R e"]:
        return self.encoder(input_ids=ids, attention_mask=mask.long()).last_hidden_state

    def look(
        self, rows: Float[Tensor, "T M d"], ids: Int[Tensor, "I R"], mask: Bool[Tensor, "I R"]
    ) -> Float[Tensor, "I T q e"]:
        """What the query tokens see in each frame under each instruction; ``rows`` are the encoder's, class token too.

        InstructBLIP's query tokens were trained on normed rows, see `VisionTower.rows`.

        Raises:
            FeatureError: if the rows are of another width than the Q-Former was trained with.
        """
        expected = self.encoder.config.encoder_hidden_size
        if rows.shape[-1] != expected:
            raise FeatureError(
                f"rows of width {rows.shape[-1]} for a Q-Former that reads width {expected}",
                "the vision encoder that the Q-Former was trained with",
                "Use its own vision encoder, or set instruction_mode to instruction.",
            )
        tokens = self.query_tokens.tokens
        frames, several = len(rows), len(ids) * len(rows)
        attended = torch.cat([mask.new_ones(len(ids), tokens.shape[1]), mask], 1)
        hidden = self.encoder(
            input_ids=repeat(ids, "i r -> (i t) r", t=frames),
            attention_mask=repeat(attended.long(), "i r -> (i t) r", t=frames),
            query_embeds=tokens.expand(several, -1, -1),
            encoder_hidden_states=repeat(rows.to(tokens.dtype), "t m d -> (i t) m d", i=len(ids)),
        ).last_hidden_state[:, : tokens.shape[1]]
        return rearrange(hidden, "(i t) q e -> i t q e", i=len(ids))

    def used(self) -> Iterator[nn.Parameter]:
        """The parameters that reach Q in this mode; the others must stay frozen whatever trains."""
        last = f"encoder.layer.{self.encoder.config.num_hidden_layers - 1}."
        for name, parameter in self.encoder.named_parameters():
            image_only = any(part in name for part in IMAGE_ONLY)
            text_end = name.startswith(tuple(last + part.removeprefix(".") for part in TEXT_ONLY))
            if not (image_only if self.mode == "instruction" else text_end):
                yield parameter
        if self.mode == "frame":
            yield from self.query_tokens.parameters()


def open_instruction(folder: Path) -> InstructBlipQFormerConfig:
    """The Q-Former's sizes in a folder of InstructBLIP, of LAVIS files, or of a trained model.

    Raises:
        CheckpointError: if the folder holds none.
    """
    folder = Path(folder)
    if lavis.is_lavis(folder):
        return lavis.open_instruction(folder)
    config = read_json(folder / "config.json")
    kind = config.get("model_type")
    if kind == "dynfocus":
        return InstructBlipQFormerConfig(**config["qformer_config"])
    if kind == "instructblip":
        whole: Any = read_settings(InstructBlipConfig, folder)
        return whole.qformer_config
    raise CheckpointError(
        f"a folder {folder} of the architecture {kind!r}",
        "a Q-Former, which InstructBLIP folders, LAVIS files and trained models hold",
        "Point to one of these; another vision encoder is given apart from it.",
    )


def load_instruction(folder: Path, mode: Mode = "instruction", dtype: torch.dtype = torch.float32) -> InstructionTower:
    """The instruction encoder on the CPU, in evaluation.

    Raises:
        CheckpointError: if its weights are not all there, or query tokens are asked for and absent.
    """
    folder = Path(folder)
    config = open_instruction(folder)
    encoder, queries = _sources(folder)
    result = {name: tensor for name, tensor in queries if not name} if mode == "frame" else {}
    if mode == "frame" and (not result or result[""].ndim != 3):
        raise CheckpointError(
            f"the folder {folder}, which holds no query tokens",
            "query tokens, which read the frames in frame mode",
            "Use an InstructBLIP checkpoint, or set instruction_mode to instruction.",
        )
    with torch.device("meta"):
        tower = InstructionTower(config, mode, *(tensor.shape[1] for tensor in result.values()))
    fill(tower.encoder, encoder, folder, dtype)
    if result:
        fill(tower.query_tokens, [("tokens", result[""])], folder, dtype)
    return tower.eval()


def _sources(folder: Path) -> tuple[Named, Named]:
    if lavis.is_lavis(folder):
        return lavis.read_instruction(folder), lavis.read_queries(folder)
    config = read_json(folder / "config.json")
    if config.get("model_type") != "dynfocus":
        return read_part(folder, "qformer."), read_part(folder, "query_tokens")
    if config.get("towers"):
        return _sources(Path(config["towers"]["encoders"]))
    return read_part(folder, "instruction.encoder."), read_part(folder, "instruction.query_tokens.tokens")


def load_instruction_tokenizer(folder: Path) -> Any:
    """The Q-Former's tokenizer, in ``qformer_tokenizer`` of its folder; it cuts at the left, where questions begin.

    A BERT tokenizer gets the token [DEC] that InstructBLIP adds to it.

    Raises:
        CheckpointError: if there is none, or it has more ids than the Q-Former has embeddings.
    """
    folder = Path(folder)
    tokenizer = read_tokenizer(folder / "qformer_tokenizer")
    if tokenizer.bos_token is None and tokenizer.cls_token is not None:
        tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    tokenizer.truncation_side = "left"
    room = open_instruction(folder).vocab_size
    if len(tokenizer) > room:
        raise unfit(folder, f"qformer_tokenizer has {len(tokenizer)} ids and the Q-Former {room} embeddings")
    return tokenizer
