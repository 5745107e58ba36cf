# SPDX-License-Identifier: BSD-3-Clause
"""Shows where cmake/FindLibTorch.cmake looks, in which order, and what it says when it finds nothing or another version.

Run by ctest with TORCHKEEP_ROOT and CMAKE in the environment. The LibTorchs are folders of empty files.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

MODULES = pathlib.Path(os.environ["TORCHKEEP_ROOT"]) / "cmake"
PROJECT = f"""
cmake_minimum_required(VERSION 3.22)
project(finder LANGUAGES CXX)
list(APPEND CMAKE_MODULE_PATH "{MODULES}")
find_package(LibTorch REQUIRED)
get_target_property(libraries LibTorch::LibTorch INTERFACE_LINK_LIBRARIES)
get_target_property(definitions LibTorch::LibTorch INTERFACE_COMPILE_DEFINITIONS)
get_target_property(includes LibTorch::torch INTERFACE_INCLUDE_DIRECTORIES)
message(STATUS "got ${{LibTorch_DIR}}|${{LibTorch_VERSION}}|${{LibTorch_CUDA}}|${{libraries}}|${{definitions}}|${{includes}}")
"""


def make_libtorch(folder, version="2.13.0", cuda=False, old_strings=False):
    """A folder that looks like LibTorch, or like a wheel's torch package."""
    major, minor, patch = version.split(".")
    api = folder / "include/torch/csrc/api/include/torch"
    for made in (api, folder / "include/torch/headeronly", folder / "lib", folder / "share/cmake/Torch"):
        made.mkdir(parents=True)
    (api / "torch.h").touch()
    (folder / "include/torch/headeronly/version.h").write_text(
        f"#define TORCH_VERSION_MAJOR {major}\n#define TORCH_VERSION_MINOR {minor}\n#define TORCH_VERSION_PATCH {patch}\n"
        f'#define TORCH_VERSION \\\n  "{version}"\n')
    for name in ("torch", "torch_cpu", "c10") + (("torch_cuda", "c10_cuda") if cuda else ()):
        for suffix in ("so", "dylib"):
            (folder / f"lib/lib{name}.{suffix}").touch()
    (folder / "share/cmake/Torch/TorchConfig.cmake").write_text(
        f'set(TORCH_CXX_FLAGS "-D_GLIBCXX_USE_CXX11_ABI={int(not old_strings)}")\n')
    return folder


class Found:
    def __init__(self, line):
        self.folder, self.version, self.cuda, self.libraries, self.definitions, self.includes = line.split("|")


class FindLibTorch(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="torchkeep-find-")).resolve()
        self.addCleanup(shutil.rmtree, self.folder)
        (self.folder / "CMakeLists.txt").write_text(PROJECT)
        # A python3 that has no torch, whatever this machine's has.
        self.python = self.folder / "python"
        self.python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
        self.python.chmod(0o755)

    def configure(self, *options, prefix_variable="", python=None):
        environment = {name: value for name, value in os.environ.items() if name not in ("LibTorch_ROOT", "PYTHONPATH")}
        return subprocess.run(
            [os.environ["CMAKE"], "-S", self.folder, "-B", self.folder / "build",
             f"-DPython3_EXECUTABLE={python or self.python}", *options],
            capture_output=True, text=True, env=environment | {"CMAKE_PREFIX_PATH": prefix_variable})

    def find(self, *options, **more):
        done = self.configure(*options, **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return Found(next(line for line in done.stdout.splitlines() if line.startswith("-- got "))[len("-- got "):])

    def test_takes_a_plain_libtorch_from_the_prefix_path(self):
        plain = make_libtorch(self.folder / "libtorch")
        found = self.find(f"-DCMAKE_PREFIX_PATH=/nowhere;{plain}")
        self.assertEqual((found.folder, found.version, found.cuda), (str(plain), "2.13.0", "FALSE"))
        self.assertEqual(found.includes, f"{plain}/include;{plain}/include/torch/csrc/api/include")

    def test_takes_it_from_the_environment_too(self):
        plain = make_libtorch(self.folder / "libtorch")
        self.assertEqual(self.find(prefix_variable=f"/nowhere:{plain}").folder, str(plain))

    def test_takes_the_prefix_path_that_a_wheel_names_and_its_environment(self):
        wheel = make_libtorch(self.folder / "venv/lib/python3.11/site-packages/torch")
        self.assertEqual(self.find(f"-DCMAKE_PREFIX_PATH={wheel}/share/cmake").folder, str(wheel))
        shutil.rmtree(self.folder / "build")
        self.assertEqual(self.find(f"-DCMAKE_PREFIX_PATH={self.folder}/venv").folder, str(wheel))

    def test_takes_the_torch_that_python_would_import(self):
        wheel = make_libtorch(self.folder / "site/torch")
        (wheel / "__init__.py").write_text("raise SystemExit('must not be imported')\n")
        python = self.folder / "python-with-torch"
        python.write_text(f'#!/bin/sh\nPYTHONPATH="{self.folder}/site" exec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        self.assertEqual(self.find(python=python).folder, str(wheel))

    def test_prefers_what_the_user_names(self):
        make_libtorch(self.folder / "site/torch")
        plain = make_libtorch(self.folder / "libtorch")
        other = make_libtorch(self.folder / "other")
        found = self.find(f"-DCMAKE_PREFIX_PATH={plain}", prefix_variable=str(other))
        self.assertEqual(found.folder, str(plain))
        shutil.rmtree(self.folder / "build")
        found = self.find(f"-DLibTorch_ROOT={other}", f"-DCMAKE_PREFIX_PATH={plain}")
        self.assertEqual(found.folder, str(other))

    def test_says_what_to_do_when_there_is_none(self):
        done = self.configure()
        self.assertNotEqual(done.returncode, 0)
        said = " ".join(done.stderr.split())
        for advice in ("Could NOT find LibTorch", "-DCMAKE_PREFIX_PATH=", "make test", "-DTORCHKEEP_BUILD_TORCH=OFF"):
            self.assertIn(advice, said)

    def test_warns_of_a_version_it_is_not_tested_with(self):
        plain = make_libtorch(self.folder / "libtorch", "2.12.1")
        done = self.configure(f"-DCMAKE_PREFIX_PATH={plain}")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("LibTorch 2.12.1", done.stderr)
        self.assertIn("2.13 only", " ".join(done.stderr.split()))

    def test_does_not_warn_of_the_tested_version(self):
        plain = make_libtorch(self.folder / "libtorch", "2.13.4")
        self.assertNotIn("LibTorch", self.configure(f"-DCMAKE_PREFIX_PATH={plain}").stderr)

    def test_sees_a_cuda_build_and_keeps_the_library_that_registers_kernels(self):
        plain = make_libtorch(self.folder / "libtorch", cuda=True)
        found = self.find(f"-DCMAKE_PREFIX_PATH={plain}")
        self.assertEqual(found.cuda, "TRUE")
        if sys.platform == "linux":
            self.assertTrue(found.libraries.startswith("-Wl,--no-as-needed;LibTorch::torch;-Wl,--as-needed"))

    def test_uses_the_string_that_the_wheel_was_built_with(self):
        plain = make_libtorch(self.folder / "libtorch", old_strings=True)
        self.assertEqual(self.find(f"-DCMAKE_PREFIX_PATH={plain}").definitions, "_GLIBCXX_USE_CXX11_ABI=0")


if __name__ == "__main__":
    unittest.main()
