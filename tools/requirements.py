# Prints the Python packages that pyproject.toml names: "build" for building and running, "test" for the tests.
import pathlib
import sys
import tomllib

project = tomllib.loads((pathlib.Path(__file__).resolve().parent.parent / "pyproject.toml").read_text())
if sys.argv[1:] == ["build"]:
    print(*project["build-system"]["requires"], *project["project"]["dependencies"])
elif sys.argv[1:] == ["test"]:
    print(*project["project"]["optional-dependencies"]["test"])
else:
    sys.exit("usage: requirements.py build|test")
