"""The built-in backbone: a tiny CLIP trained from scratch on drawings. See MODEL_CARD.md."""
