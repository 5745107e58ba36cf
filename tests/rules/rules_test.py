# SPDX-License-Identifier: BSD-3-Clause
"""Holds the source tree to the rules of rules.py, and shows for every rule that breaking it is noticed.

Run by ctest with TORCHKEEP_ROOT (the project) and TORCHKEEP_CORE (libtorchkeep.a) in the environment. Standard library
only, so that it runs wherever the core builds.
"""
import os
import subprocess
import unittest

import rules

ROOT = os.environ["TORCHKEEP_ROOT"]
TREE = rules.read_tree(ROOT)


class TheTree(unittest.TestCase):
    """What is in the repository keeps every rule."""

    def holds(self, check, subject=TREE):
        violations = check(subject)
        self.assertEqual(violations, [], f"{check.__doc__}\n  " + "\n  ".join(violations))

    def test_was_read(self):
        self.assertGreater(len(rules.cpp_files(TREE)), 10)
        self.assertIn("src/base/error.cpp", TREE)

    def test_layers_include_only_downwards(self):
        self.holds(rules.check_layers)

    def test_only_the_adapter_knows_libtorch(self):
        self.holds(rules.check_libtorch_homes)

    def test_only_files_renames_and_syncs(self):
        self.holds(rules.check_durability_calls)

    def test_only_the_store_knows_the_paths_of_checkpoints(self):
        self.holds(rules.check_checkpoint_paths)

    def test_files_are_opened_by_name_through_the_checked_way_only(self):
        self.holds(rules.check_openings)

    def test_files_stay_short(self):
        self.holds(rules.check_sizes)

    def test_every_source_names_its_licence(self):
        self.holds(rules.check_licence_lines)

    def test_every_header_is_guarded(self):
        self.holds(rules.check_pragma_once)

    def test_no_namespace_shadows_torch(self):
        self.holds(rules.check_torch_namespace)

    def test_only_a_checked_extent_leads_to_memory(self):
        self.holds(rules.check_storage_addresses)

    def test_the_library_neither_prints_nor_ends_the_program(self):
        listing = subprocess.run(["nm", "-u", "--format=just-symbols", os.environ["TORCHKEEP_CORE"]], check=True,
                                 capture_output=True, text=True).stdout.split()
        self.assertTrue(any("libdeflate" in name for name in listing), "nm listed nothing of the library")
        self.holds(rules.check_undefined_symbols, listing)


class BreakingARule(unittest.TestCase):
    """Each rule sees the mistake it is for, and lets its neighbour pass."""

    def refused(self, check, path, text):
        self.assertEqual(len(check({path: text})), 1, f"{check.__name__} must refuse {path}:\n{text}")

    def accepted(self, check, path, text):
        self.assertEqual(check({path: text}), [], f"{check.__name__} must accept {path}:\n{text}")

    def test_an_upward_include_is_noticed(self):
        check = rules.check_layers
        self.refused(check, "src/state/value.cpp", "#include <torchkeep/format/pt.h>\n")
        self.refused(check, "src/files/publish.cpp", "#include <torchkeep/state/value.h>\n")
        self.refused(check, "src/base/error.cpp", "  #  include \"torchkeep/files/fs.h\"\n")
        self.refused(check, "src/format/pt/reader.cpp", "#include <torchkeep/torchkeep.h>\n")
        self.refused(check, "src/format/pt/reader.cpp", "#include \"../../files/lock.h\"\n")
        self.refused(check, "src/manager/a.cpp", "\n")
        self.accepted(check, "src/checkpoint/save.cpp", "#include <torchkeep/files/fs.h>\n#include <vector>\n")
        self.accepted(check, "src/state/value.cpp", "#include <torchkeep/state/value.h>\n#include \"node.h\"\n")

    def test_libtorch_outside_its_home_is_noticed(self):
        check = rules.check_libtorch_homes
        self.refused(check, "src/checkpoint/save.cpp", "#include <torch/torch.h>\n")
        self.refused(check, "src/state/tensor.cpp", "#include <ATen/Tensor.h>\n")
        self.refused(check, "include/torchkeep/torchkeep.h", "#include <c10/util/Half.h>\n")
        self.accepted(check, "src/torch/module.cpp", "#include <torch/torch.h>\n")
        self.accepted(check, "tests/state/value_test.cpp", "#include <torchkeep/torch.h>\n")

    def test_a_rename_outside_files_is_noticed(self):
        check = rules.check_durability_calls
        for call in ("::rename(a, b)", "rename(a, b)", "std::filesystem::rename(a, b)", "std::rename (a, b)",
                     "if (fsync(fd)) {}", "::fdatasync(fd)", "return unlink(path)"):
            self.refused(check, "src/checkpoint/save.cpp", f"void f() {{ {call}; }}\n")
        for call in ("fs.rename(a, b)", "fs->rename(a, b)", "// rename(a, b)", "\"::rename(\"", "my_rename(a)"):
            self.accepted(check, "src/checkpoint/save.cpp", f"void f() {{ {call}\n }}\n")
        self.refused(check, "src/files/publish.cpp", "int r = ::rename(a, b);\n")
        self.accepted(check, "src/files/posix_fs.cpp", "int r = ::rename(a, b);\n")

    def test_a_path_of_a_checkpoint_outside_the_store_is_noticed(self):
        check = rules.check_checkpoint_paths
        for call in ("names::checkpoint(step)", "names::parse_broken(name)", "fs.rename(a, b)", "fs_.rename(a, b)"):
            self.refused(check, "src/run/retain.cpp", f"void f() {{ {call}; }}\n")
        for call in ("store.path_of(step)", "names::finished(step)", "// names::checkpoint(step)"):
            self.accepted(check, "src/run/retain.cpp", f"void f() {{ {call}\n }}\n")
        self.accepted(check, "src/run/checkpoint_store.cpp", "fs_.rename(a, b);\n")
        self.accepted(check, "cli/tidy.cpp", "names::parse_checkpoint(a);\n")

    def test_an_unchecked_opening_is_noticed(self):
        check = rules.check_openings
        for call in ("int f = ::open(path, O_RDONLY)", "std::ifstream file(path)", "fopen(path, mode)", "::creat(path, 0666)"):
            self.refused(check, "src/run/metrics_log.cpp", f"void f() {{ {call}; }}\n")
        for call in ("Run::open(path)", "files_->open(name)", "zip.open(name)", "is_open(file)", "// ::open(path)"):
            self.accepted(check, "src/run/metrics_log.cpp", f"void f() {{ {call}\n; }}\n")
        self.refused(check, "src/files/posix_lock.cpp", "int f = ::open(path, O_RDWR | O_CREAT, 0666);\n")
        self.accepted(check, "src/files/posix_lock.cpp", "int f = ::open(path, O_RDWR | O_CREAT | kOwnFile, 0666);\n")
        self.accepted(check, "src/files/posix_fs.cpp", "int f = ::open(path, O_RDONLY | O_CLOEXEC);\n")

    def test_a_long_file_is_noticed(self):
        self.refused(rules.check_sizes, "src/base/include/torchkeep/base/a.h", "//\n" * 400)
        self.accepted(rules.check_sizes, "src/base/include/torchkeep/base/a.h", "//\n" * 299)
        self.refused(rules.check_sizes, "src/base/a.cpp", "//\n" * 800)
        self.accepted(rules.check_sizes, "src/base/a.h", "//\n" * 449)

    def test_a_missing_licence_is_noticed(self):
        check = rules.check_licence_lines
        self.refused(check, "src/base/a.cpp", "// What it is for.\n")
        self.refused(check, "src/base/a.cpp", "\n// SPDX-License-Identifier: BSD-3-Clause\n")
        self.refused(check, "tests/a.py", "import os\n")
        self.refused(check, "tools/run", "#!/usr/bin/env bash\nset -e\n")
        self.accepted(check, "tools/run", "#!/usr/bin/env bash\n# SPDX-License-Identifier: BSD-3-Clause\n")
        self.accepted(check, "tests/data/list.txt", "one\n")

    def test_an_unguarded_header_is_noticed(self):
        self.refused(rules.check_pragma_once, "src/base/a.h", "// #pragma once\nint a();\n")
        self.accepted(rules.check_pragma_once, "src/base/a.h", "#pragma once\nint a();\n")

    def test_a_namespace_over_torch_is_noticed(self):
        self.refused(rules.check_torch_namespace, "src/torch/a.cpp", "namespace torchkeep::torch {\n}\n")
        self.refused(rules.check_torch_namespace, "src/torch/a.cpp", "namespace torch {\n}\n")
        self.accepted(rules.check_torch_namespace, "src/torch/a.cpp", "namespace torchkeep::torch_adapter {\n}\n")

    def test_printing_and_ending_are_noticed(self):
        for name in ("stderr@GLIBC_2.2.5", "printf", "__fprintf_chk", "abort", "_ZSt4cerr", "exit"):
            self.assertEqual(len(rules.check_undefined_symbols([name])), 1, name)
        for name in ("snprintf", "vsnprintf", "memcpy", "_ZSt9terminatev", "exit_handler"):
            self.assertEqual(rules.check_undefined_symbols([name]), [], name)

    def test_an_address_without_an_extent_is_noticed(self):
        check = rules.check_storage_addresses
        self.refused(check, "src/torch/a.cpp", "void f() { g(leaf.storage->data() + leaf.storage_offset); }\n")
        self.refused(check, "python/src/a.cpp", "auto* to = live.storage->writable() + first;\n")
        self.refused(check, "cli/a.cpp", "auto byte = storage().data()[7];\n")
        self.accepted(check, "src/state/tensor.cpp", "return storage->data() + extent().begin;\n")
        self.accepted(check, "src/torch/a.cpp", "const Bytes all(storage->data(), storage->nbytes());\n")

    def test_comments_and_literals_are_not_code(self):
        blank = rules.without_comments_and_strings
        self.assertEqual(blank('a("x//y"); // c\nb').split(), ["a(", ");", "b"])
        self.assertEqual(blank("a /* x\ny */ b").count("\n"), 1)
        self.assertEqual(blank("R\"(rename(\")\" + c").split(), ["+", "c"])
        self.assertEqual(blank("1'000'000 + 'x'").replace(" ", ""), "1'000'000+")


if __name__ == "__main__":
    unittest.main()
