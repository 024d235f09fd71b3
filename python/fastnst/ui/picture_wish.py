"""A picture that a visitor asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fastnst.run.checkpoint import Checkpoints
from fastnst.run.ending import Diverged, Interrupted, Unsaved
from fastnst.run.run import run
from fastnst.settings.settings import Settings
from fastnst.ui.limits import Limits
from fastnst.ui.outcome import picture_outcome
from fastnst.ui.wish import Ended, Stage, Wish, check_content, copy, explain

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class PictureWish(Wish):
    """A picture that a visitor asks for.

    Attributes:
        content: Path of the content picture.
        styles: As of ``Wish``.
        settings: As of ``Wish``.
        content_mask: As of ``Wish``.
        style_masks: As of ``Wish``.
    """

    content: str | None
    styles: tuple[str, ...]
    settings: Settings
    content_mask: str | None = None
    style_masks: tuple[str, ...] = ()
    kind = "picture"

    def check(self, limits: Limits) -> None:
        """As of ``Wish``."""
        longest = check_content(self.content, limits)
        limits.check(self.settings, longest, self.check_pictures(limits))

    def owned(self, folder: Path) -> Self:
        """As of ``Wish``."""
        assert self.content is not None
        content = copy(self.content, folder / "content picture")
        return replace(self, content=content, **self.copies(folder))

    def state(self, folder: Path) -> Path:
        """As of ``Wish``."""
        return folder / "state.checkpoint"

    def run(self, stage: Stage) -> Ended:
        """As of ``Wish``."""
        assert self.content is not None
        content, checkpoint = Path(self.content), self.state(stage.folder)
        try:
            result = run(
                self.content,
                self.styles,
                self.settings,
                stage.hear,
                content_mask=self.content_mask,
                style_masks=self.style_masks or None,
                checkpoints=Checkpoints(checkpoint, only_interrupted=True),
                resume=checkpoint if stage.resumed else None,
                cache=stage.cache,
                resources=stage.resources,
            )
        except Interrupted as interrupt:
            return Ended("stopped", picture_outcome(interrupt.result, "stopped", content))
        except KeyboardInterrupt:
            return Ended("removed")
        except (Diverged, Unsaved) as failed:  # Unsaved: the state of a run that was stopped
            if failed.result is None:
                raise
            error = explain(failed, stage.folder, checkpoint)
            outcome = picture_outcome(failed.result, "failed", content, error)
            return Ended("failed", outcome, error)
        return Ended("done", picture_outcome(result, "done", content))
