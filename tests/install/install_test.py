# SPDX-License-Identifier: BSD-3-Clause
"""Installs the build, moves the result elsewhere, and uses it as a stranger would.

Run by ctest with TORCHKEEP_ROOT (the project), TORCHKEEP_BUILD (the build folder), TORCHKEEP_LIBTORCH (LibTorch's folder,
empty when the adapter is not built), CMAKE and CXX in the environment. Standard library only.
"""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(os.environ["TORCHKEEP_ROOT"])
BUILD = pathlib.Path(os.environ["TORCHKEEP_BUILD"])
LIBTORCH = os.environ["TORCHKEEP_LIBTORCH"]
CMAKE = os.environ["CMAKE"]
HERE = pathlib.Path(__file__).parent
# A stranger's shell knows nothing of ours.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "CMAKE_PREFIX_PATH"}


def run(*command, **more):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, env=ENVIRONMENT | more)


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="torchkeep-install-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        installed = run(CMAKE, "--install", BUILD, "--prefix", cls.folder / "first")
        assert installed.returncode == 0, installed.stdout + installed.stderr
        cls.prefix = cls.folder / "moved"
        (cls.folder / "first").rename(cls.prefix)

    def succeeds(self, *command, **more):
        done = run(*command, **more)
        self.assertEqual(done.returncode, 0, f"{command}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def configure(self, source, name, *options):
        return run(CMAKE, "-G", "Ninja", "-S", HERE / source, "-B", self.folder / name, "-DCMAKE_BUILD_TYPE=Release",
                   *options)

    def consume(self, what, *prefixes):
        """Configures, builds and runs the consumer; returns what it printed."""
        configured = self.configure("consumer", what, f"-DCONSUMED={what}",
                                    "-DCMAKE_PREFIX_PATH=" + ";".join(map(str, (self.prefix, *prefixes))))
        self.assertEqual(configured.returncode, 0, configured.stdout + configured.stderr)
        self.succeeds(CMAKE, "--build", self.folder / what)
        return self.succeeds(self.folder / what / "consumer", self.folder / f"{what}.pt")

    def test_core_is_found_linked_and_works(self):
        self.assertEqual(self.consume("core").splitlines(), ["a run, epoch 3", "not_found"])

    def test_program_runs_and_has_its_manual_and_completion(self):
        program = self.prefix / "bin/torchkeep"
        self.assertRegex(self.succeeds(program, "--version"), r"^torchkeep \d+\.\d+\.\d+\n$")
        manual = (self.prefix / "share/man/man1/torchkeep.1").read_text()
        completion = (self.prefix / "share/bash-completion/completions/torchkeep").read_text()
        self.assertEqual(manual, self.succeeds(program, "completion", "man"))
        self.assertEqual(completion, self.succeeds(program, "completion", "bash"))

    @unittest.skipUnless(LIBTORCH, "this build has no adapter")
    def test_adapter_is_found_linked_and_works(self):
        self.assertEqual(self.consume("torch", LIBTORCH).splitlines(), ["equal"])

    @unittest.skipIf(LIBTORCH, "this build has the adapter")
    def test_asking_for_an_adapter_that_was_not_installed_says_so(self):
        asked = self.configure("consumer", "asked", "-DCONSUMED=torch", f"-DCMAKE_PREFIX_PATH={self.prefix}")
        self.assertNotEqual(asked.returncode, 0)
        self.assertIn("without its LibTorch adapter", " ".join(asked.stderr.split()))

    def test_another_version_is_not_taken_for_this_one(self):
        project = self.folder / "newer"
        project.mkdir()
        (project / "CMakeLists.txt").write_text(
            "cmake_minimum_required(VERSION 3.22)\nproject(newer LANGUAGES CXX)\nfind_package(torchkeep 9.9 REQUIRED)\n")
        asked = self.configure(project, "newer-build", f"-DCMAKE_PREFIX_PATH={self.prefix}")
        self.assertNotEqual(asked.returncode, 0)
        self.assertIn("torchkeepConfig.cmake, version: ", asked.stderr)

    def test_no_file_names_the_place_it_was_built_in(self):
        texts = [path for path in self.prefix.rglob("*") if path.suffix in (".cmake", ".pc", ".h")]
        self.assertGreater(len(texts), 10)
        for path in texts:
            for place in (str(ROOT), str(BUILD), str(self.folder), LIBTORCH or str(BUILD)):
                self.assertNotIn(place, path.read_text(), f"{path.relative_to(self.prefix)} names {place}")

    def test_every_public_header_is_installed_and_no_other(self):
        layers = [path for path in (ROOT / "src").iterdir() if LIBTORCH or path.name != "torch"]
        public = [folder / "include" for folder in layers] + [ROOT / "include"]
        expected = {header.relative_to(folder).as_posix() for folder in public for header in folder.rglob("*.h")}
        if not LIBTORCH:
            expected.discard("torchkeep/torch.h")
        include = self.prefix / "include"
        self.assertEqual({header.relative_to(include).as_posix() for header in include.rglob("*.h")}, expected)

    @unittest.skipUnless(shutil.which("pkg-config"), "pkg-config is not installed")
    def test_pkg_config_knows_how_to_link_the_core(self):
        path = next(self.prefix.rglob("torchkeep.pc")).parent
        flags = self.succeeds("pkg-config", "--cflags", "--libs", "torchkeep", PKG_CONFIG_PATH=str(path)).split()
        program = self.folder / "by-pkg-config"
        self.succeeds(os.environ["CXX"], "-std=c++20", HERE / "consumer" / "core.cpp", "-o", program, *flags)
        self.assertIn("epoch 3", self.succeeds(program, self.folder / "by-pkg-config.pt"))

    def test_sources_inside_another_project_are_configured(self):
        nested = self.configure("nested", "nested", f"-DTORCHKEEP_ROOT={ROOT}", "-DTORCHKEEP_BUILD_TORCH=OFF")
        self.assertEqual(nested.returncode, 0, nested.stdout + nested.stderr)
        targets = self.succeeds(CMAKE, "--build", self.folder / "nested", "--target", "help")
        self.assertNotIn("_test:", targets, "another project's build must not contain our tests")


if __name__ == "__main__":
    unittest.main()
