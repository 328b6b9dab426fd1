"""The embedded world's own towers, trained in minutes: what pretrained encoders and a language model are elsewhere."""

from dynfocus.world.towers.quality import check_towers, read_quality
from dynfocus.world.towers.settings import LanguageSettings, TowerSettings, VisionSettings
from dynfocus.world.towers.training import train_towers

__all__ = ["LanguageSettings", "TowerSettings", "VisionSettings", "check_towers", "read_quality", "train_towers"]
