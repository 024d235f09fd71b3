"""Frames in, finished frames out: what each is held to, when it is done, cuts, drift, passes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from fastnst.api import stylize, stylize_video
from fastnst.errors import InvalidInput
from fastnst.settings.settings import Settings
from fastnst.video.film_frame import FilmFrame, Past
from fastnst.video.flow import Frame
from fastnst.video.options import FilmOptions
from fastnst.video.painter import Painter
from fastnst.video.stylise import refine, stylise
from helpers.films import pan, pan_flow, settings, texture

pytestmark = pytest.mark.usefixtures("quick")
STYLE = texture(40, 36, seed=7)


def painter(
    options: FilmOptions | None = None, its: Settings | None = None, flow=None, **further
) -> Painter:
    chosen = options or FilmOptions(frame_iterations=4)
    return Painter(STYLE, its or settings(), chosen, flow or pan_flow(), **further)


def numbered(frames: list) -> list[Frame]:
    return [Frame(k, Fraction(k, 25), pixels) for k, pixels in enumerate(frames)]


def film(frames: list, **further) -> list[FilmFrame]:
    return list(stylise(numbered(frames), painter(**further)))


def dawn(count: int) -> list:
    """A pan on which it gets light, so that no frame is done at once."""
    return [pixels * np.float32(0.4 + 0.3 * k) for k, pixels in enumerate(pan(count))]


def distance(frame: FilmFrame, before: FilmFrame, step: int = 2) -> float:
    """The mean squared difference of what both frames of a pan see."""
    return float((frame.raw[..., :-step] - before.raw[..., step:]).square().mean())


def test_the_first_frame_is_the_picture_that_stylize_makes() -> None:
    frames = pan(1, 40, 48)
    scales = settings(size=48, min_size=24, scale_iterations=(3,), init="noise")
    got = film(frames, its=scales)[0]
    expected = stylize(frames[0], STYLE, **scales.to_dict())
    np.testing.assert_array_equal(got.pixels, expected.pixels)
    assert got.result.losses == expected.losses
    assert got.begins
    assert got.temporal is None


def test_the_term_holds_a_frame_to_the_one_before() -> None:
    frames = dawn(3)
    options = FilmOptions(frame_iterations=8, band=0.0)
    its = settings(content_weight=1000.0, iterations=20)  # a first frame that others have to reach
    loose, held = (
        film(frames, its=its, options=replace(options, temporal_weight=weight))
        for weight in (0.0, 3000.0)
    )
    assert [frame.temporal is None for frame in loose] == [True] * 3
    for k in (1, 2):
        assert held[k].reliable > 0.9
        assert distance(held[k], held[k - 1]) < 0.5 * distance(loose[k], loose[k - 1])
        # the pan is by whole pixels, so that the warp is exact; sums of float32
        assert held[k].temporal == pytest.approx(distance(held[k], held[k - 1]), rel=1e-4)


def test_a_frame_is_done_when_it_is_as_good_as_the_first() -> None:
    """Within the band at once: no iteration. Never: all of them."""
    frames = dawn(2)
    its = settings(content_weight=100.0)
    easy = film(frames, its=its, options=FilmOptions(band=50.0, frame_iterations=9))[1]
    never = FilmOptions(band=0.0, temporal_weight=1e9, frame_iterations=9)
    hard = film(frames, its=its, options=never)[1]
    assert (easy.result.iterations, easy.result.evaluations) == (0, 1)
    assert hard.result.iterations == 9
    its = settings(style_weight=0.0, init="noise", iterations=30)
    between = FilmOptions(band=0.0, temporal_weight=0.0, frame_iterations=200)
    first, second = film(frames, its=its, options=between)
    assert 0 < second.result.iterations < 200
    assert second.result.losses.total <= first.result.losses.total
    assert second.result.history[-2].total > first.result.losses.total


def test_a_start_is_the_warped_frame_and_matched_content_elsewhere() -> None:
    frames = pan(2)
    first, second = film(frames, options=FilmOptions(frame_iterations=0))
    np.testing.assert_array_equal(second.raw[..., :-2].numpy(), first.raw[..., 2:].numpy())
    unseen = second.raw[0, :, :, -2:].permute(1, 2, 0).numpy()
    content = frames[1][:, -2:]
    # an affine map of the content's colours: right where they are right, and not the edge repeated
    assert np.corrcoef(unseen.reshape(-1), content.reshape(-1))[0, 1] > 0.3
    assert np.abs(unseen[:, 0] - unseen[:, 1]).max() > 0


def test_a_static_clip_neither_darkens_nor_crawls() -> None:
    frames = [pan(1)[0]] * 30
    got = film(frames, options=FilmOptions(frame_iterations=4))
    first, last = got[0], got[-1]
    assert sum(frame.result.iterations for frame in got[1:]) == 0
    np.testing.assert_array_equal(first.pixels, last.pixels)


def test_sensor_noise_does_not_add_up() -> None:
    """A static scene with noise: brightness and style losses stay within a hundredth."""
    noise = np.random.default_rng(0)
    still = pan(1)[0]
    frames = [
        (still + noise.normal(0, 0.004, still.shape)).clip(0, 1).astype(np.float32)
        for _ in range(12)
    ]
    got = film(frames, options=FilmOptions(frame_iterations=4), flow=pan_flow(0))
    styles = [sum(frame.result.losses.style.values()) for frame in got]
    assert abs(got[-1].pixels.mean() / got[0].pixels.mean() - 1) < 0.01
    assert abs(styles[-1] / styles[0] - 1) < 0.01


def test_long_term_brings_back_what_was_hidden() -> None:
    """A wall hides half of frame 1; frame 2 is held to frame 0 there, and only there."""
    frames = numbered([pan(1)[0]] * 3)
    frames[1] = Frame(1, Fraction(1, 25), frames[0].pixels * 0.5)

    def flow(first: Frame, second: Frame) -> torch.Tensor:
        found = torch.zeros(32, 40, 2)
        if 1 in (first.index, second.index):  # nothing agrees behind the wall
            found[:, :20, 0] = 4.0 * (1 if first.index < second.index else 2)
        return found

    options = FilmOptions(frame_iterations=0, distances=(1, 2), cuts=False)
    got = list(stylise(frames, painter(options, flow=flow)))
    assert torch.equal(got[2].raw[..., :18], got[0].raw[..., :18])
    assert got[2].reliable > 0.9
    alone = FilmOptions(frame_iterations=0, distances=(1,), cuts=False)
    assert list(stylise(frames, painter(alone, flow=flow)))[2].reliable < 0.6


def test_a_cut_starts_anew() -> None:
    pytest.importorskip("cv2")
    frames = [*pan(2), *pan(2, seed=3)]
    got = list(stylize_video(frames, STYLE, options=FilmOptions(frame_iterations=2), **run()))
    assert [frame.begins for frame in got] == [True, False, True, False]
    assert got[3].shot.first == 2
    alone = stylize(frames[2], STYLE, **run())
    np.testing.assert_array_equal(got[2].pixels, alone.pixels)


def run() -> dict:
    return settings().to_dict()


def test_a_film_goes_on_as_if_it_had_not_stopped() -> None:
    frames = numbered(pan(5))
    options = FilmOptions(frame_iterations=3)
    whole = list(stylise(frames, painter(options)))
    before = list(stylise(frames[:3], painter(options)))
    past = [Past(frame.frame, frame.raw) for frame in before]
    after = list(stylise(frames[3:], painter(options), past, before[-1].shot))
    for one, other in zip(whole[3:], after, strict=True):
        assert torch.equal(one.raw, other.raw)
        assert one.result.losses == other.result.losses


def test_frames_are_taken_one_by_one() -> None:
    taken: list[int] = []

    def source():
        for k, pixels in enumerate(pan(3)):
            taken.append(k)
            yield pixels

    steps: list[tuple[int, int]] = []
    found = stylize_video(
        source(),
        STYLE,
        options=FilmOptions(frame_iterations=1),
        flow=pan_flow(),
        callback=lambda index, step: steps.append((index, step.iteration)),
        **run(),
    )
    assert taken == []
    next(found)
    assert taken == [0]
    assert len(list(found)) == 2
    assert steps[:2] == [(0, 0), (0, 1)]
    assert {index for index, _ in steps} == {0, 1, 2}


@pytest.mark.parametrize("color", ["original", "luminance", "match-covariance"])
def test_the_content_keeps_its_colours(color: str) -> None:
    got = film(pan(2), its=settings(color=color))
    for frame in got:
        assert np.isfinite(frame.pixels).all()
        same = np.allclose(frame.pixels, frame.raw[0].permute(1, 2, 0).numpy())
        assert same == (color == "match-covariance")


def test_a_second_pass_goes_against_the_first() -> None:
    frames = numbered(pan(3))
    options = FilmOptions(frame_iterations=3, passes=2, band=0.0)
    it = painter(options)
    first = list(stylise(frames, it))
    known = {f.frame.index: Past(f.frame, f.raw) for f in first}
    shots = {f.frame.index: f.shot for f in first}
    again = list(refine(known.__getitem__, shots, [2, 1, 0], it))
    assert [frame.frame.index for frame in again] == [1, 0]
    assert all(frame.temporal is not None for frame in again)
    part = list(refine(known.__getitem__, shots, [2, 1, 0], it, done={1}))
    assert [frame.frame.index for frame in part] == [0]


def test_what_cannot_be_is_one_line() -> None:
    with pytest.raises(InvalidInput, match="changes its size: 40×32 before frame 1, 30×24"):
        film([pan(1)[0], pan(1, 24, 30)[0]])
    with pytest.raises(InvalidInput, match="no flow between frames 0 and 1"):
        film(pan(2), flow=lambda *_: None)
    with pytest.raises(InvalidInput, match="fastnst video makes more"):
        stylize_video(pan(2), STYLE, options=FilmOptions(passes=2))
    for name, wrong in {
        "temporal_weight": float("nan"),
        "band": -1.0,
        "frame_iterations": -1,
        "passes": 0,
        "distances": (2, 4),
    }.items():
        with pytest.raises(InvalidInput, match=f"{name} is .*expected"):
            FilmOptions(**{name: wrong})


def test_a_start_is_what_is_seen_also_at_the_edge_of_a_motion() -> None:
    """No frame is held to that, but nothing else is known there."""
    frames = numbered(pan(2))

    def flow(first: Frame, second: Frame) -> torch.Tensor:
        found = torch.zeros(32, 40, 2)  # the right half goes left by three pixels
        found[:, 20:, 0] = 3.0 * (first.index - second.index)
        return found

    options = FilmOptions(frame_iterations=0, cuts=False)
    first, second = stylise(frames, painter(options, flow=flow))
    assert second.reliable < 1 - 3 / 40 - 1 / 40  # what comes in, and the edge
    assert torch.equal(second.raw[..., :20], first.raw[..., :20])
    assert torch.equal(second.raw[..., 20:37], first.raw[..., 23:])


def test_what_comes_in_has_the_colours_of_the_styles_in_their_proportions() -> None:
    other = 0.3 * texture(36, 40, seed=8)
    unseen = []
    for blend in ((3.0, 1.0), (1.0, 3.0)):
        its, options = settings(style_blend=blend), FilmOptions(frame_iterations=0)
        it = Painter((STYLE, other), its, options, pan_flow())
        unseen.append(list(stylise(numbered(pan(2)), it))[1].raw[..., -2:])
    assert float(unseen[0].mean() - unseen[1].mean()) > 0.05  # the first one is brighter


def test_what_comes_in_without_a_style_has_its_own_colours() -> None:
    frames = pan(2)
    mask = np.zeros_like(frames[0])
    mask[:16] = 1
    its = settings(style_weight=0.0)  # nothing is optimised away from where it starts
    options = FilmOptions(frame_iterations=0)
    second = film(frames, its=its, options=options, content_mask=mask)[1]
    unseen = second.raw[0, :, :, -2:].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(unseen[16:], frames[1][16:, -2:])
    assert np.abs(unseen[:16] - frames[1][:16, -2:]).mean() > 0.05


def test_after_a_cut_nothing_before_it_counts() -> None:
    """Though the flow to a frame of the shot before agrees both ways, by chance."""
    frames = numbered([*pan(3), *pan(3, seed=3)])

    def flow(first: Frame, second: Frame) -> torch.Tensor:
        indices = {first.index, second.index}
        if indices == {2, 3}:  # nonsense: a cut
            return torch.full((32, 40, 2), 9.0)
        if min(indices) < 3 <= max(indices):
            return torch.zeros(32, 40, 2)
        return pan_flow()(first, second)

    options = FilmOptions(frame_iterations=1, distances=(1, 2, 4))
    whole = list(stylise(frames, painter(options, flow=flow)))
    assert [frame.begins for frame in whole] == [True, False, False, True, False, False]
    alone = list(stylise(frames[3:], painter(options, flow=flow)))
    for one, other in zip(whole[3:], alone, strict=True):
        assert torch.equal(one.raw, other.raw)


def test_a_further_frame_has_no_average_of_iterates() -> None:
    its = settings(optimizer="adam", averaging=0.5, iterations=30, content_weight=100.0)
    options = FilmOptions(frame_iterations=3, band=0.0, temporal_weight=1e9)
    first, second = film(dawn(2), its=its, options=options)
    assert (first.result.iterations, first.result.evaluations) == (30, 32)
    assert (second.result.iterations, second.result.evaluations) == (3, 4)


def test_a_further_pass_starts_from_a_frame_blended_with_its_neighbour() -> None:
    """In equal parts, where the neighbour can be trusted."""
    it = painter(FilmOptions(frame_iterations=0, passes=2))
    first = list(stylise(numbered(pan(2)), it))
    noise = torch.rand(1, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    known = {0: Past(first[0].frame, first[0].raw), 1: Past(first[1].frame, noise)}
    shots = {f.frame.index: f.shot for f in first}
    (again,) = refine(known.__getitem__, shots, [1, 0], it)
    # by whole pixels, but the spline goes through them to rounding
    torch.testing.assert_close(
        again.raw[..., 2:], (noise[..., :-2] + first[0].raw[..., 2:]) / 2, rtol=0, atol=1e-6
    )
    assert torch.equal(again.raw[..., :2], first[0].raw[..., :2])


@pytest.mark.parametrize("shape", [(32, 40, 3), (3, 32, 40)])
def test_one_picture_is_no_film(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="one picture, not several"):
        stylize_video(np.zeros(shape, np.float32), STYLE, **run())


def test_frames_in_grey_are_a_film() -> None:
    grey = np.stack([frame.mean(-1) for frame in pan(2)])
    assert len(list(stylize_video(grey, STYLE, flow=pan_flow(), **run()))) == 2


def test_frames_without_any_flow_are_one_line() -> None:
    options = FilmOptions(frame_iterations=1, cuts=False)
    with pytest.raises(InvalidInput, match="no flow between frames 0 and 1 in dis, both ways"):
        film(pan(2), options=options, flow=lambda *_: None)
    for cuts in (True, False):
        found = stylize_video(
            *(pan(2), STYLE),
            flow=lambda *_: None,
            options=replace(options, cuts=cuts),
            **run(),
        )
        with pytest.raises(InvalidInput, match="between frames 0 and 1 in the flow function, both"):
            list(found)


def test_the_largest_weights_are_computed_with() -> None:
    its = settings(style_weight=1e30, content_weight=1e30, iterations=1)
    options = FilmOptions(frame_iterations=1, temporal_weight=1e12)
    assert len(film(dawn(2), its=its, options=options)) == 2
