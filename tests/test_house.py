"""The plan of the house: storeys, arrows, faces, names."""

import ast
import re
import subprocess
import sys

import pytest
from world.frames import PROJECT

STOREYS = [  # the ground first; in a storey a name may import what stands right of it
    ["config settings utils files", "executors utils files", "metrics"],
    ["data_loader preprocessing dataset dataset_builder candles"],
    ["models model_builder networks sequence_generator artifacts"],
    ["positions rl reports evaluation", "positions rl signals evaluation", "audit"],
    [
        "live experiments trainer",
        "live experiments predictor",
        "stages tuning experiments trainer",
    ],
]
MAY_KNOW_EACH_OTHER = [
    {"config", "settings"},
    {"utils", "files"},
    {"data_loader", "preprocessing"},
    {"dataset", "dataset_builder"},
    {"model_builder", "networks"},
]
"""A face and the package behind it."""
HAVE_KERAS = {"networks", "model_builder", "sequence_generator", "rl"}
HAVE_NAMES = {"candles", "models"}
"""Packages whose `__init__` is more than a docstring."""
LIBRARIES = {
    "keras",
    "numpy",
    "pandas",
    "scipy",
    "torch",
    "yaml",
    "ray",
    "optuna",
    "ta",
}
ALONE = [("dataset.features", "dataset.labels"), ("dataset.labels", "dataset.features")]

STOREY = {
    name: number
    for number, rows in enumerate(STOREYS)
    for row in rows
    for name in row.split()
}
FILES = sorted(
    path
    for name in STOREY
    for path in (
        [PROJECT / f"{name}.py"]
        if (PROJECT / f"{name}.py").is_file()
        else (PROJECT / name).glob("*.py")
    )
)
IDS = [str(path.relative_to(PROJECT)) for path in FILES]


def top_of(path):
    return path.relative_to(PROJECT).parts[0].removesuffix(".py")


def is_set_apart(node):
    """Imports for types alone, and those of a command's last lines."""
    return isinstance(node, ast.If) and re.search(
        r"TYPE_CHECKING|__main__", ast.unparse(node.test)
    )


def imports(path, *, top_only=False):
    """Yields the dotted names that a module imports."""
    waiting = list(ast.parse(path.read_text()).body)
    while waiting:
        node = waiting.pop()
        if is_set_apart(node):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not top_only:
            waiting += ast.iter_child_nodes(node)


def is_allowed(importer, imported):
    if STOREY[imported] != STOREY[importer]:
        return STOREY[imported] < STOREY[importer]
    rows = [row.split() for row in STOREYS[STOREY[importer]]]
    return {importer, imported} in MAY_KNOW_EACH_OTHER or any(
        importer in row and imported in row[row.index(importer) :] for row in rows
    )


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_imports_point_down(path):
    for name in imports(path):
        imported = name.split(".")[0]
        if imported in STOREY:
            assert is_allowed(top_of(path), imported), f"imports {name}"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_only_the_networks_import_keras(path):
    found = {name.split(".")[0] for name in imports(path, top_only=True)}
    assert top_of(path) in HAVE_KERAS or not found & {"keras", "tensorflow"}


def test_what_only_writes_numbers_loads_nothing_that_draws():
    """A run with a light report goes through these modules, and those they import."""
    waiting, seen = ["reports.report", "positions.report", "reports.comparison"], set()
    while waiting:
        name = waiting.pop()
        assert not name.startswith("matplotlib"), seen
        for each in (name, name.rpartition(".")[0]):
            path = PROJECT / f"{each.replace('.', '/')}.py"
            if path.is_file() and path not in seen:
                seen.add(path)
                waiting += imports(path, top_only=True)
    assert PROJECT / "reports/plots.py" in seen


def test_every_module_has_a_storey():
    packages = {path.parent.name for path in PROJECT.glob("*/__init__.py")}
    modules = {path.stem for path in PROJECT.glob("*.py")}
    assert packages | modules == set(STOREY)
    assert len(modules) == 8 and not LIBRARIES & packages
    nested = {path.parent.parent for path in PROJECT.glob("*/*/__init__.py")}
    assert not nested - {PROJECT / "tests"}


@pytest.mark.parametrize("one, other", ALONE)
def test_features_and_labels_do_not_know_each_other(one, other):
    assert other not in list(imports(PROJECT / f"{one.replace('.', '/')}.py"))


def test_settings_are_light():
    for path in (PROJECT / "settings").glob("*.py"):
        found = {name.split(".")[0] for name in imports(path)}
        assert found - set(sys.stdlib_module_names) <= {
            *("yaml", "numpy", "config", "settings", "utils"),
        }, path


def test_trainer_imports_only_config_and_utils():
    found = {x.split(".")[0] for x in imports(PROJECT / "trainer.py", top_only=True)}
    assert found & set(STOREY) == {"config", "utils"}


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_private_names_stay_inside_their_package(path):
    for name in imports(path):
        package, *inner = name.split(".")
        private = any(part.startswith("_") for part in inner)
        assert not private or package not in STOREY or package == top_of(path), name


def test_inits_are_docstrings():
    for path in PROJECT.glob("*/__init__.py"):
        if path.parent.name not in HAVE_NAMES:
            body = ast.parse(path.read_text()).body
            assert len(body) == 1 and ast.get_docstring(ast.parse(path.read_text()))


def test_tests_share_a_world_and_not_each_other():
    for path in (PROJECT / "tests").rglob("*.py"):
        found = re.findall(r"(?:from|import) (test_\w+|conftest)\b", path.read_text())
        assert not found, path


def test_argparse_is_in_the_entry_points():
    commands = {"dataset_builder.py", "predictor.py", "trainer.py"}
    commands |= {"settings/options.py"}
    for path, name in zip(FILES, IDS, strict=True):
        if "argparse" in imports(path):
            assert name in commands or path.name == "__main__.py", name


def test_readme_tree_names_every_folder():
    readme = (PROJECT / "README.md").read_text()
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    folders = {name.split("/")[0] for name in tracked if "/" in name}
    missing = {name for name in folders if f"{name}/" not in readme}
    assert not missing


def test_nothing_is_done_at_import():
    names = [
        ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        for path in FILES
        if top_of(path) not in HAVE_KERAS and path.name != "__init__.py"
    ]
    code = (
        "import sys, logging, os; before = dict(os.environ)\n"
        f"import {', '.join(names)}\n"
        "assert dict(os.environ) == before\n"
        "assert not logging.getLogger().handlers\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules"
    )
    probe = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert probe.returncode == 0, probe.stderr


def test_nothing_is_ever_unpickled():
    forbidden = re.compile(
        r"pickle\.loads?\b|joblib\.load|allow_pickle=True|read_pickle"
    )
    for path in FILES:
        assert not forbidden.search(path.read_text()), path


def test_folders_have_at_most_20_modules_and_modules_400_lines():
    folders = {path.parent for path in PROJECT.glob("*/__init__.py")} | {PROJECT}
    for folder in folders - {PROJECT / "tests"}:
        modules = [p for p in folder.glob("*.py") if p.stem != "__init__"]
        assert len(modules) <= 20, folder.name
        for path in modules:
            assert path.read_text().count("\n") <= 400, path
