"""Read vision encoders from their files: any of transformers whose blocks stand in one list, and LAVIS's EVA-CLIP."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    InstructBlipVisionConfig,
    InstructBlipVisionModel,
    PreTrainedConfig,
)

from dynfocus.errors import CheckpointError, FeatureError
from dynfocus.models.towers import lavis
from dynfocus.models.towers.weights import (
    INDEX,
    Named,
    fill,
    read_json,
    read_part,
    read_settings,
    reason,
    tensor_names,
    unfit,
    weight_files,
)

# Families whose names in files are those of transformers' code, so that no weight is in memory twice.
FAMILIES = ("instructblip_vision_model", "clip_vision_model", "siglip_vision_model")
CUT = ("instructblip_vision_model",)  # families whose files leave out the published encoder's last block
REPLACING = Lock()  # threads may share an encoder, and one call at a time may replace its last block's forward
AutoModel.register(InstructBlipVisionConfig, InstructBlipVisionModel, exist_ok=True)  # the one it does not know


class VisionTower(nn.Module):
    """Frames -> patches: the output of the published encoder's second-last block, without class and register tokens.

    InstructBLIP's files hold 39 of EVA ViT-G's 40 blocks, so all of them run. Files of other families hold every block,
    and the last one does not run.

    Args:
        config: sizes of the vision transformer; its class says which model of transformers it is.
        mean, std: the pixel normalisation it was trained with, on the scale 0 to 1.

    Raises:
        CheckpointError: if transformers has no such model, or its patches form no square grid.
    """

    def __init__(self, config: PreTrainedConfig, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        size, patch = (getattr(config, name, None) for name in ("image_size", "patch_size"))
        width = getattr(config, "hidden_size", None)
        if not isinstance(size, int) or not isinstance(patch, int) or not isinstance(width, int):
            raise CheckpointError(
                f"an encoder {config.model_type!r} of {size} pixels in patches of {patch}, and of width {width}",
                "one number each, so that the patches form a square grid",
                "Use a vision encoder of square images and square patches.",
            )
        if type(config) not in MODEL_MAPPING:
            raise _unknown(f"a vision encoder of the architecture {config.model_type!r}")
        model: Any = MODEL_MAPPING[type(config)]
        self.encoder: Any = model(config)
        self.size, self.width = size, width
        self.patches = (size // patch) ** 2
        self.mean, self.std = list(mean), list(std)  # not buffers: transformers loses those that are not saved

    @property
    def blocks(self) -> list[nn.Module]:
        """The transformer blocks, in order."""
        lists = (part for part in self.encoder.modules() if isinstance(part, nn.ModuleList))
        return next((list(part) for part in lists if len(part) == self.encoder.config.num_hidden_layers), [])

    @property
    def used_blocks(self) -> int:
        """How many of the blocks run."""
        return self.encoder.config.num_hidden_layers - unused_blocks(self.encoder.config)

    def rows(self, frames: UInt8[Tensor, "T H W 3"]) -> tuple[Float[Tensor, "T M d"], Float[Tensor, "T M d"]]:
        """Class and register tokens, if the model has some, then the N patches.

        Returns:
            the block's output, and the same as the Q-Former reads it: InstructBLIP's was trained on the output of
            ``post_layernorm`` (ln_vision in LAVIS); other families have no such norm for it.

        Raises FeatureError if the frames are not as large as the encoder expects.
        """
        if tuple(frames.shape[1:3]) != (self.size, self.size):
            raise FeatureError(
                f"frames of {frames.shape[2]} x {frames.shape[1]} pixels",
                f"{self.size} x {self.size}, the vision encoder's size",
                f"Set the frame rule's size to {self.size}.",
            )
        weight = next(self.encoder.parameters())
        mean, std = (torch.tensor(numbers, device=frames.device) for numbers in (self.mean, self.std))
        pixels = rearrange((frames / 255 - mean) / std, "t h w c -> t c h w")
        outputs: list[Tensor] = []
        last: Any = self.blocks[-1]
        unused = unused_blocks(self.encoder.config)

        def keep(hidden_states: Tensor, *args: Any, **options: Any) -> Tensor:
            outputs.append(hidden_states if unused else run(hidden_states, *args, **options))
            return outputs[-1]

        # transformers' hidden_states costs the last block and the memory of every block's output. Instead, the last
        # block's forward is replaced for this call: where it is unused it computes nothing, and gives its input.
        with REPLACING:
            run, last.forward = last.forward, keep
            try:
                result = self.encoder(pixels.to(weight.device, weight.dtype))
            finally:
                del last.forward
        return outputs[0], outputs[0] if unused else result.last_hidden_state

    def forward(self, frames: UInt8[Tensor, "T H W 3"]) -> Float[Tensor, "T N d"]:
        """Raises FeatureError if the frames are not as large as the encoder expects."""
        return self.rows(frames)[0][:, -self.patches :]


@dataclass(frozen=True)
class VisionFiles:
    """A vision encoder on disk.

    Attributes:
        folder: where it lies.
        config: its sizes.
        image_mean, image_std: its pixel normalisation.
        files: all that it depends on.
        read: yields its weights, one after another.
        dtype: the precision that a model loaded from the folder computes in.
    """

    folder: Path
    config: PreTrainedConfig
    image_mean: list[float]
    image_std: list[float]
    files: list[Path]
    read: Callable[[], Named] = field(repr=False)
    dtype: torch.dtype = torch.float32

    def tensors(self) -> Named:
        """The weights by transformers' names, sorted, as they are stored.

        Raises:
            CheckpointError: if one does not read.
        """
        return self.read()

    def tower(self, dtype: torch.dtype = torch.float32) -> VisionTower:
        """The encoder on the CPU, frozen; raises CheckpointError unless its weights are all there and no others."""
        with torch.device("meta"):
            tower = VisionTower(self.config, self.image_mean, self.image_std)
        if self.config.model_type in FAMILIES:
            fill(tower.encoder, self.tensors(), self.folder, dtype)
            return tower.eval().requires_grad_(False)
        tower.encoder = self._load(type(tower.encoder), dtype)
        self._check(tower.eval().requires_grad_(False))
        return tower

    def _load(self, model: Any, dtype: torch.dtype) -> Any:
        """The encoder as transformers loads it, which renames the weights of many families."""
        state = dict(self.tensors())
        encoder, loading = model.from_pretrained(
            None,
            config=self.config,
            state_dict=state,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # else the error does not name them
        )
        for problem in ("missing", "unexpected", "mismatched"):
            if loading[f"{problem}_keys"]:
                names = ", ".join(map(str, sorted(loading[f"{problem}_keys"])))
                raise unfit(self.folder, f"{problem} for {model.__name__}: {names}")
        return encoder

    def _check(self, tower: VisionTower) -> None:
        """Encode a blank frame; raises CheckpointError if that does not give N patches of the encoder's width."""
        expected = (1, tower.patches, tower.width)
        try:
            result = str(tuple(tower(torch.zeros(1, tower.size, tower.size, 3, dtype=torch.uint8)).shape))
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            result = reason(error)
        if result != str(expected):
            kind = self.config.model_type
            raise _unknown(f"an encoder {kind!r} that gives {result} instead of patches {expected} for a frame")


def open_vision(folder: Path) -> VisionFiles:
    """The vision encoder of a folder: of transformers, alone or in a larger model, LAVIS files, or a trained model.

    Raises:
        CheckpointError: if the folder holds none of these, or its configuration does not read.
    """
    folder = Path(folder)
    if lavis.is_lavis(folder):
        return VisionFiles(folder, *lavis.open_vision(folder), partial(lavis.read_vision, folder))
    config = read_json(folder / "config.json")
    if config.get("model_type") == "dynfocus":
        return _trained(folder, config)
    if config.get("model_type") not in CONFIG_MAPPING:
        raise _unknown(f"a folder {folder} of the architecture {config.get('model_type')!r}")
    whole = read_settings(AutoConfig, folder)
    vision = getattr(whole, "vision_config", whole)
    with torch.device("meta"):
        first = next(iter(VisionTower(vision, (), ()).encoder.state_dict()))
    pixels = read_json(folder / "preprocessor_config.json")
    names = ("config.json", "preprocessor_config.json")
    try:
        mean, std = ([float(number) for number in pixels[key]] for key in ("image_mean", "image_std"))
    except (KeyError, TypeError, ValueError) as error:
        raise unfit(folder, f"preprocessor_config.json without {error}") from error
    return _stored(folder, vision, mean, std, _prefix(tensor_names(folder), first), names)


def vision_config(values: dict[str, Any]) -> PreTrainedConfig:
    """The configuration from its plain form; one that does not say its family is InstructBLIP's."""
    return AutoConfig.for_model(**{"model_type": "instructblip_vision_model", **values})


def unused_blocks(config: PreTrainedConfig) -> int:
    """How many blocks at the end of an encoder's files stand after the second-last of the published encoder."""
    return int(config.model_type not in CUT)


def _unknown(given: str) -> CheckpointError:
    return CheckpointError(
        given,
        "a vision encoder that transformers' AutoModel builds, such as those of InstructBLIP, CLIP or SigLIP, LAVIS "
        "files, or a trained model",
        "Point to a folder of one of these.",
    )


def _prefix(names: Sequence[str], first: str) -> str:
    """What stands before the encoder's own names in a file, found at the ``first`` of them; nothing where it is absent.

    A larger model puts a prefix before them, and of encoders alone some do as well.
    """
    return min((name.removesuffix(first) for name in names if name.endswith(first)), key=len, default="")


def _trained(folder: Path, config: dict[str, Any]) -> VisionFiles:
    dtype: torch.dtype = getattr(torch, config.get("vision_dtype") or "float32")
    towers = config.get("towers")
    if towers:
        encoder = open_vision(Path(towers.get("vision") or towers["encoders"]))
        return replace(encoder, files=[folder / "config.json", *encoder.files], dtype=dtype)
    vision = vision_config(config["vision_config"])
    mean, std = config["image_mean"], config["image_std"]
    return replace(_stored(folder, vision, mean, std, "vision.encoder.", ("config.json",)), dtype=dtype)


def _stored(
    folder: Path, config: PreTrainedConfig, mean: list[float], std: list[float], prefix: str, names: tuple[str, ...]
) -> VisionFiles:
    files = [*(folder / name for name in (*names, INDEX) if (folder / name).exists()), *weight_files(folder, prefix)]
    return VisionFiles(folder, config, mean, std, files, partial(read_part, folder, prefix))
