"""Install each wheel alone into an empty environment and use it there.

    python tools/check_wheels.py dist

A wheel must carry `py.typed`, no `motadata/__init__.py`, and nothing but its own package; it must
install with core as the only other `motadata` distribution, import, and have loadable entry points.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path


PROBE = """
import importlib, importlib.metadata as metadata, sys
name = sys.argv[1]
module = importlib.import_module("motadata." + name)
assert module.__version__ == metadata.version("motadata-" + name), "version differs"
installed = {d.name for d in metadata.distributions() if d.name.startswith("motadata-")}
assert installed == {"motadata-core", "motadata-" + name}, installed
for point in metadata.distribution("motadata-" + name).entry_points:
    point.load()
public = getattr(module, "__all__", [])
missing = [item for item in public if not hasattr(module, item)]
assert not missing, missing
print("motadata." + name, module.__version__, "imports,", len(public), "public names")
"""


def main() -> int:
    """Check the wheels in the folder that the command line names."""
    folder = Path(sys.argv[1])
    wheels = sorted(folder.glob("motadata_*.whl"))
    if len(wheels) != 7:
        print(f"expected 7 wheels in {folder}, found {len(wheels)}")
        return 1
    failures = 0
    for wheel in wheels:
        problem = check_contents(wheel) or check_install(wheel, folder)
        if problem:
            failures += 1
            print(f"{wheel.name}: {problem}")
    return 1 if failures else 0


def check_contents(wheel: Path) -> str | None:
    """Return what is wrong with the files of a wheel."""
    package = wheel.name.split("-")[0].removeprefix("motadata_")
    names = zipfile.ZipFile(wheel).namelist()
    if "motadata/__init__.py" in names:
        return "holds motadata/__init__.py, which hides the other packages"
    if f"motadata/{package}/py.typed" not in names:
        return "holds no py.typed"
    foreign = [n for n in names if n.startswith("motadata/") and n.split("/")[1] != package]
    return f"holds another package's files: {foreign[:3]}" if foreign else None


def check_install(wheel: Path, folder: Path) -> str | None:
    """Return why a wheel cannot be used in an environment of its own."""
    package = wheel.name.split("-")[0].removeprefix("motadata_")
    with tempfile.TemporaryDirectory() as directory:
        python = Path(directory) / "bin" / "python"
        commands = [
            ["uv", "venv", "--quiet", "--python", sys.executable, directory],
            [
                "uv",
                "pip",
                "install",
                "--quiet",
                "--python",
                str(python),
                "--find-links",
                str(folder),
                str(wheel),
            ],
            [str(python), "-W", "error", "-c", PROBE, package],
        ]
        printed = ""
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
            if done.returncode:
                return f"{command[0]}: {done.stderr.strip()[-2000:]}"
            printed = done.stdout.strip()
        print(printed)
    return None


if __name__ == "__main__":
    sys.exit(main())
