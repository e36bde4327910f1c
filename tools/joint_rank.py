#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How large one low rank for all weights of a group has to be to do as well as one for each.

    rtlynx calibrate --moments sums.safetensors -o c.safetensors
    python tools/joint_rank.py models/lynx-mini sums.safetensors joint_rank.json

For every group of lynx-mini's layers that read one input: the error that refitted weights and a low
rank cannot recover (refit_with_low_rank, src/compensate/closed_form.h), of ranks of their own and of
the stacked weights' one. Both are optima, so that the answer does not depend on a training.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import load_file

DAMPING = 0.01
RANKS = (4, 8, 16, 32)  # of each weight
MEMBERS = {"attn.to_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
           "attn.to_added_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
           "to_qkv_mlp": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")}


def weights_of(model):
    weights = {}
    for file in sorted((pathlib.Path(model) / "transformer").glob("*.safetensors")):
        weights.update(load_file(file))
    return weights


def lost_by_selection(xx, xs, ss):
    """P [K, K]: W P W^T is what refitted weights leave of the error of the outputs W."""
    identity = torch.eye(len(ss), dtype=ss.dtype)
    ridge = DAMPING * ss.diagonal().mean() * identity
    fit = identity + torch.linalg.solve(ss + ridge, xs.T - ss)
    return xx - xs @ fit - fit.T @ xs.T + fit.T @ ss @ fit


def remaining(weight, lost):
    """[N + 1]: the squared error that is left by a low rank of 0, 1, ..."""
    energies = torch.linalg.eigvalsh(weight @ lost @ weight.T).flip(0).clamp(min=0)
    return torch.cat([energies.sum()[None], energies.sum() - energies.cumsum(0)])


def compare(name, members, weights, moments):
    sums = [moments[f"choices.{name}.{part}"] for part in ("xx", "xs", "ss")]
    lost = lost_by_selection(*sums)
    own = [weights[member + ".weight"].double() for member in members]
    whole = sum((weight @ sums[0]).mul(weight).sum() for weight in own)
    each = [remaining(weight, lost) for weight in own]
    joint = remaining(torch.cat(own), lost)
    row = {"group": name, "weights": len(own),
           "tokens": int(moments[f"choices.{name}.tokens"]), "ranks": []}
    for rank in RANKS:
        left = sum(errors[rank] for errors in each)
        row["ranks"].append({"each": rank, "error": (left / whole).sqrt().item(),
                             "joint": int((joint > left).sum()),
                             "error_of_one_joint": (joint[rank] / whole).sqrt().item()})
    return row


def main():
    model, file, output = sys.argv[1:]
    weights, moments = weights_of(model), load_file(file)
    rows = []
    for key in moments:
        name = key.removeprefix("choices.").removesuffix(".xx")
        for group, members in MEMBERS.items():
            if key.endswith(".xx") and name.endswith("." + group):
                block = name.removesuffix(group)
                rows.append(compare(name, [block + member for member in members], weights, moments))
    rows.sort(key=lambda row: row["group"])
    for index, rank in enumerate(RANKS):
        shares = [row["ranks"][index]["joint"] / rank for row in rows]
        print(f"{rank} each: one of {min(shares):.2f} to {max(shares):.2f} times the rank, "
              f"mean {sum(shares) / len(shares):.2f}")
    pathlib.Path(output).write_text(json.dumps({"damping": DAMPING, "groups": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
