"""The wheel works on its own: built, installed in a fresh environment, source away, HOME empty.

Why: what users install is the wheel, not the repository. A forgotten migration, a missing
``py.typed`` or an import of something that only the source tree has shows only here.
No network is needed: the environment that runs the tests lends what the wheel says it needs, and
no more, so that a package of an extra that the core came to need shows too. nemflow itself can
only come from the wheel, and that is checked. Takes about ten seconds.
"""

from __future__ import annotations

import email
import importlib.metadata
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPO = Path(__file__).resolve().parents[2]


def run(*command: str | Path, cwd: Path, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command with nothing of this shell's surroundings but PATH."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={"PATH": os.defpath, "HOME": str(home), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the repository as it is now."""
    out = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=REPO,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = out.glob("*.whl")
    return built


def needed_by(wheel: Path) -> set[str]:
    """The packages that ``pip install`` of the wheel alone would bring, by their project names."""
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(archive.read(name))
    pending = metadata.get_all("Requires-Dist") or []
    needed: set[str] = set()
    while pending:
        requirement = Requirement(pending.pop())
        extras = requirement.extras or {""}
        if requirement.marker and not any(
            requirement.marker.evaluate({"extra": extra}) for extra in extras
        ):
            continue
        if (key := canonicalize_name(requirement.name)) not in needed:
            needed.add(key)
            pending += importlib.metadata.requires(key) or []
    return needed


def lend(projects: set[str], folder: Path) -> None:
    """Link the files of these projects, as installed here, into a folder of their own."""
    folder.mkdir()
    for project in sorted(projects):
        distribution = importlib.metadata.distribution(project)
        tops = {Path(file).parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        for top in sorted(tops):
            if not (folder / top).exists():
                (folder / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())


class Installed:
    """A fresh environment with the wheel in it, an empty HOME and an empty working folder."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.work = folder / "work"
        self.home.mkdir()
        self.work.mkdir()
        environment = folder / "env"
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True
        )
        self.bin = environment / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.bin / "python"
        install = [sys.executable, "-m", "pip", "--python", str(self.python), "install"]
        subprocess.run(
            [*install, "--quiet", "--no-deps", "--no-index", str(wheel)],
            check=True,
            env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        site = Path(run(self.python, "-c", ask, cwd=self.work, home=self.home).stdout.strip())
        lent = folder / "lent"
        lend(needed_by(wheel), lent)
        (site / "lent.pth").write_text(f"{lent}\n", encoding="utf-8")
        self.site = site

    def nemflow(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the installed command."""
        return run(self.bin / "nemflow", *arguments, cwd=self.work, home=self.home)

    def code(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run Python code in the fresh environment."""
        return run(self.python, "-c", text, cwd=self.work, home=self.home)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    """The wheel installed; the folder holds one generated file, ``day.csv``."""
    place = Installed(tmp_path_factory.mktemp("installed"), wheel)
    done = place.code(
        "import nemflow, pathlib\n"
        "pathlib.Path('day.csv').write_bytes(nemflow.generate(nmis=1, days=2, seed=7))\n"
    )
    assert done.returncode == 0, done.stderr
    return place


def test_nemflow_comes_from_the_wheel(installed: Installed) -> None:
    """Imports resolve inside the fresh environment, never in the source tree."""
    done = installed.code("import nemflow; print(nemflow.__file__)")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(installed.site)
    assert str(REPO) not in done.stdout


def test_the_wheel_holds_what_users_need_and_nothing_else(wheel: Path) -> None:
    """Migrations, type marker and licence are inside; tests, bench and docs are not."""
    names = zipfile.ZipFile(wheel).namelist()
    assert "nemflow/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    scripts = {
        path.relative_to(REPO / "src").as_posix()
        for path in (REPO / "src/nemflow/store/migrations").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert any("/versions/" in name for name in scripts)
    assert scripts <= set(names)
    tops = {name.split("/")[0] for name in names}
    assert len(tops) == 2, tops  # nemflow and its dist-info
    assert [name for name in names if "test" in name.rsplit("/", 1)[-1]] == []


def test_the_metadata_names_a_light_core(wheel: Path) -> None:
    """The core needs six packages; servers, pandas and the like are extras."""
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    needs = email.message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []
    core = {Requirement(need).name for need in needs if "extra ==" not in need}
    assert core == {"polars", "sqlalchemy", "alembic", "typer", "rich", "plotext"}


def test_the_core_does_without_the_extras(installed: Installed) -> None:
    """What the other tests here show, they show without pandas, pyarrow, numpy or psycopg."""
    found = "import importlib.util as u; print([n for n in {names} if u.find_spec(n)])"
    names = ("pandas", "pyarrow", "numpy", "psycopg", "pytest")
    assert installed.code(found.format(names=names)).stdout.strip() == "[]"


def test_a_file_is_read(installed: Installed) -> None:
    """``nemflow.read`` gives every reading of the file."""
    done = installed.code("import nemflow; print(nemflow.read('day.csv').readings().height)")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 2 * 48


def test_the_command_works_from_file_to_readings(installed: Installed) -> None:
    """--version, check, load and readings, with an empty HOME and no source tree."""
    version = installed.nemflow("--version")
    assert version.returncode == 0, version.stderr
    assert installed.code("import nemflow; print(nemflow.__version__)").stdout.strip() in (
        version.stdout
    )

    check = installed.nemflow("check", "day.csv")
    assert check.returncode == 0, check.stdout + check.stderr

    load = installed.nemflow("load", "day.csv", "--db", "sqlite:///here.db", "--json")
    assert load.returncode == 0, load.stdout + load.stderr
    assert (installed.work / "here.db").stat().st_size > 0

    ask = "import nemflow; print(nemflow.read('day.csv').days['nmi'][0])"
    nmi = installed.code(ask).stdout.strip()
    readings = installed.nemflow("readings", nmi, "--db", "sqlite:///here.db", "--json")
    assert readings.returncode == 0, readings.stdout + readings.stderr
    assert json.loads(readings.stdout)
    assert nmi in readings.stdout


def test_nothing_is_written_at_home(installed: Installed) -> None:
    """Using nemflow leaves no file in HOME behind."""
    installed.nemflow("check", "day.csv")
    assert list(installed.home.iterdir()) == []
