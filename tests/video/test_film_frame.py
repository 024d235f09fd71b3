"""A finished frame: its pictures are its run's, and its record is plain."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from fastnst.run.run import run
from fastnst.video.film_frame import FilmFrame, Shot
from fastnst.video.flow import Frame
from helpers.films import pan, settings, texture

pytestmark = pytest.mark.usefixtures("quick")


def test_pictures_and_record_are_those_of_the_run() -> None:
    pixels = pan(1)[0]
    result = run(pixels, texture(40, 36), settings(iterations=1))
    frame = Frame(7, Fraction(2, 7), pixels)
    shot = Shot(5, 1.5, 0.5)
    it = FilmFrame(frame, torch.zeros(1, 3, 32, 40), result, shot, 0.25, 0.87654321, False, 1.23456)
    np.testing.assert_array_equal(it.pixels, result.pixels)
    np.testing.assert_array_equal(np.array(it.image), np.array(result.image))
    record = it.to_dict()
    assert json.loads(json.dumps(record)) == record
    assert (record["frame"], record["time"]) == (7, 2 / 7)
    assert (record["begins_shot"], record["temporal"]) == (False, 0.25)
    assert (record["seconds"], record["reliable"]) == (1.235, 0.8765)
    assert record["loss"] == result.losses.to_dict()
    assert (record["iterations"], record["evaluations"]) == (1, 2)
