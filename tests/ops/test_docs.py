# SPDX-License-Identifier: Apache-2.0
"""Every Python snippet of README.md and docs/ runs, every C++ snippet compiles. Those of
docs/diffusers.md need diffusers: tests/rtlynx_plugin runs them."""

import os
import pathlib
import re
import subprocess
import unittest

ROOT = pathlib.Path(__file__).parents[2]


def snippets(language):
    """(where, text) of the fenced blocks of a language."""
    pages = set((ROOT / "docs").glob("*.md")) - {ROOT / "docs" / "diffusers.md"}
    for path in (ROOT / "README.md", *sorted(pages)):
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.M | re.S):
            line = text[:match.start()].count("\n") + 1
            yield f"{path.relative_to(ROOT)}:{line}", match.group(1)


class SnippetsTest(unittest.TestCase):
    def test_python(self):
        found = 0
        for where, text in snippets("python"):
            with self.subTest(where=where):
                exec(compile(text, where, "exec"), {})
            found += 1
        self.assertGreaterEqual(found, 2)

    def test_cpp(self):
        found = 0
        for where, text in snippets("cpp"):
            with self.subTest(where=where):
                run = subprocess.run(
                    [os.environ.get("CXX", "c++"), "-std=c++20", "-Wall", "-Wextra", "-Werror",
                     "-fsyntax-only", f"-I{ROOT / 'include'}", "-x", "c++", "-"],
                    input=text, text=True, capture_output=True)
                self.assertEqual(run.returncode, 0, run.stderr)
            found += 1
        self.assertGreaterEqual(found, 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
