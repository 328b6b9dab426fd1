"""What a DynFocus model is made of, as transformers writes it into config.json."""

from typing import Any, ClassVar, no_type_check

from transformers import AutoConfig, InstructBlipQFormerConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from dynfocus.settings import ConnectorSettings, restored


@no_type_check  # transformers checks its own, and passes on more than the signature that a dataclass shows
class DynFocusConfig(PreTrainedConfig):
    """Sizes of the towers, the connector's settings, and the id of ``<image>``.

    ``towers`` says where the pretrained parts lie that the model's folder leaves out: those of adapters do.
    ``queries`` are the Q-Former's query tokens, where the instruction mode has them read the frames.
    ``vision_dtype`` and ``instruction_dtype`` are the precisions that the encoders compute in, whatever the rest does.
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
    vision_dtype: str = "float32"
    instruction_dtype: str = "float32"
    towers: dict | None = None

    @property
    def settings(self) -> ConnectorSettings:
        return restored(ConnectorSettings, self.connector or {})
