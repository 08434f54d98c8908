"""What a run writes: every file whole or not at all."""
