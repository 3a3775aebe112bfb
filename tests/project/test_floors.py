"""The architecture: what may import what. The only list of the floors of the house."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "charlm"

# The wings, lowest floor first. A module imports from its own wing and from lower floors only;
# wings that share a floor do not know each other.
FLOORS: list[set[str]] = [
    {"common"},
    {"cells"},
    {"config"},
    {"text", "native"},
    {"models"},
    {"runs", "backends"},
    {"distributed"},
    {"sampling", "evaluation"},
    {"training"},
    {"inspection"},
    {"comparison"},
    {"reports"},
    {"exports", "serving"},
    {"api", "lecture"},
    {"terminal"},
    {"cli"},
    {"__main__"},
]
LEVEL = {wing: level for level, wings in enumerate(FLOORS) for wing in wings}


def modules() -> dict[str, Path]:
    """Every module by its dotted name below `charlm`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        dotted = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[dotted.removesuffix(".__init__")] = path
    del found["__init__"]
    return found


MODULES = modules()


def imported(module: str) -> set[str]:
    """The modules of charlm that a module imports, anywhere in its file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            dotted = name.removeprefix("charlm.")
            while dotted and name.startswith("charlm.") and dotted not in MODULES:
                dotted = dotted.rpartition(".")[0]
            if dotted in MODULES and name.startswith("charlm."):
                found.add(dotted)
    return found - {module}


def wing(module: str) -> str:
    return module.partition(".")[0]


def test_every_wing_has_a_floor() -> None:
    assert {wing(module) for module in MODULES} == set(LEVEL)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downward_only(module: str) -> None:
    own = wing(module)
    upward = {
        other
        for other in imported(module)
        if wing(other) != own and LEVEL[wing(other)] >= LEVEL[own]
    }
    assert not upward, f"{module} imports {', '.join(sorted(upward))}"


def test_no_imports_go_in_a_circle() -> None:
    TopologicalSorter({module: imported(module) for module in MODULES}).prepare()


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("text.")])
def test_rooms_of_text_know_only_those_below(module: str) -> None:
    of_text = {other for other in imported(module) if wing(other) == "text"}
    if module.startswith("text.files"):
        assert all(other.startswith("text.files") for other in of_text)
    elif not module.startswith("text.encode") and module != "text.corpus":
        assert not any(other.startswith("text.encode") for other in of_text)


def test_a_module_fits_in_the_head() -> None:
    long = {
        module: lines
        for module, path in MODULES.items()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert not long


# Functions over 60 lines, each with its reason.
LONG_FUNCTIONS: dict[str, str] = {}


def test_a_function_fits_on_a_screen() -> None:
    long = {
        f"{module}.{node.name}"
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= 60
    }
    assert long == set(LONG_FUNCTIONS)
