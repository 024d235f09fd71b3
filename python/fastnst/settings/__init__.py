"""What shapes a run: its settings, presets and files of them."""
