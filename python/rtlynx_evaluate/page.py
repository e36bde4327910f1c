# SPDX-License-Identifier: Apache-2.0
"""One HTML page: what was drawn, the scores, and the pictures side by side."""

import html
import urllib.parse

from rtlynx_metrics.__main__ import COLUMNS

_STYLE = """body { font: 15px/1.45 system-ui, sans-serif; margin: 2em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; }
th, td { padding: .3em .8em; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
td.number small { display: block; color: #666; }
.grid td { padding: .3em; } .grid td.prompt { max-width: 16em; font-size: 13px; }
.grid img { width: 256px; max-width: 18vw; height: auto; display: block; }"""

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head><body>
"""


def render(scores, rows):
    """The page.

    Args:
        scores: what main() writes as scores.json.
        rows: prompts and file names of the pictures to show, which lie in a folder for each method
            beside the page.
    """
    title = f"{scores['drawn']['model']}: {len(scores['methods'])} methods"
    return "".join([
        _HEAD.format(title=_text(title), style=_STYLE), f"<h1>{_text(title)}</h1>",
        _facts(scores), _table(scores), _notes(), _grid(scores, rows), "</body></html>\n"])


def _text(value):
    return html.escape(str(value))


def _facts(scores):
    drawn = scores["drawn"]
    call = ", ".join(f"{name} {value}" for name, value in drawn["call"].items()) or \
        "the pipeline's defaults"
    lines = [f"{drawn['prompts']} prompts of {drawn['prompts_file']}, seeds {drawn['seeds']} from "
             f"each name's hash; {drawn['dtype']}; {call}"]
    for method in scores["methods"]:
        if "sparse_layers" in method:
            lines.append(f"{method['name']}: {method['sparse_layers']} of {method['layers']} Linears "
                         f"sparse; {method['compensation']}")
    return "".join(f"<p>{_text(line)}</p>" for line in lines)


def _table(scores):
    columns = [column for column in COLUMNS
               if any(column[0] in method for method in scores["methods"])]
    heads = "".join(f"<th>{_text(title)}</th>" for _, title, _ in columns)
    body = ""
    for method in scores["methods"]:
        for suffix, label in (("", method["name"]), ("_change", "against dense")):
            cells = [_number(method, key + suffix, form) for key, _, form in columns]
            if not suffix or any(cells):
                body += f"<tr><td>{_text(label)}</td>" + "".join(
                    f'<td class="number">{cell}</td>' for cell in cells) + "</tr>"
    return f"<table><tr><th>method</th>{heads}</tr>{body}</table>"


def _number(method, key, form):
    if key not in method:
        return ""
    low, high = method[f"{key}_interval"]
    return f"{form.format(method[key])}<small>{form.format(low)} to {form.format(high)}</small>"


def _notes():
    return ("<p>Intervals are 95 %. LPIPS, PSNR and SSIM are to the dense picture of the same seed; "
            "changes are paired with it, picture by picture.</p>")


def _grid(scores, rows):
    names = [method["name"] for method in scores["methods"]]
    heads = "".join(f"<th>{_text(name)}</th>" for name in names)
    body = ""
    for prompt, file_name in rows:
        cells = ""
        for name in names:
            source = urllib.parse.quote(f"{name}/{file_name}")
            cells += (f'<td><a href="{source}"><img src="{source}" loading="lazy" '
                      f'alt="{_text(name)}"></a></td>')
        body += f'<tr><td class="prompt">{_text(prompt)}</td>{cells}</tr>'
    return f'<table class="grid"><tr><th>prompt</th>{heads}</tr>{body}</table>'
