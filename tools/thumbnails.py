"""Write the thumbnails of the built-in pictures that the page shows.

python tools/thumbnails.py
"""

from __future__ import annotations

from fastnst import samples
from fastnst.ui import thumbnails

if __name__ == "__main__":
    for name in samples.SAMPLES:
        path = thumbnails.path_of(name)
        thumbnails.make(samples.load(name)).save(path, "WEBP", quality=85)
        print(path, path.stat().st_size)
