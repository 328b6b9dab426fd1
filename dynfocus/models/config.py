"""Describe a DynFocus model as transformers writes it into config.json."""

from typing import Any, ClassVar, no_type_check

from transformers import AutoConfig, InstructBlipQFormerConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from dynfocus.errors import CheckpointError
from dynfocus.models.hub import AUTO_MAP
from dynfocus.settings import ConnectorSettings, restore_settings


@no_type_check  # transformers passes on more arguments than the signature of a dataclass shows
class DynFocusConfig(PreTrainedConfig):
    """Sizes of the towers, the connector's settings, and the id of ``<image>``.

    ``towers`` names the folders of the pretrained parts, where the model's own folder holds adapters and no towers.
    ``queries`` is the number of the Q-Former's query tokens, which read the frames where instruction_mode is frame.
    ``vision_blocks`` is how many blocks of the vision encoder make the features that the connector was trained on.
    ``vision_dtype`` and ``instruction_dtype`` are the precisions that the encoders compute in, whatever the others'.
    """

    model_type = "dynfocus"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "vision_config": SubConfigSpec(config_class=AutoConfig, model_type="instructblip_vision_model"),
        "qformer_config": InstructBlipQFormerConfig,
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama"),
    }
    vision_config: Any = None
    qformer_config: Any = None
    text_config: Any = None
    connector: dict[str, Any] | None = None
    image_mean: Any = None
    image_std: Any = None
    image_token_id: int = -1
    queries: int = 32
    vision_blocks: int | None = None
    vision_dtype: str = "float32"
    instruction_dtype: str = "float32"
    towers: dict | None = None

    def to_dict(self) -> dict[str, Any]:
        """What ``config.json`` holds, with the classes that read the folder."""
        return super().to_dict() | {"auto_map": AUTO_MAP}

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoConfig") -> None:
        """Nothing: transformers would copy a file of this package into the folder, where it is of no use alone."""

    @property
    def settings(self) -> ConnectorSettings:
        try:
            return restore_settings(ConnectorSettings, self.connector or {})
        except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
            problem = f"a config.json whose connector holds no settings of ours ({' '.join(str(error).split())})"
            raise CheckpointError(problem, "those that training writes", "Get the model's folder again.") from error
