"""The LightningModule: the stages, and nothing of the method."""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from dynfocus.device import half_precision
from dynfocus.errors import ConfigError, DataError
from dynfocus.evals.benchmarks import find_benchmark
from dynfocus.evals.summary import score_hits
from dynfocus.method.selection import list_frame_scores
from dynfocus.models.loading import read_trained_config
from dynfocus.models.model import DynFocusModel
from dynfocus.models.model_card import read_training, write_card
from dynfocus.models.processor import DynFocusProcessor
from dynfocus.models.prompts import TEMPLATES, Turns, check_tokenizer
from dynfocus.models.sampling import make_processors
from dynfocus.models.towers import Attention, load_instruction_tokenizer, load_tokenizer
from dynfocus.records.atomic import atomic_write
from dynfocus.records.predictions import BLIND, LEARNED, Prediction
from dynfocus.settings import (
    STAGES,
    ConnectorSettings,
    FrameRule,
    LoraSettings,
    Sampling,
    SelectorChoice,
    StageName,
    TemplateName,
    restore_settings,
)
from dynfocus.train.arms import Arms
from dynfocus.train.build import Building
from dynfocus.train.fsdp import check_strategy, gather_weights, language_layers, shard
from dynfocus.train.metrics import AnswerScore
from dynfocus.train.optim import OptimizerName, cosine_after_warmup, optimizer_class
from dynfocus.train.resume import Resumable, to_plain
from dynfocus.train.summary import overview
from dynfocus.types import Batch, VideoTokens

PATHS = ("encoders", "language_model", "vision", "init_from")
SETTINGS = {"connector": ConnectorSettings, "frame_rule": FrameRule, "lora": LoraSettings, "sampling": Sampling}


class DynFocusModule(Resumable):
    """Trains and tests DynFocus in one of its stages.

    Args:
        encoders: folder of the vision encoder and the Q-Former (an InstructBLIP checkpoint, or LAVIS files).
        language_model: folder of the language model and its tokenizer.
        connector: settings of DPE and CCE.
        frame_rule: how frames are taken from a video.
        system_prompt: whether a conversation opens with the prompt's long sentence.
        template: how questions and answers are written after stage 1: as Vicuna's, or in the language model's own
            chat template.
        slots: ``first`` or ``every`` turn of a conversation shows the video.
        stage: which of the stages runs: it says what trains.
        vision: folder of another vision encoder, such as CLIP's or SigLIP's.
        attention: how the language model computes attention; flash attention must be installed.
        quantize: ``nf4`` holds the frozen language model in 4 bits.
        lora: adapters that are trained instead of the language model's own weights.
        train_instruction: train the Q-Former too, as LLaMA-VID does; the paper says nothing of it.
        activation_checkpointing: compute the language model's inner activations twice instead of keeping them.
        shard_towers: where the model is sharded, shard the frozen encoders too.
        lr: learning rate; the stage's own where none is given.
        language_lr: learning rate of the language model, where it is another.
        init_from: projectors of stage 1 (a file), or a whole trained model (a folder), to start from.
        warmup: share of the steps before the learning rate is full.
        optimizer: AdamW with its states in fp32, or in 8 bits (bitsandbytes).
        weight_decay: of AdamW.
        betas: of AdamW.
        arms: what a test compares: ``learned``, ``blind`` (no video), or any selector as ``connector.selector`` takes
            it, which then keeps the frames of the same trained model at the same number of tokens; see `Arms`.
        max_new_tokens: longest answer in validation and test.
        sampling: how answers of validation and test are drawn; greedily by default.
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
        vision: Path | None = None,
        attention: Attention = "sdpa",
        quantize: Literal["nf4"] | None = None,
        lora: LoraSettings | None = None,
        train_instruction: bool = False,
        activation_checkpointing: bool = False,
        shard_towers: bool = False,
        lr: float | None = None,
        language_lr: float | None = None,
        init_from: Path | None = None,
        warmup: float = 0.03,
        optimizer: OptimizerName = "adamw",
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        arms: tuple[SelectorChoice, ...] = (LEARNED,),
        max_new_tokens: int = 16,
        template: TemplateName = "vicuna_v1",
        sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        self.save_hyperparameters(to_plain({n: v for n, v in locals().items() if n not in ("self", "__class__")}))
        self.building = Building(
            *(encoders, language_model, connector, stage, vision, init_from, attention, quantize, lora),
            *(train_instruction, activation_checkpointing),
        )
        self.shard_towers = shard_towers
        self.reading: dict[str, Any] = {"frame_rule": frame_rule, "system_prompt": system_prompt, "slots": slots}
        self.reading["prompt"] = template
        lr = STAGES[stage].lr if lr is None else lr
        self.rates = {"connector": lr, "language_model": lr if language_lr is None else language_lr, "instruction": lr}
        self.warmup, self.optimizer, self.weight_decay, self.betas = warmup, optimizer, weight_decay, betas
        self.arms, self.max_new_tokens, self.sampling = Arms(arms, connector), max_new_tokens, sampling
        self.model: DynFocusModel | None = None
        self.learned = torch.zeros(2)  # since the last step of the optimizer: the sum of losses, the target tokens

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Path, **changes: Any) -> "DynFocusModule":  # type: ignore[override]
        """The module of a checkpoint, on the CPU, its frozen parts from their own files; ``changes`` are arguments."""
        checkpoint = torch.load(checkpoint_path, map_location="cpu", weights_only=True)
        parameters: dict[str, Any] = checkpoint["hyper_parameters"]
        made: dict[str, Any] = {name: Path(parameters[name]) for name in PATHS if parameters[name] is not None}
        made |= {
            name: restore_settings(kind, parameters[name])
            for name, kind in SETTINGS.items()
            if parameters.get(name) is not None
        }
        module = restore_settings(cls, parameters | made | changes)
        module.configure_model()
        module.on_load_checkpoint(checkpoint)
        module.load_state_dict(checkpoint["state_dict"], strict=False)
        module.generators = None  # a new run draws from its own
        return module

    def setup(self, stage: str) -> None:
        """Count answers as the data's benchmark does."""
        data = getattr(self.trainer, "datamodule", None)
        self.score = AnswerScore(find_benchmark(getattr(data, "benchmark", "world")))

    def configure_model(self) -> None:
        """Build the stage's model, and shard it where the strategy has a mesh of processes."""
        if self.model is not None:
            return
        trainer = self._trainer
        precision = "32-true" if trainer is None else str(trainer.precision)
        self.model = self.building.build(precision, None if trainer is None else trainer.strategy.root_device)
        self.tokenizer = load_tokenizer(self.building.language_model)
        check_tokenizer(self.tokenizer, TEMPLATES[self.reading["prompt"]])
        if self.model.config.image_token_id != self.tokenizer.convert_tokens_to_ids("<image>"):
            raise ConfigError(
                f"{self.building.init_from}, trained with another tokenizer than {self.building.language_model}",
                "the language model that it was trained with",
                "Set model.language_model to that one's folder.",
            )
        start, is_fit = self.building.init_from, trainer is not None and trainer.state.fn == "fit"
        if start is not None and start.is_dir() and not is_fit:
            self.arms.trained = read_trained_config(start).settings.selector
        if trainer is not None:
            check_strategy(
                trainer.strategy, (self.model.towers or {}).get("quantize"), self.optimizer, self.shard_towers
            )
        if self.device_mesh is not None:
            shard(self.model, self.device_mesh["data_parallel"], half_precision(precision), self.shard_towers)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.arms.trained = checkpoint["hyper_parameters"]["connector"]["selector"]

    def configure_optimizers(self) -> Any:
        assert self.model is not None
        groups = [
            {"params": [w for w in getattr(self.model, part).parameters() if w.requires_grad], "lr": rate, "name": part}
            for part, rate in self.rates.items()
            if part in self.building.trains
        ]
        kind = optimizer_class(self.optimizer, self.device, str(self.trainer.precision))
        optimizer = kind(groups, betas=self.betas, weight_decay=self.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        factor = partial(cosine_after_warmup, warmup=round(self.warmup * steps), steps=steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        assert self.model is not None
        rank_zero_info(overview(self.model, self.rates))

    def on_train_start(self) -> None:
        assert self.model is not None
        for name, part in self.model.named_children():
            part.train(name in self.building.trains)
        if self.building.activation_checkpointing:
            for layer in language_layers(self.model):
                layer.training = True  # not its inner parts: it says no more than that activations are not kept

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The sum of the batch's losses; it becomes a mean when all processes and accumulated batches are counted."""
        assert self.model is not None
        loss, _ = self.model(batch, step=self.global_step)
        total, targets = loss * batch.targets, batch.targets
        self.learned = self.learned.to(total.device) + torch.stack([total.detach(), targets])
        return total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Make the gradients those of the mean loss over the target tokens of all processes and accumulated batches."""
        total, targets = self.trainer.strategy.reduce(self.learned, reduce_op="sum").tolist()
        self.learned = torch.zeros(2)
        # Lightning has divided by the accumulated batches, and the strategy by the processes.
        share = self.trainer.accumulate_grad_batches * self.trainer.world_size / max(targets, 1.0)
        for group in optimizer.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.grad.mul_(share)
        self.log("train/loss", total / max(targets, 1.0), prog_bar=True)

    def validation_step(self, batch: Batch, batch_idx: int) -> list[Prediction]:  # type: ignore[override]
        predictions = self.predict_arm(batch, LEARNED)
        self.score.update(predictions)
        return predictions

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"val/{name}": value for name, value in self.score.compute().items()}, sync_dist=True)
        self.score.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> list[Prediction]:  # type: ignore[override]
        assert self.model is not None
        arms = self.arms.names(self.model).values()
        return [prediction for arm in arms for prediction in self.predict_arm(batch, arm)]

    def predict_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Any]]:
        return [asdict(prediction) for prediction in self.predict_arm(batch, LEARNED)]

    @property
    def own_arm(self) -> str:
        """The name in results of the selector that the model runs with."""
        assert self.model is not None
        return self.arms.name(LEARNED, self.model)

    def predict_arm(self, batch: Batch, arm: str) -> list[Prediction]:
        """Answer every row's question, with the frames kept as ``arm`` says."""
        assert self.model is not None
        with self.arms.use(arm, self.model):
            answers, cut, video = self.answer(self.model.without_video(batch) if arm == BLIND else batch)
        asked = [n for n, record in enumerate(batch.records) if record is not None]
        name = self.arms.name(arm, self.model)
        return [replace(self.prediction(batch, video, n, answers[n], name), cut=cut[n]) for n in asked]

    def answer(self, batch: Batch) -> tuple[list[str], list[bool], VideoTokens]:
        """The answer to every row's question, whether it was cut off, and the visual tokens it was read from.

        What is drawn for a question is the same for every arm, so that arms differ by their frames alone.
        """
        assert self.model is not None
        keys = ["" if record is None else record.id for record in batch.records]
        drawn = make_processors(self.sampling, keys)
        ids, video = self.model.answer(batch, max_new_tokens=self.max_new_tokens, logits_processor=drawn)
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts], self.model.find_cut(ids), video

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
        has_video = slot is not None and arm != BLIND
        kept = (
            video.focus.frames[slot][video.focus.mask[slot]].tolist() if has_video and video.focus is not None else []
        )
        seconds = tuple(batch.seconds[row].round(3).tolist()) if has_video and batch.seconds else ()
        scores = () if slot is None or arm == BLIND else list_frame_scores(video.focus, slot, len(seconds))
        return Prediction(
            id=annotation.id,
            video=annotation.media or "",
            arm=arm,
            question=question.text,
            answer=answer,
            truth=question.answer,
            group=question.group,
            kept=tuple(kept),
            hit=score_hits(kept, question) if has_video and video.focus is not None else None,
            visual_tokens=int(video.mask[slot].sum()) if has_video else 0,
            options=question.options,
            meta=question.meta,
            seconds=seconds,
            scores=scores,
            segments=question.segments,
        )

    def export(self, what: Literal["projectors", "model"], folder: Path) -> None:
        """Write F_fine and F_coarse to ``projectors.safetensors``, or the model and its tokenizers to ``model/``.

        Where the model is sharded every process must call it; the first one writes.
        """
        assert self.model is not None
        state = self.model.state_dict() if self.device_mesh is None else gather_weights(self.model)
        if not self.trainer.is_global_zero:
            return
        if what == "projectors":
            self.model.save_projectors(folder, state)
            return
        tokenizers = self.tokenizer, load_instruction_tokenizer(self.building.encoders)
        with atomic_write(folder / "model") as part:
            self.model.save(part, state)
            DynFocusProcessor(*tokenizers, self.model.config, **self.reading).save_pretrained(part)
            training = read_training(Path(self.trainer.default_root_dir), tested=False)
            write_card(part, training, self.model.settings)
