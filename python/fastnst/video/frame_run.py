"""The optimisation of one frame of a film, at one scale or several."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from fastnst.inputs.pictures import Pictures
from fastnst.losses import TemporalLoss
from fastnst.run.exhaustion import enough
from fastnst.run.outcome import outcome
from fastnst.run.preparation import Preparation
from fastnst.run.recorder import Recorder
from fastnst.run.result import Result
from fastnst.run.solve import solve
from fastnst.run.step import Step
from fastnst.settings.settings import Settings
from fastnst.video.film_frame import Shot


class FrameRun:
    """The optimisation of one frame, recorded as that of a picture is.

    Attributes:
        recorder: What was done.
        temporal: t at the best picture, unweighted; None without a temporal term.
    """

    def __init__(self, prepared: Preparation, callback: Callable[[Step], None] | None) -> None:
        self.prepared = prepared
        self.recorder = Recorder(prepared, callback)
        self.temporal: float | None = None

    def optimise(
        self,
        pictures: Pictures,
        start: Tensor,
        iterations: int,
        temporal: tuple[float, TemporalLoss] | None = None,
        like: tuple[Shot, float] | None = None,
    ) -> None:
        """Optimise at one scale, until a frame is as good as the first of its shot.

        It is when its loss without the temporal term, and its style losses, are within a band of
        those of that frame: what a warp blurs is the style.

        Args:
            pictures: The pictures of the frame.
            start: Where to start, ``(1, 3, H, W)``.
            iterations: How many iterations there are at most.
            temporal: γ and the temporal term; None: there is none.
            like: The shot, and the band; None: all iterations are done.
        """
        it = self.prepared
        with enough(it.width, it.height, it.settings, it.device):
            self._solve(pictures, start, iterations, temporal, like)

    def _solve(
        self,
        pictures: Pictures,
        start: Tensor,
        iterations: int,
        temporal: tuple[float, TemporalLoss] | None,
        like: tuple[Shot, float] | None,
    ) -> None:
        """Hold the engine, which is freed with this frame of the stack if the memory runs out."""
        prepared, recorder, settings = self.prepared, self.recorder, self.prepared.settings
        plan = prepared.plan(pictures)
        home = plan.home(prepared.device)
        pictures, start = pictures.to(home), start.to(home)
        engine = prepared.engine(pictures, plan=plan, temporal=temporal)
        recorder.begin_scale(plan.strips)
        for iterate in solve(engine, start, settings, iterations):
            recorder.note(iterate, engine, pictures.colours)
            own, term = iterate.loss, iterate.terms.temporal
            if temporal is not None and term is not None:
                own -= temporal[0] * float(term)
                if iterate.is_best:
                    self.temporal = float(term)
            if like is not None and iterate.is_best:
                shot, band = like
                style = style_loss_of(recorder.history[-1].style, settings)
                if own <= (1 + band) * shot.loss and style <= (1 + band) * shot.style:
                    break
        recorder.end_scale()

    def finish(self) -> tuple[Result, Tensor]:
        """The result, and the best picture on the CPU before its colours were changed."""
        result, best = outcome(self.recorder), self.recorder.best
        assert result is not None  # a solver yields the start at least
        assert best is not None
        return result, best.detach().cpu().clone()


def style_loss_of(losses: Mapping[str, float], settings: Settings) -> float:
    """Σ w_l g_l of the style losses g_l of the layers."""
    weights = settings.layer_weights()
    return sum(weights[layer] * loss for layer, loss in losses.items())
