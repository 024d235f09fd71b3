"""Many pictures in one process: what is made, what is skipped, what fails, what is kept."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fastnst
from fastnst import batch
from fastnst.batch import Job, expand, fingerprint, is_done, pair, read_journal, read_table
from fastnst.cache import LIMITS, Cache
from fastnst.claims import claim
from fastnst.engines.planned import cpu
from fastnst.errors import InvalidInput
from fastnst.network import weights
from fastnst.objective import build
from fastnst.run import prepare
from fastnst.settings.settings import Settings
from helpers.pictures import smooth

SMALL = Settings(
    size=32, iterations=3, style_layers=("relu1_1", "relu2_1"), content_layers=("relu2_1",)
)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two contents, two styles, a file that is no picture and one that is hidden."""
    for seed, name in enumerate(("c/one.png", "c/two.jpg", "s/a.png", "s/b.png")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(smooth(40 + seed, 36, seed)).save(path)
    (tmp_path / "c" / "notes.txt").write_text("words")
    (tmp_path / "c" / ".hidden.png").write_bytes(b"")
    (tmp_path / "out").mkdir()
    return tmp_path


def jobs_of(root: Path, settings: Settings = SMALL) -> list[Job]:
    return pair([str(root / "c")], [str(root / "s")], root / "out", settings)


def statuses(outcomes) -> list[str]:
    return [outcome.status for outcome in outcomes]


def test_every_pair_is_what_a_single_run_makes(pictures: Path) -> None:
    jobs = jobs_of(pictures)
    names = [job.output.name for job in jobs]
    assert names == ["one-a.png", "one-b.png", "two-a.png", "two-b.png"]
    outcomes = list(batch.run_batch(jobs, pictures / "out"))
    assert statuses(outcomes) == ["done"] * 4
    for outcome in outcomes:
        job = outcome.job
        alone = fastnst.stylize(job.content, job.style, **job.settings.to_dict())
        with Image.open(job.output) as image:
            assert np.array_equal(np.asarray(image), np.asarray(alone.image))
        assert outcome.loss == alone.losses.total


def test_what_is_done_is_known_by_its_pictures_and_settings(pictures: Path) -> None:
    jobs = jobs_of(pictures)
    out = pictures / "out"
    list(batch.run_batch(jobs, out))
    assert all(is_done(job, read_journal(out)) for job in jobs)
    moved = jobs_of(
        pictures, fastnst.make_settings("gatys", {**SMALL.to_dict(), "engine": "torch"})
    )
    assert all(is_done(job, read_journal(out)) for job in moved)  # only where it is computed
    other = jobs_of(pictures, fastnst.make_settings("gatys", {**SMALL.to_dict(), "seed": 1}))
    assert not any(is_done(job, read_journal(out)) for job in other)
    Image.fromarray(smooth(41, 36, 9)).save(pictures / "c" / "one.png")
    jobs[2].output.unlink()
    assert [is_done(job, read_journal(out)) for job in jobs] == [False, False, False, True]


def test_a_bad_file_does_not_stop_the_others(pictures: Path, monkeypatch) -> None:
    (pictures / "c" / "a-bad.png").write_text("words")
    real = batch.run

    def run(content, *args, **kwargs):
        if "two" in content:
            raise RuntimeError("out of memory\nand a long story")
        return real(content, *args, **kwargs)

    monkeypatch.setattr(batch, "run", run)
    outcomes = list(batch.run_batch(jobs_of(pictures), pictures / "out"))
    assert statuses(outcomes) == ["failed"] * 2 + ["done"] * 2 + ["failed"] * 2
    assert "a-bad.png is not a picture" in str(outcomes[0].message)
    assert outcomes[5].message == "RuntimeError: out of memory"
    assert sorted(p.name for p in (pictures / "out").iterdir()) == [
        "fastnst-batch.jsonl", "one-a.png", "one-b.png"
    ]  # fmt: skip


def test_network_filters_and_styles_are_kept(pictures: Path, monkeypatch) -> None:
    calls = {"load": 0, "arrange": 0, "styles": 0}

    def counting(module, name: str, key: str) -> None:
        real = getattr(module, name)

        def call(*args, **kwargs):
            calls[key] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    counting(prepare, "load_weights", "load")
    counting(cpu, "_arrange_filters", "arrange")
    counting(build, "describe", "styles")
    list(batch.run_batch(jobs_of(pictures), pictures / "out"))
    assert calls["load"] == 1
    if cpu.extension.is_available():
        assert calls["arrange"] == 1
    assert calls["styles"] == 4  # two layers each of a and b, once


def test_only_the_last_few_are_kept() -> None:
    cache = Cache()
    made = []

    def make(key: int):
        return cache.get("style targets", key, lambda: made.append(key) or key)

    limit = LIMITS["style targets"]
    for key in (*range(limit), 0, limit, 0, 1):  # 1 is the oldest when one more comes
        assert make(key) == key
    assert made == [*range(limit + 1), 1]


def test_a_style_that_changes_is_read_again(pictures: Path) -> None:
    cache = Cache()
    style = pictures / "s" / "a.png"
    run = batch.run
    first = run(smooth(40, 36), str(style), SMALL, cache=cache).losses.total
    Image.fromarray(smooth(40, 36, 8)).save(style)
    os.utime(style, ns=(1, 1))
    second = run(smooth(40, 36), str(style), SMALL, cache=cache).losses.total
    assert first != second
    assert second == run(smooth(40, 36), str(style), SMALL).losses.total
    array = smooth(40, 36, 3).copy()
    before = run(smooth(40, 36), array, SMALL, cache=cache).losses.total
    array[:] = smooth(40, 36, 4)
    assert run(smooth(40, 36), array, SMALL, cache=cache).losses.total != before


def test_other_settings_do_not_get_what_was_kept_for_these(pictures: Path) -> None:
    cache = Cache()
    content, style = smooth(40, 36), str(pictures / "s" / "a.png")
    base = SMALL.to_dict()
    for change in (
        {}, {"pooling": "max"}, {"weights": "vgg19"}, {"style_layers": ("relu1_1",)},
        {"style_layers": ("relu2_1", "relu1_1")}, {"engine": "torch"}, {"style_fit": "content"},
        {"size": 36}, {"style_weight": 0.0}, {"content_weight": 0.0},
        {"engine": "torch", "precision": "bf16"}, {"engine": "torch"}, {},
    ):  # fmt: skip
        settings = fastnst.make_settings("gatys", {**base, **change})
        warm = batch.run(content, style, settings, cache=cache)
        assert warm.history == batch.run(content, style, settings).history, change


def test_a_batch_goes_on_from_the_checkpoint_of_a_run(pictures: Path) -> None:
    jobs = jobs_of(pictures)[:1]
    out = pictures / "out"
    heard = []

    def stop(progress: batch.Progress) -> None:
        heard.append(progress.step.iteration)
        if heard == [0, 1, 2]:
            raise KeyboardInterrupt

    with pytest.raises(fastnst.Interrupted):
        list(batch.run_batch(jobs, out, checkpoint_every=1, callback=stop))
    assert [p.name for p in out.iterdir()] == [".one-a.png.checkpoint"]
    assert statuses(batch.run_batch(jobs, out, checkpoint_every=1, callback=stop)) == ["done"]
    assert heard == [0, 1, 2, 3]
    whole = batch.run(jobs[0].content, jobs[0].style, SMALL)
    with Image.open(jobs[0].output) as image:
        assert np.array_equal(np.asarray(image), np.asarray(whole.image))
    assert sorted(p.name for p in out.iterdir()) == ["fastnst-batch.jsonl", "one-a.png"]


@pytest.mark.parametrize("damage", ["other settings", "cut"])
def test_a_checkpoint_that_does_not_fit_is_left_behind(pictures: Path, damage: str) -> None:
    jobs = jobs_of(pictures)[:1]
    path = pictures / "out" / ".one-a.png.checkpoint"
    if damage == "cut":
        path.write_bytes(b"half a checkpoint")
    else:
        fastnst.stylize(jobs[0].content, jobs[0].style, size=32, iterations=1, checkpoint=path)
    outcomes = list(batch.run_batch(jobs, pictures / "out", checkpoint_every=2))
    assert statuses(outcomes) == ["done"]
    assert not path.exists()


def test_a_journal_line_that_was_cut_short_counts_for_nothing(pictures: Path) -> None:
    jobs = jobs_of(pictures)[:2]
    out = pictures / "out"
    list(batch.run_batch(jobs, out))
    journal = out / batch.JOURNAL
    journal.write_bytes(journal.read_bytes()[:-30])  # the second
    assert [is_done(job, read_journal(out)) for job in jobs] == [True, False]
    list(batch.run_batch(jobs[1:], out))
    assert [is_done(job, read_journal(out)) for job in jobs] == [True, True]
    journal.write_text('[1]\n"words"\n{"output": 5}\n\n' + journal.read_text())
    assert [is_done(job, read_journal(out)) for job in jobs] == [True, True]


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
    assert statuses(list(batch.run_batch(jobs, pictures / "out"))) == ["done"]
    assert is_done(jobs[0], read_journal(pictures / "out"))
    alone = fastnst.stylize(jobs[0].content, styles, **jobs[0].settings.to_dict())
    assert alone.settings.style_blend == (1.0, 3.0)
    assert Image.open(jobs[0].output).tobytes() == alone.image.tobytes()


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
        list(batch.run_batch(jobs, pictures / "out"))
    with pytest.raises(InvalidInput, match="unknown picture format '.gif'"):
        batch.check_jobs(pair(one, styles, pictures / "out", SMALL, "{content}-{style}.gif"))
    with pytest.raises(InvalidInput, match="name is '{contents}.png'"):
        pair(one, styles, pictures / "out", SMALL, "{contents}.png")


def test_a_fingerprint_needs_the_files(pictures: Path) -> None:
    job = jobs_of(pictures)[0]
    assert fingerprint(job) == fingerprint(job)
    (pictures / "c" / "one.png").unlink()
    assert fingerprint(job) is None
    assert not is_done(job, {str(job.output.resolve()): "x"})
    assert weights.BUILT_IN  # names of weights are no files


def test_each_job_is_in_exactly_one_shard(pictures: Path) -> None:
    jobs = jobs_of(pictures)
    for count in range(1, 7):
        parts = [batch.shard(jobs, number, count) for number in range(1, count + 1)]
        assert sorted(job.output for part in parts for job in part) == [j.output for j in jobs]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert batch.shard(jobs, 2, 3) == jobs[1:2]


def test_what_another_batch_has_claimed_waits_and_what_it_made_is_passed_over(
    pictures: Path, monkeypatch
) -> None:
    jobs, out = jobs_of(pictures)[:3], pictures / "out"
    first, second = claim(jobs[0].output), claim(jobs[1].output)
    assert first.__enter__()
    assert second.__enter__()
    since = batch.journal_size(out)

    def sleep(_: float) -> None:  # meanwhile the other batch makes one picture, and dies
        first.__exit__(None, None, None)
        assert statuses(batch.run_batch(jobs[:1], out)) == ["done"]
        second.__exit__(None, None, None)

    monkeypatch.setattr(batch.time, "sleep", sleep)
    outcomes = list(batch.run_batch(jobs, out, since=since))
    made = [(outcome.job, outcome.status) for outcome in outcomes]
    assert made == [(jobs[2], "done"), (jobs[0], "elsewhere"), (jobs[1], "done")]
    assert len((out / batch.JOURNAL).read_text().splitlines()) == 3


def test_what_was_done_before_is_made_again_if_it_is_asked_for(pictures: Path) -> None:
    jobs, out = jobs_of(pictures)[:1], pictures / "out"
    for _ in range(2):
        assert statuses(batch.run_batch(jobs, out)) == ["done"]


def test_a_journal_is_read_as_it_grows(pictures: Path) -> None:
    out = pictures / "out"
    path = out / batch.JOURNAL
    path.write_text('{"output": "a.png", "fingerprint": "1"}\n')
    journal = batch.Journal(out, batch.journal_size(out))
    assert journal.read() == {}
    with path.open("a") as file:
        file.write('{"output": "a.png", "fingerprint": "2"}\n{"output": "b.png", ')
    assert journal.read() == {str((out / "a.png").resolve()): "2"}
    with path.open("a") as file:
        file.write('"fingerprint": "3"}\n')
    assert journal.read()[str((out / "b.png").resolve())] == "3"
    assert read_journal(out) == journal.read()


def test_an_outcome_is_plain_values(pictures: Path) -> None:
    (outcome,) = batch.run_batch(jobs_of(pictures)[:1], pictures / "out")
    record = json.loads(json.dumps(outcome.to_dict()))
    assert set(record) == {"content", "style", "output", "status", "message", "loss", "seconds"}
