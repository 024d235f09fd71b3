"""Gradients in the memory of the features that are done with."""

from __future__ import annotations

import random

import torch

from fastnst.engines.planned.workspace import Workspace


def span(x: torch.Tensor) -> tuple[int, int]:
    return x.data_ptr(), x.data_ptr() + x.numel() * x.element_size()


def overlap(a: torch.Tensor, b: torch.Tensor) -> bool:
    (first, last), (begin, end) = span(a), span(b)
    return first < end and begin < last


def test_a_gradient_shares_memory_with_nothing_that_is_needed() -> None:
    """Any chain of layers, walked back; each gradient is made from the one before it."""
    chance = random.Random(0)
    for _ in range(200):
        shapes = [(1, chance.randint(1, 9), chance.randint(1, 9)) for _ in range(6)]
        workspace = Workspace(shapes, torch.float32)
        slots = workspace.slots
        assert [tuple(slot.shape) for slot in slots] == shapes
        assert not any(overlap(a, b) for i, a in enumerate(slots) for b in slots[:i])
        gradient = None
        for i in reversed(range(6)):
            if gradient is not None and chance.random() < 0.3:
                new = slots[i]  # in place of the features
            else:
                new = workspace.behind(slots[i], shapes[i], gradient)
                assert tuple(new.shape) == shapes[i]
                assert not any(overlap(new, slot) for slot in slots[: i + 1])
                assert gradient is None or not overlap(new, gradient)
            gradient = new


def test_vgg_needs_little_beside_its_features() -> None:
    """Of 512² pictures: next to nothing beside the deepest features themselves."""
    sides = [(512, 64)] * 2 + [(256, 64)] + [(256, 128)] * 2 + [(128, 128)] + [(128, 256)] * 4
    sides += [(64, 256)] + [(64, 512)] * 4 + [(32, 512)] * 2
    shapes = [(1, side // 8, side // 8, channels) for side, channels in sides]
    workspace = Workspace(shapes, torch.float32)
    gradient = None
    for slot, shape in zip(reversed(workspace.slots), reversed(shapes), strict=True):
        gradient = workspace.behind(slot, shape, gradient)
    own = sum(spare.numel() for spare in workspace._spare)
    assert own < 0.06 * sum(slot.numel() for slot in workspace.slots)
