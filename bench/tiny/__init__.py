"""The built-in backbone: a tiny CLIP trained from scratch on drawings. See MODEL_CARD.md."""

from pathlib import Path

CONFIG_PATH = Path(__file__).with_name("config.json")
WEIGHTS_PATH = Path(__file__).with_name("tiny.safetensors")
