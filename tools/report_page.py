#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/report.html: what rtlynx.sparsify reports of full-size models, as a notebook shows it.

    PYTHONPATH=python RTLYNX_OPS_LIBRARY=.../librtlynx_ops.so tools/report_page.py [--check]

Models are made on the meta device, without weights; without a GPU the report is that of an H200.
"""

import argparse
import ast
import html
import os
import pathlib
import sys
import warnings

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "report.html"

CELLS = ["""\
import torch
import rtlynx
from diffusers import FluxTransformer2DModel

with torch.device("meta"):
    transformer = FluxTransformer2DModel(guidance_embeds=True)
rtlynx.sparsify(transformer)""", """\
rtlynx.restore(transformer)
rtlynx.sparsify(transformer, recipe="all", tokens=8192)  # Kontext: the picture and its reference""",
         """\
from diffusers import QwenImageTransformer2DModel

with torch.device("meta"):
    transformer = QwenImageTransformer2DModel()
rtlynx.sparsify(transformer, exclude="*_mlp.net.2")""", """\
from diffusers import ZImageTransformer2DModel

with torch.device("meta"):
    transformer = ZImageTransformer2DModel()
rtlynx.sparsify(transformer, recipe="all")"""]

HEAD = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>rtlynx: what sparsify reports</title>
<style>
body { font: 14px/1.5 sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; color: #222; }
pre { background: #f5f5f5; border: 1px solid #ddd; padding: .6em; overflow-x: auto; }
table { border-collapse: collapse; font-size: 12px; }
th, td { padding: .2em .6em; text-align: left; white-space: nowrap; }
tr:nth-child(even) { background: #f5f5f5; }
.prompt { color: #558; font: 12px monospace; }
</style>
</head>
<body>
<h1>What sparsify reports</h1>
<p>Reports of full-size models without weights, by <code>tools/report_page.py</code>; times are those of the table
that kernels are chosen by, measured on an H200. <a href="diffusers.md">The plug-in</a></p>
"""


def run(code, names):
    """Runs a cell; the value of its last expression."""
    *statements, last = ast.parse(code).body
    exec(compile(ast.Module(statements, []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def page():
    parts, names = [HEAD], {}
    for number, code in enumerate(CELLS, 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the report says the same
            shown = run(code, names)._repr_html_()
        shown = shown.replace("<tr>", "\n<tr>").replace("</table>", "\n</table>")
        parts.append(f'<p class="prompt">In [{number}]</p>\n<pre>{html.escape(code)}</pre>\n'
                     f'<p class="prompt">Out [{number}]</p>\n{shown}\n')
    return "".join([*parts, "</body>\n</html>\n"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if it differs")
    options = parser.parse_args()
    made = page()
    if options.check:
        sys.exit(None if PAGE.read_text(encoding="utf-8") == made else f"{PAGE} is out of date")
    temporary = PAGE.with_suffix(".part")
    temporary.write_text(made, encoding="utf-8")
    os.replace(temporary, PAGE)


if __name__ == "__main__":
    main()
