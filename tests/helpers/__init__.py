"""What tests share: oracles in float64, pictures, the emulator of a GPU."""

from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent
