# SPDX-License-Identifier: BSD-3-Clause
"""What is in the wheel: it needs the C and C++ libraries of the system and no others, and gives none of its names away."""
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig

import pytest

import torchkeep
from torchkeep import _core

EXTENSION = pathlib.Path(_core.__file__)
PROGRAM = pathlib.Path(sysconfig.get_path("scripts")) / "torchkeep"
SYSTEM = re.compile(r"(ld-linux.*|lib(c|m|dl|rt|pthread|stdc\+\+|gcc_s))\.so\.\d+")
FOLDERS = [pathlib.Path(folder) for folder in ("/usr/lib", "/usr/lib64", "/usr/local/lib")]
STATIC = {name for folder in FOLDERS for pattern in ("lib*.a", "*-linux-gnu/lib*.a") for name in folder.glob(pattern)}

pytestmark = pytest.mark.skipif(sys.platform != "linux" or not shutil.which("readelf"),
                                reason="readelf is needed, which there is on Linux with a compiler")


def readelf(option, path):
    return subprocess.run(["readelf", "-W", option, path], capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not {"libcrypto.a", "libdeflate.a"} <= {path.name for path in STATIC},
                    reason="this system has libcrypto or libdeflate not as static libraries, so the wheel links them so")
@pytest.mark.parametrize("path", [EXTENSION, PROGRAM], ids=["extension", "program"])
def test_it_needs_no_library_but_the_systems_own(path):
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", readelf("-d", path))
    assert "libc.so.6" in needed
    assert [name for name in needed if not SYSTEM.fullmatch(name)] == []


def test_the_extension_shows_its_entry_and_nothing_else():
    names = {line.split()[-1] for line in readelf("--dyn-syms", EXTENSION).splitlines()
             if " GLOBAL " in line and " DEFAULT " in line and " UND " not in line}
    assert names == {"PyInit__core"}


def test_its_type_information_comes_with_it():
    folder = pathlib.Path(torchkeep.__file__).parent
    assert (folder / "py.typed").exists() and (folder / "__init__.pyi").exists()
