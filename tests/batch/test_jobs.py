"""Pairs, tables and shards: what a batch is to make, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import fastnst
from fastnst.batch.done import is_done
from fastnst.batch.in_turn import run_batch
from fastnst.batch.jobs import check_jobs, expand, pair, read_table, shard
from fastnst.batch.journal import read_journal
from fastnst.errors import InvalidInput
from helpers.batches import SMALL, jobs_of, statuses


def test_a_table(pictures: Path) -> None:
    table = pictures / "jobs.csv"
    table.write_text(
        "\ufeffcontent,style,output,style_weight,style-layers\n"
        "c/one.png,s/a.png,,5,\n"
        "\n"
        'sample:harbour, sample:swirl ,deep/x.jpg,,"relu1_1,relu3_1"\n',
        "utf-8",
    )
    first, second = read_table(table, pictures / "out", SMALL)
    assert (first.content, first.style) == (str(pictures / "c/one.png"), str(pictures / "s/a.png"))
    assert first.output == pictures / "out" / "one-a.png"
    assert first.settings.style_weight == 5
    assert first.settings.style_layers == SMALL.style_layers
    assert (second.content, second.style) == ("sample:harbour", "sample:swirl")
    assert second.output == pictures / "out" / "deep" / "x.jpg"
    assert second.settings.style_layers == ("relu1_1", "relu3_1")


def test_a_row_with_two_styles(pictures: Path) -> None:
    table = pictures / "jobs.csv"
    table.write_text('content,style,style_blend\nc/one.png,s/a.png; s/b.png,"1,3"\n')
    jobs = read_table(table, pictures / "out", SMALL)
    styles = str(pictures / "s/a.png"), str(pictures / "s/b.png")
    assert jobs[0].style == styles
    assert jobs[0].output.name == "one-a-b.png"
    assert statuses(list(run_batch(jobs, pictures / "out"))) == ["done"]
    assert is_done(jobs[0], read_journal(pictures / "out"))
    alone = fastnst.stylize(jobs[0].content, styles, **jobs[0].settings.to_dict())
    assert alone.settings.style_blend == (1.0, 3.0)
    assert Image.open(jobs[0].output).tobytes() == alone.image.tobytes()


def test_a_row_that_weights_the_total_variation_keeps_the_form_that_was_said(
    tmp_path: Path,
) -> None:
    """An empty cell leaves a setting as it is: whoever said the form, and whatever its weight."""
    (tmp_path / "jobs.csv").write_text("content,style,tv_weight\nsample:ink,sample:ink,5\n")
    grain = {"tv_weight": 2.0, "tv_form": "color"}
    for settings, form in (
        (fastnst.make_settings("gatys", grain), "color"),
        (lambda row: fastnst.make_settings("gatys", {**grain, **row}), "color"),
        (lambda row: fastnst.make_settings("fast", row), "squared"),
    ):
        (job,) = read_table(tmp_path / "jobs.csv", tmp_path, settings)
        assert (job.settings.tv_weight, job.settings.tv_form) == (5, form)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first row has no column 'content'"),
        ("content,stile\na,b\n", "the first row has no column 'style'"),
        ("content,style\n", "has no rows below"),
        ("content,style,sizee\na,b,3\n", "line 2: unknown setting 'sizee'; did you mean size"),
        (
            "content,style,size\na,b,3\na,b,large\n",
            "line 3: size is 'large': expected a whole number",
        ),
        ("content,style,size\na,b,-3\n", "line 2: size is -3"),
        ("content,style\n,b\n", "line 2: the content is empty"),
        ("content,style\na,b,c\n", "line 2: there are more cells than columns"),
    ],
)
def test_what_is_wrong_in_a_table_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "jobs.csv").write_text(text)
    with pytest.raises(InvalidInput, match=message) as caught:
        read_table(tmp_path / "jobs.csv", tmp_path, SMALL)
    assert "jobs.csv" in str(caught.value)


def test_patterns(pictures: Path, monkeypatch) -> None:
    monkeypatch.chdir(pictures)
    assert expand(["c"]) == ["c/one.png", "c/two.jpg"]
    assert expand(["c/*.png", "c/one.png", "sample:ink"]) == ["c/one.png", "sample:ink"]
    assert expand(["**/*.png"]) == ["c/one.png", "s/a.png", "s/b.png"]
    for nothing in ("missing.png", "c/*.tiff", "out"):
        with pytest.raises(InvalidInput, match=nothing.replace("*", r"\*")):
            expand([nothing])


def test_results_that_would_overwrite_each_other_are_refused(pictures: Path) -> None:
    one = [str(pictures / "c" / "one.png")]
    styles = [str(pictures / "s")]
    jobs = pair(one, styles, pictures / "out", SMALL, "{content}.png")
    with pytest.raises(InvalidInput, match=r"s/a\.png and .*s/b\.png would both be .*one\.png"):
        list(run_batch(jobs, pictures / "out"))
    with pytest.raises(InvalidInput, match="unknown picture format '.gif'"):
        check_jobs(pair(one, styles, pictures / "out", SMALL, "{content}-{style}.gif"))
    with pytest.raises(InvalidInput, match="name is '{contents}.png'"):
        pair(one, styles, pictures / "out", SMALL, "{contents}.png")


def test_each_job_is_in_exactly_one_shard(pictures: Path) -> None:
    jobs = jobs_of(pictures)
    for count in range(1, 7):
        parts = [shard(jobs, number, count) for number in range(1, count + 1)]
        assert sorted(job.output for part in parts for job in part) == [j.output for j in jobs]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert shard(jobs, 2, 3) == jobs[1:2]


def test_pictures_of_folders_are_known_by_their_content(tmp_path: Path) -> None:
    for name, kind in (("a.jpg", "JPEG"), ("b.gif", "GIF"), ("c.jfif", "JPEG"), ("d.ppm", "PPM")):
        Image.new("RGB", (4, 4)).save(tmp_path / name, kind)
    (tmp_path / "e.png").touch()  # damaged: it is said
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "notes").write_text("no picture")
    (tmp_path / "folder").mkdir()
    for copy in ("a.jpg_original", "a.jpg~", "a.jpg.bak", "f"):  # the last has no suffix
        (tmp_path / copy).write_bytes((tmp_path / "a.jpg").read_bytes())
    assert [p.rpartition("/")[2] for p in expand([str(tmp_path)])] == [
        "a.jpg", "b.gif", "c.jfif", "d.ppm", "e.png", "f",
    ]  # fmt: skip
