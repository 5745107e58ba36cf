# SPDX-License-Identifier: BSD-3-Clause
"""The Python code in docs/sample-order.md gives the vectors in docs/sample-order.md. Standard library only."""
import os
import pathlib
import re
import unittest

PAGE = (pathlib.Path(os.environ["TORCHKEEP_ROOT"]) / "docs" / "sample-order.md").read_text(encoding="utf-8")


class ThePage(unittest.TestCase):
    def setUp(self):
        self.code = {}
        exec(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1), self.code)

    def test_its_code_gives_its_vectors(self):
        rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| ([\d ]+) \|$", PAGE, re.MULTILINE)
        self.assertGreater(len(rows), 10)
        for row in rows:
            size, seed, epoch, first = map(int, row[:4])
            for i, expected in enumerate(map(int, row[4].split())):
                self.assertEqual(self.code["sample"](size, seed, epoch, first + i), expected, row)

    def test_its_code_permutes(self):
        for size in (1, 2, 3, 7, 100, 255, 256, 257, 1000):
            samples = [self.code["sample"](size, 3, 4, i) for i in range(size)]
            self.assertEqual(sorted(samples), list(range(size)))


if __name__ == "__main__":
    unittest.main()
