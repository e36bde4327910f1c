# SPDX-License-Identifier: Apache-2.0
"""What sparsify did: a line for each layer."""

import dataclasses
import html
import re
from dataclasses import dataclass, field


@dataclass
class LayerReport:
    """One Linear of the model."""

    name: str
    sparse: bool
    reason: str
    group: str = ""  # the layers that read the same input
    channels: int = 0
    outputs: int = 0
    rank: int = 0
    tokens: int = 0


@dataclass
class GroupReport:
    """Layers that share a pack and a product, with times of the GPU that was measured (an H200)."""

    name: str
    sparse: bool
    reason: str
    tokens: int
    dense_us: float
    sparse_us: float | None  # None where no kernel is used


@dataclass
class Report:
    """Printable; ``to_dict()`` for programs; a table in a notebook."""

    model: str
    recipe: str
    compensation: str
    layers: list = field(default_factory=list)
    groups: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    @property
    def sparse_layers(self):
        return [layer.name for layer in self.layers if layer.sparse]

    @property
    def dense_us(self):
        """Time of a step's Linears in groups, all dense, in microseconds."""
        return sum(group.dense_us for group in self.groups)

    @property
    def saved_us(self):
        """What the sparse groups are expected to save of it."""
        return sum(group.dense_us - group.sparse_us for group in self.groups
                   if group.sparse and group.sparse_us is not None)

    def to_dict(self):
        return {**dataclasses.asdict(self), "dense_us": self.dense_us, "saved_us": self.saved_us}

    def _rows(self):
        """Layers of equal shape and fate in one row, block numbers as *."""
        rows = {}
        for layer in self.layers:
            pattern = re.sub(r"\.\d+\.", ".*.", layer.name, count=1)
            key = (pattern, layer.sparse, layer.reason, layer.channels, layer.outputs,
                   layer.tokens, layer.rank)
            rows[key] = rows.get(key, 0) + 1
        for (pattern, sparse, reason, channels, outputs, tokens, rank), count in rows.items():
            yield (pattern, str(count), f"{channels} -> {outputs}", str(tokens or ""),
                   str(rank or ""), "sparse" if sparse else "dense", reason)

    _HEADS = ("layer", "count", "K -> N", "tokens", "rank", "runs", "why")

    def _summary(self):
        count = len(self.sparse_layers)
        text = [f"{self.model}: {count} of {len(self.layers)} Linears with a 2:4-sparse input",
                f"recipe {self.recipe}; compensation: {self.compensation}"]
        if self.dense_us:
            text.append(f"expected on an H200: {self.saved_us / 1e3:.1f} ms of "
                        f"{self.dense_us / 1e3:.1f} ms in the blocks' Linears saved a step")
        return text + self.notes

    def __str__(self):
        rows = [self._HEADS, *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self._HEADS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
                 for row in rows]
        return "\n".join([*self._summary(), "", *lines])

    def _repr_html_(self):
        cells = lambda row, tag: "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
        body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in self._rows())
        summary = "<br>".join(html.escape(line) for line in self._summary())
        return f"<p>{summary}</p><table><tr>{cells(self._HEADS, 'th')}</tr>{body}</table>"
