"""The bar keeps itself and its times on narrow terminals, with words for both."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fastnst.cli.progress import make_bar


@pytest.mark.parametrize("width", [40, 60, 72, 80, 100, 200])
def test_bar_and_times_are_there(width: int) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    bar = make_bar(True, screen)
    bar.add_task("scale 2/3  loss 1.234e-05", total=300, completed=150, rate="1.23 evaluations/s")
    with screen.capture() as captured:
        screen.print(bar.get_renderable())
    (line,) = captured.get().rstrip("\n").split("\n")
    assert len(line) <= width
    assert "━━━━" in line
    assert "elapsed 0:00:00" in line
    assert "left -:--:--" in line
    assert ("150/300" in line) == (width >= 72)
    assert ("evaluations/s" in line) == (width >= 100)


def test_without_a_terminal_there_is_none() -> None:
    screen = Console(file=io.StringIO(), force_terminal=False)
    assert make_bar(True, screen).disable
    assert make_bar(False, Console(file=io.StringIO(), force_terminal=True)).disable


def test_it_names_the_ranks_that_are_waited_for() -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=120, color_system=None)
    late: list[int] = []
    bar = make_bar(True, screen, lambda: late)
    bar.add_task("loss 1.234e-05", total=300, completed=150, rate="")
    for ranks, said in ([], None), ([2], "waiting for rank 2"), ([1, 3], "waiting for ranks 1, 3"):
        late[:] = ranks
        with screen.capture() as captured:
            screen.print(bar.get_renderable())
        assert ("waiting" in captured.get()) == bool(ranks)
        assert said is None or said in captured.get()
