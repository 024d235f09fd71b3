"""Tables as spreadsheets save them: read, or refused in one line."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnst.batch.tables import read_rows
from fastnst.errors import InvalidInput

ROW = "content,style\nsample:harbour,sample:swirl\n"


def table(tmp_path: Path, data: str | bytes) -> Path:
    path = tmp_path / "jobs.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        ROW,
        ROW.replace(",", ";"),
        ROW.replace(",", "\t"),
        ROW.replace(",", "|"),
        ROW.replace("\n", "\r\n"),
        ROW.replace("\n", "\r"),
        "content , style\n sample:harbour , sample:swirl \n",
        "Content,STYLE,\nsample:harbour,sample:swirl,\n",
        "content,style,,\nsample:harbour,sample:swirl\n\n,,\n",
        '"content";"style"\n"sample:harbour";"sample:swirl"\n',
        "sep=;\ncontent;style\nsample:harbour;sample:swirl\n",
        "style,content\nsample:swirl,sample:harbour",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_delimiters_headers_and_encodings(tmp_path: Path, text: str, encoding: str) -> None:
    (row,) = read_rows(table(tmp_path, text.encode(encoding)))
    assert (row.content, row.styles) == ("sample:harbour", ("sample:swirl",))
    assert (row.output, row.changes) == (None, {})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names there")
def test_names_in_a_pipe_are_taken_as_they_are(tmp_path: Path) -> None:
    """It has a folder, as /dev/fd is that of <(...), but the pictures are not there."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    text = "content,style,init\na.png,sub/b.png,c.png\n"
    writer = threading.Thread(target=path.write_text, args=(text,))
    writer.start()
    (row,) = read_rows(path)
    writer.join()
    assert (row.content, row.styles, row.changes["init"]) == (
        "a.png", (str(Path("sub/b.png")),), "c.png"
    )  # fmt: skip


def test_windows_1252(tmp_path: Path) -> None:
    (row,) = read_rows(table(tmp_path, "content,style\nphoto-é.png,sample:ink\n".encode("cp1252")))
    assert row.content == str(tmp_path / "photo-é.png")


def test_lines_are_counted_in_the_file(tmp_path: Path) -> None:
    rows = read_rows(table(tmp_path, "sep=,\n" + ROW + "\nsample:ink,sample:ink\n"))
    assert [row.line for row in rows] == [3, 5]


def test_numbers_with_decimal_commas(tmp_path: Path) -> None:
    text = (
        "content;style;style_weight;Style Blend;tv-weight;iterations\n"
        "a.png;b.png;0,5;1,3;,25;20\n"
        "a.png;b.png;-1,5;;;\n"
    )
    with pytest.raises(InvalidInput, match=r"line 3: style_weight is -1\.5"):
        read_rows(table(tmp_path, text))
    (row,) = read_rows(table(tmp_path, text.rsplit("\n", 2)[0]))
    assert row.changes == {
        "style_weight": 0.5, "style_blend": (1.0, 3.0), "tv_weight": 0.25, "iterations": 20
    }  # fmt: skip


def test_paths_are_relative_to_the_table(tmp_path: Path, photo, monkeypatch) -> None:
    photo("start.png")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = "content,style,init,weights\na.png,b.png; sample:ink,start.png,vgg19\n"
    (row,) = read_rows(table(tmp_path, text))
    assert row.content == str(tmp_path / "a.png")
    assert row.styles == (str(tmp_path / "b.png"), "sample:ink")
    assert row.changes == {"init": str(tmp_path / "start.png"), "weights": "vgg19"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the first row has no column 'content'"),
        (b"content\na\n", "the first row has no column 'style'"),
        (b"a;b\n1;2\n", "no column 'content'; it names the columns, as content,style,output"),
        (b"content,style\n", "has no rows below the first"),
        (b"content,style\n,,\n", "has no rows below the first"),
        (b"content,style,Style\na,b,c\n", "the first row has 'style' twice"),
        (b"content,style,tv_weight,tv-weight\na,b,1,2\n", "the first row has 'tv_weight' twice"),
        (b"content,style\na\0,b\n", "line 2: there is a NUL character"),
        (b"content,style\na,b,c\n", "line 2: there are more cells than columns"),
        (b"content,style,,size\na,b,c,3\n", "line 2: 'c' is in a column without a name"),
        (b"content,style,tv_weight\na,b,\"1,000\"\n", "tv_weight is '1,000': write 1.000 or 1000"),
        (b"content,style\n\"a,b\n", "cannot be read: unexpected end of data"),
        (b"content,style\n\x81\x8d,b\n", "an encoding that cannot be told: save it as UTF-8"),
        (b"content,style\na,;\n", "line 2: the style is empty"),
        (b"content,style,preset\na,b,fast\n", "line 2: unknown setting 'preset'"),
        (b"content,style\n" + b"x" * 200_000 + b",b\n", "field larger than field limit"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_rows(table(tmp_path, data))
    assert message in str(caught.value)
    assert "jobs.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tables_that_are_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no.csv", tmp_path / ("x" * 5000), tmp_path / "a\0b"):
        with pytest.raises(InvalidInput, match="cannot be read"):
            read_rows(path)


@settings(deadline=None, max_examples=200)
@given(
    st.one_of(
        st.binary(max_size=80),
        st.text(max_size=60).map(
            lambda t: f"content,style,size\n{t}".encode("utf-8", "surrogatepass")
        ),
    )
)
def test_any_bytes(tmp_path_factory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("tables") / "jobs.csv"
    path.write_bytes(data)
    try:
        rows = read_rows(path)
    except InvalidInput as error:
        message = str(error)
    else:
        message = ""
        assert all(row.content and row.styles for row in rows)
    assert "\n" not in message
