"""The pages and how they are served, in one import: all that needs Gradio."""

from __future__ import annotations

from fastnst.ui.limits import Limits
from fastnst.ui.preview_page import preview_page
from fastnst.ui.server import serve
from fastnst.ui.studio import Studio
from fastnst.ui.studio_page import studio_page
from fastnst.ui.watch import Watch

__all__ = ["Limits", "Studio", "Watch", "preview_page", "serve", "studio_page"]
