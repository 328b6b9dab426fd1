"""Train the embedded world's own towers in minutes, in place of pretrained encoders and a language model."""

from dynfocus.world.towers.quality import check_towers, read_quality
from dynfocus.world.towers.tower_settings import LanguageSettings, TowerSettings, VisionSettings
from dynfocus.world.towers.train import train_towers

__all__ = ["LanguageSettings", "TowerSettings", "VisionSettings", "check_towers", "read_quality", "train_towers"]
