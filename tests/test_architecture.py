"""Rules of the house that no linter knows: documents that must not drift, purity, what a command may load."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "python" / "penstock"

RFC = re.compile(r"\bRFC (\d{3,5})\b")
DEVIATION = re.compile(r"\bRFC (\d{3,5}) ([\d.]+) deviation:")
LINES_MAX = 400

PURE = ("smtp", "route", "queue", "envelope.py", "errors.py", "queries.py")
# Everything a pure module may take from the standard library; what is not here needs an argument.
PURE_MAY_IMPORT = frozenset(
    {
        *(
            "__future__",
            "abc",
            "base64",
            "bisect",
            "collections",
            "contextlib",
            "dataclasses",
            "email",
            "enum",
        ),
        *("functools", "hashlib", "heapq", "ipaddress", "itertools", "math", "operator", "re", "string"),
        *("stringprep", "types", "typing", "unicodedata"),
    }
)


def sources(*suffixes: str) -> Iterator[Path]:
    """Yield the project's own source files, tests included."""
    for folder in ("python", "rust", "tests", "tools", "benches"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in suffixes and not {"target", "__pycache__"} & set(path.parts):
                yield path


def modules(*names: str) -> Iterator[Path]:
    """Yield the files of packages or modules below python/penstock."""
    for name in names:
        path = PACKAGE / name
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield the full name of every import, and whether it runs when the module is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lazy = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(outer, ast.If) and "TYPE_CHECKING" in ast.unparse(outer.test))
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) not in lazy
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield f"{node.module or ''}.{alias.name}", id(node) not in lazy


def test_every_rfc_that_is_cited_is_listed() -> None:
    listed = set(RFC.findall((ROOT / "RFCS.md").read_text(encoding="utf-8")))
    cited = {
        number: path.relative_to(ROOT)
        for path in sources(".py", ".pyi", ".rs")
        for number in RFC.findall(path.read_text(encoding="utf-8"))
    }
    assert {number: path for number, path in cited.items() if number not in listed} == {}


def test_every_deviation_from_an_rfc_is_listed_with_its_section() -> None:
    rows = (ROOT / "RFCS.md").read_text(encoding="utf-8").splitlines()
    deviations = [row for row in rows if "deviation" in row]
    for path in sources(".py", ".pyi", ".rs"):
        for number, section in DEVIATION.findall(path.read_text(encoding="utf-8")):
            cells = [f"RFC {number}", section.rstrip(".")]
            assert any(all(cell in row for cell in cells) for row in deviations), f"{path}: {cells}"


def test_every_configuration_key_is_documented() -> None:
    from penstock.config import model

    document = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`([a-z_0-9]+)`", document))
    assert {key for key in model.key_names() if key not in documented} == set()


def test_the_stub_and_the_extension_name_the_same_things() -> None:
    core = importlib.import_module("penstock._core")
    tree = ast.parse((PACKAGE / "_core.pyi").read_text(encoding="utf-8"))
    (declared,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    assert sorted(declared) == sorted(core.__all__)


@pytest.mark.parametrize("path", list(modules(*PURE)), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pure_modules_import_only_what_is_pure(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0]
    for name, _ in imports(path):
        top, _, rest = name.partition(".")
        if top == "penstock":
            assert rest.split(".")[0] in {own, "envelope", "errors"}, name
        else:
            assert top in PURE_MAY_IMPORT, name


def test_the_extension_is_used_where_there_is_io_only() -> None:
    users = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        for name, _ in imports(path)
        if name.startswith("penstock._core")
    }
    assert users <= {
        "assembly.py",
        "daemon.py",
        "engine.py",
        "spool.py",
        "receive",
        "deliver",
        "control",
        "observe",
        "config",
        "cli",
        "testing",
    }


@pytest.mark.parametrize("name", ["penstock", "penstock.client", "penstock.cli"])
def test_a_command_starts_without_the_engine(name: str) -> None:
    code = f"import json, sys, {name}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    heavy = {"trio", "h11", "rich", "pydantic", "prometheus_client", "dns", "asyncio"}
    heavy |= {f"penstock.{part}" for part in ("_core", "engine", "config", "receive", "deliver", "queue")}
    assert loaded & heavy == set()


def test_the_client_needs_the_standard_library_only() -> None:
    for path in modules("client"):
        for name, _ in imports(path):
            top = name.partition(".")[0]
            assert top in sys.stdlib_module_names or name.startswith(
                ("penstock.client", "penstock.errors")
            ), f"{path.name}: {name}"


def test_rust_crates_know_only_what_lies_below_them() -> None:
    below = {
        "core": set(),
        "spool": {"core"},
        "net": {"core"},
        "engine": {"core", "net", "spool"},
        "bindings": {"core", "engine"},
    }
    for crate, allowed in below.items():
        manifest = tomllib.loads((ROOT / "rust" / crate / "Cargo.toml").read_text(encoding="utf-8"))
        ours = {name.removeprefix("penstock-") for name in manifest["dependencies"] if "penstock" in name}
        assert ours <= allowed, crate
        assert ("pyo3" in manifest["dependencies"]) == (crate == "bindings"), crate


def test_rust_core_is_pure() -> None:
    forbidden = re.compile(r"\bstd::(fs|net|time|thread|process|env)\b|\bunsafe\s*\{|\brand::")
    for path in sorted((ROOT / "rust" / "core" / "src").rglob("*.rs")):
        assert forbidden.search(path.read_text(encoding="utf-8")) is None, path
    assert "#![forbid(unsafe_code)]" in (ROOT / "rust/core/src/lib.rs").read_text(encoding="utf-8")


def test_python_files_stay_short() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in PACKAGE.rglob("*.py")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > LINES_MAX
    }
    assert long == {}
