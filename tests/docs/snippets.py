# SPDX-License-Identifier: BSD-3-Clause
"""The code in docs/*.md. The C++ blocks of a page, one after another, are the body of a program (its #include lines go
to the top); all pages make one source, for LibTorch's headers are slow.

Usage: python snippets.py OUTPUT PAGE...     writes that source; its program runs the page that its argument names
"""
import pathlib
import re
import sys


def blocks(page, language):
    """The blocks of a page: (line number, text) of each."""
    text = pathlib.Path(page).read_text(encoding="utf-8")
    return [(text.count("\n", 0, match.start(1)) + 1, match.group(1))
            for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]


def prints(page, language, comment):
    """What the blocks say they print: the text after "prints:" in their comments."""
    return "".join(re.findall(rf"{comment} prints: (.*\n)", "".join(text for _, text in blocks(page, language))))


def is_program(page, language):
    """Whether a page has code in this language. C++ without an #include is a part of a program that stands elsewhere
    (docs/run.md: tests/examples/test_docs.py compares it)."""
    code = "".join(text for _, text in blocks(page, language))
    return "#include " in code if language == "cpp" else code != ""


def pages(folder, language):
    """The pages whose code in this language is a program."""
    return [page for page in sorted(pathlib.Path(folder).glob("*.md")) if is_program(page, language)]


def program(pages):
    includes, functions, calls = {}, [], []
    for page in map(pathlib.Path, pages):
        body = ""
        for line, text in blocks(page, "cpp"):
            includes.update(dict.fromkeys(re.findall(r"^#include .*\n", text, re.MULTILINE)))
            body += f'#line {line} "{page.as_posix()}"\n' + re.sub(r"^#include .*\n", "\n", text, flags=re.MULTILINE)
        name = f"page_{re.sub(r'[^a-z0-9]', '_', page.stem)}"
        functions.append(f"void {name}() {{\n{body}}}\n")
        calls.append(f'  if (page == "{page.stem}") {name}();\n')
    return ("#include <string_view>\n" + "".join(includes) + "namespace {\n" + "\n".join(functions) + "}\n"
            + "int main(int, char** argv) {\n  const std::string_view page = argv[1];\n" + "".join(calls) + "}\n")


if __name__ == "__main__":
    pathlib.Path(sys.argv[1]).write_text(program(page for page in sys.argv[2:] if is_program(page, "cpp")), encoding="utf-8")
