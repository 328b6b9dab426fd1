"""The LightningModule: the stages, and nothing of the method."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule
from safetensors.torch import save_file
from torch import Tensor
from transformers import get_cosine_schedule_with_warmup

from dynfocus.disk import whole
from dynfocus.errors import ConfigError, DataError
from dynfocus.evals.score import correct, hits
from dynfocus.metrics import AnswerScore
from dynfocus.nn.backbones import existing, load_tokenizer
from dynfocus.nn.model import DynFocusModel
from dynfocus.nn.selectors import SELECTORS, build_selector
from dynfocus.prompts import Turns
from dynfocus.records import Prediction
from dynfocus.settings import ConnectorSettings, FrameRule
from dynfocus.stages import STAGES, StageName
from dynfocus.types import Batch, VideoTokens

LEARNED, BLIND = "learned", "blind"


class DynFocusModule(LightningModule):
    """Trains and tests DynFocus in one of its stages.

    Args:
        encoders: folder of the vision encoder and the Q-Former (an InstructBLIP checkpoint).
        language_model: folder of the language model and its tokenizer.
        connector: settings of DPE and CCE.
        frame_rule: how frames are taken from a video.
        system_prompt: whether a conversation opens with the prompt's long sentence.
        slots: ``first`` or ``every`` turn of a conversation shows the video.
        stage: which of the stages runs: it says what trains.
        lr: learning rate; the stage's own where none is given.
        language_lr: learning rate of the language model, where it is another.
        init_from: projectors of stage 1 (a file), or a whole trained model (a folder), to start from.
        warmup: share of the steps before the learning rate is full.
        weight_decay: of AdamW.
        betas: of AdamW.
        arms: what a test compares: ``learned``, ``blind`` (no video), or any selector's name, which then keeps
            the frames of the same trained model at the same number of tokens.
        max_new_tokens: longest answer in validation and test.
    """

    def __init__(
        self,
        encoders: Path,
        language_model: Path,
        connector: ConnectorSettings = ConnectorSettings(),  # noqa: B008 (frozen)
        frame_rule: FrameRule = FrameRule(),  # noqa: B008 (frozen)
        system_prompt: bool = True,
        slots: Turns = "every",
        stage: StageName = "stage2",
        lr: float | None = None,
        language_lr: float | None = None,
        init_from: Path | None = None,
        warmup: float = 0.03,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        arms: tuple[str, ...] = (LEARNED,),
        max_new_tokens: int = 16,
    ) -> None:
        super().__init__()
        self.encoders, self.language_model, self.connector = encoders, language_model, connector
        self.reading = {"frame_rule": asdict(frame_rule), "system_prompt": system_prompt, "slots": slots}
        self.stage, self.init_from = STAGES[stage], init_from
        lr = self.stage.lr if lr is None else lr
        self.rates = {"connector": lr, "language_model": lr if language_lr is None else language_lr}
        self.warmup, self.weight_decay, self.betas = warmup, weight_decay, betas
        self.arms, self.max_new_tokens = tuple(arms), max_new_tokens
        known = {LEARNED, BLIND, *(SELECTORS if connector.encoder == "dynfocus" else ())}
        if unknown := [arm for arm in self.arms if arm not in known]:
            raise ConfigError(
                f"the arm {unknown[0]!r} with the encoder {connector.encoder}",
                f"one of {', '.join(sorted(known))}",
                "Correct model.arms.",
            )
        self.score = AnswerScore()
        self.model: DynFocusModel | None = None

    def configure_model(self) -> None:
        """Build towers and connector, take over what was trained before, and freeze what the stage does not train."""
        if self.model is not None:
            return
        if self.init_from is not None and existing(self.init_from).is_dir():
            self.model = DynFocusModel.from_folder(self.init_from, self.connector)
        else:
            self.model = DynFocusModel.from_towers(self.encoders, self.language_model, self.connector)
            if self.init_from is not None:
                self.model.load_projectors(self.init_from)
        self.tokenizer = load_tokenizer(self.language_model)
        for name, part in self.model.named_children():
            part.requires_grad_(name in self.stage.trains)

    def configure_optimizers(self) -> Any:
        assert self.model is not None
        groups = [
            {"params": list(getattr(self.model, part).parameters()), "lr": self.rates[part], "name": part}
            for part in self.stage.trains
        ]
        optimizer = torch.optim.AdamW(groups, betas=self.betas, weight_decay=self.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = get_cosine_schedule_with_warmup(optimizer, round(self.warmup * steps), steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        assert self.model is not None
        for name, part in self.model.named_children():
            part.train(name in self.stage.trains)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        assert self.model is not None
        loss, video = self.model(batch, step=self.global_step)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.input_ids))
        self.log("train/visual_tokens", video.mask.sum(-1).float().mean(), batch_size=len(batch.input_ids))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.score.update(self.predict_arm(batch, LEARNED))

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"val/{name}": value for name, value in self.score.compute().items()}, prog_bar=False)
        self.score.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> list[Prediction]:  # type: ignore[override]
        return [prediction for arm in self.arms for prediction in self.predict_arm(batch, arm)]

    def predict_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:
        return [asdict(prediction) for prediction in self.predict_arm(batch, LEARNED)]

    def predict_arm(self, batch: Batch, arm: str) -> list[Prediction]:
        """Answer every row's question greedily, with the frames kept as ``arm`` says."""
        assert self.model is not None
        with self.keeping(arm):
            ids, video = self.model.answer(
                self.model.without_video(batch) if arm == BLIND else batch, max_new_tokens=self.max_new_tokens
            )
        answers = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [self.prediction(batch, video, n, answer.strip(), arm) for n, answer in enumerate(answers)]

    def prediction(self, batch: Batch, video: VideoTokens, row: int, answer: str, arm: str) -> Prediction:
        annotation = batch.records[row]
        if not annotation.questions:
            raise DataError(
                f"row {annotation.id!r}, which does not say what its question asks for",
                "rows with `questions`, as the embedded world's have them",
                "Test on such rows, or ask single questions with `dynfocus ask`.",
            )
        question = annotation.questions[-1]
        slot = int((batch.slot_row == row).nonzero()[0]) if (batch.slot_row == row).any() else None
        seen = slot is not None and arm != BLIND
        kept = video.focus.frames[slot][video.focus.mask[slot]].tolist() if seen and video.focus is not None else []
        return Prediction(
            id=annotation.id,
            video=str(annotation.media),
            arm=arm,
            question=question.text,
            answer=answer,
            truth=question.answer,
            kind=question.kind,
            type=question.type,
            correct=correct(answer, question),
            kept=tuple(kept),
            hit=hits(kept, question) if seen and video.focus is not None else None,
            visual_tokens=int(video.mask[slot].sum()) if seen else 0,
        )

    def export(self, what: Literal["projectors", "model"], folder: Path) -> None:
        """Write F_fine and F_coarse to ``projectors.safetensors``, or the model and its tokenizers to ``model/``."""
        assert self.model is not None
        if what == "projectors":
            with whole(folder / "projectors.safetensors") as file:
                save_file({name: tensor.contiguous() for name, tensor in self.model.projectors().items()}, file)
            return
        self.model.config.reading = self.reading
        with whole(folder / "model") as part:
            self.model.save_pretrained(part)
            self.tokenizer.save_pretrained(part)
            load_tokenizer(self.encoders / "qformer_tokenizer").save_pretrained(part / "qformer_tokenizer")

    @contextmanager
    def keeping(self, arm: str) -> Iterator[None]:
        """For the time of a block, let another selector keep the frames of the same model."""
        assert self.model is not None
        if arm not in SELECTORS:
            yield
            return
        connector, settings = self.model.connector, replace(self.model.settings, selector=arm)
        learned = connector.select
        config = self.model.config
        widths = config.vision_config.hidden_size, config.qformer_config.hidden_size
        connector.select = build_selector(settings, *widths).to(self.device).eval()
        try:
            yield
        finally:
            connector.select = learned
