"""Judge answers with a language model on this machine: its folder, and its own chat template."""

from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

import torch

from dynfocus.errors import ConfigError
from dynfocus.models.towers.language import load_language_model, read_tokenizer

NEW_TOKENS = 512


class LocalJudge:
    """A causal language model of transformers that replies to prompts, greedily; `dynfocus.evals` judges with it.

    It computes in bfloat16 on a GPU, where there is one, else in fp32.

    Args:
        folder: with its weights, its tokenizer and its chat template.
        weights: the digest of the folder, by which replies that are kept are known.

    Raises:
        CheckpointError: if weights or tokenizer are absent or broken.
        ConfigError: if there is no chat template.
    """

    kind, workers = "local", 1

    def __init__(self, folder: Path, weights: str) -> None:
        self.model = Path(folder).resolve().name
        self.settings: Mapping[str, Any] = {"weights": weights, "max_new_tokens": NEW_TOKENS}
        self.tokenizer = read_tokenizer(folder)
        if not self.tokenizer.chat_template:
            raise ConfigError(
                f"{folder}, whose tokenizer has no chat template",
                "a language model that was taught to chat",
                "Name another folder with --model.",
            )
        place, kind = ("cuda", torch.bfloat16) if torch.cuda.is_available() else ("cpu", torch.float32)
        self.language_model: Any = load_language_model(folder, dtype=kind).to(place).eval()  # type: ignore[arg-type]
        self.context: int | None = getattr(self.language_model.config, "max_position_embeddings", None)

    @torch.inference_mode()
    def ask(self, prompt: str, stop: Event) -> str:
        """Reply to one prompt; raises ValueError where the prompt leaves no room in the context for a reply."""
        messages = [{"role": "user", "content": prompt}]
        inputs = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self.language_model.device)
        length = inputs["input_ids"].shape[1]
        room = NEW_TOKENS if self.context is None else min(NEW_TOKENS, self.context - length)
        if room <= 0:
            raise ValueError(f"a prompt of {length} tokens for a context of {self.context}")
        # What a folder says of sampling is left aside: the same prompt has the same reply.
        options = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        ids = self.language_model.generate(**inputs, max_new_tokens=room, **options)
        return self.tokenizer.decode(ids[0, length:], skip_special_tokens=True)
