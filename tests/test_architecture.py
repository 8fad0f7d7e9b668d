"""The house stands on its floors: a file imports its own folder and lower floors only."""

import ast
import pathlib

import pytest

import jaxdecode

PACKAGE = pathlib.Path(jaxdecode.__file__).parent
FLOORS = {
    "core": 1,
    "cache": 2,
    "native": 2,
    "transforms": 2,
    "sampling": 3,
    "models": 3,
    "decode": 4,
    "weights": 4,
    "report": 4,
    "text": 5,
    "testing": 5,
    "measure": 5,
    "engine": 6,
    "server": 7,
    "cli": 8,
}
FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE)


def floor_of(folder):
    return FLOORS[folder]


def imported_folders(path):
    """Yield the folders of the package that a file imports, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "jaxdecode" and len(parts) > 1 and parts[1] in FLOORS:
                yield parts[1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_imports_only_its_own_folder_and_lower_floors(path):
    home = path.relative_to(PACKAGE).parts[0]
    for folder in imported_folders(path):
        assert folder == home or FLOORS[folder] < FLOORS[home], (
            f"{path.relative_to(PACKAGE)} (floor {FLOORS[home]}) imports {folder} "
            f"(floor {FLOORS[folder]})"
        )


def named_files(path, *, package=PACKAGE):
    """Yield the files of the package that a file imports by name, anywhere in its code.

    An import inside a function or for the type checker counts like any other: whoever
    reads one of the two files must know the other. The `__init__.py` of a folder is a
    contents page, which counts only where a name is taken from it.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield from place_of(f"{node.module}.{alias.name}", package)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from place_of(alias.name, package)


def place_of(name, package):
    """Yield the file that defines a dotted name, or the folder's contents page."""
    parts = name.split(".")
    while len(parts) > 1 and parts[0] == package.name:
        place = package.joinpath(*parts[1:])
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.exists():
                yield file
                return
        parts.pop()
    if parts == [package.name]:
        yield package / "__init__.py"


def circles(imports):
    """Return the sets of files of which each can be reached from each other one."""

    def reached(start):
        found, open_ones = set(), [start]
        while open_ones:
            for file in imports.get(open_ones.pop(), ()):
                if file not in found:
                    found.add(file)
                    open_ones.append(file)
        return found

    within = {file: reached(file) for file in imports}
    return {
        frozenset(other for other in within[file] if file in within.get(other, ()))
        for file in imports
        if file in within[file]
    }


def test_no_two_files_import_each_other_even_by_way_of_others():
    imports = {path: set(named_files(path)) for path in PACKAGE.rglob("*.py")}
    found = [
        " <-> ".join(sorted(str(path.relative_to(PACKAGE)) for path in circle))
        for circle in circles(imports)
    ]
    assert not found, "import circles: " + "; ".join(sorted(found))


@pytest.mark.parametrize(
    "code",
    [
        "from house.room.a import x",
        "from house.room import a",
        "import house.room.a",
        "def late():\n    from house.room import a",
        "if TYPE_CHECKING:\n    from house.room.a import x",
    ],
)
def test_a_circle_is_found_in_whatever_form_it_is_written(tmp_path, code):
    house = tmp_path / "house"
    (house / "room").mkdir(parents=True)
    texts = {"a": "from house.room.b import y", "b": "import house.room.c", "c": code}
    for name, text in texts.items():
        (house / "room" / f"{name}.py").write_text(text)
    files = {house / "room" / f"{name}.py" for name in texts}
    imports = {path: set(named_files(path, package=house)) for path in files}
    assert circles(imports) == {frozenset(files)}


def test_every_folder_has_a_floor():
    folders = {p.relative_to(PACKAGE).parts[0] for p in FILES}
    assert folders - {"__pycache__"} <= set(FLOORS)


def test_decode_and_models_never_meet():
    met = {
        (path.relative_to(PACKAGE).parts[0], folder)
        for path in FILES
        for folder in imported_folders(path)
    }
    assert not met & {("decode", "models"), ("models", "decode")}


@pytest.mark.parametrize("name", [n for n in jaxdecode.__all__ if n[0] != "_"])
def test_every_public_name_is_documented_in_the_house_style(name):
    value = getattr(jaxdecode, name)
    doc = value.__doc__ or ""
    first = doc.strip().split("\n")[0]
    assert first.endswith((".", ":")), f"{name}: the first line is not a sentence"
    if callable(value) and getattr(value, "__module__", "").startswith("jaxdecode"):
        assert len(doc) > 60, f"{name}: says too little"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_file_says_what_it_knows(path):
    assert ast.get_docstring(ast.parse(path.read_text()))
