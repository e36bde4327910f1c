# SPDX-License-Identifier: Apache-2.0
"""Which Linears of a model read one input, and which the RT-Lynx paper makes sparse.

As groups() of src/models says it of the C++ models, in diffusers' names.
"""

import re
from dataclasses import dataclass, field

from torch import nn

_DEFAULT_TOKENS = {"image": 4096, "text": 512}  # 1024 x 1024 pixels


@dataclass
class Group:
    """Linears that read one input, in the order in which they run."""

    layers: list  # names
    stream: str  # "image", "text" or "joint", both together
    in_paper: bool
    modules: list = field(default_factory=list)

    @property
    def name(self):
        return self.layers[0] if len(self.layers) == 1 else " + ".join(
            [self.layers[0], *(layer.rsplit(".", 1)[-1] for layer in self.layers[1:])])


@dataclass(frozen=True)
class _Rule:
    blocks: str  # the name of a list of blocks
    stream: str
    layers: tuple  # their names in a block; alternatives by "|"
    in_paper: bool = True


def _double_block(image_mlp, text_mlp):
    blocks = "transformer_blocks"
    sides = (("image", ("attn.to_q", "attn.to_k", "attn.to_v"), "attn.to_qkv", "attn.to_out.0",
              image_mlp),
             ("text", ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
              "attn.to_added_qkv", "attn.to_add_out", text_mlp))
    rules = []
    for stream, qkv, fused, out, mlp in sides:
        rules += [_Rule(blocks, stream, qkv), _Rule(blocks, stream, (fused,)),
                  _Rule(blocks, stream, (out,), in_paper=False),
                  _Rule(blocks, stream, (f"{mlp}.net.0.proj",)),
                  _Rule(blocks, stream, (f"{mlp}.net.2",))]
    return rules


# The paper leaves FLUX's proj_out, attention out and MLP down in one Linear, dense.
_FLUX = [
    *_double_block("ff", "ff_context"),
    _Rule("single_transformer_blocks", "joint",
          ("proj_mlp", "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_qkv")),
    _Rule("single_transformer_blocks", "joint", ("proj_out",), in_paper=False),
]
_QWEN_IMAGE = _double_block("img_mlp", "txt_mlp")


def _z_image_blocks(blocks, stream, in_paper):
    return [_Rule(blocks, stream, ("attention.to_q", "attention.to_k", "attention.to_v"), in_paper),
            _Rule(blocks, stream, ("attention.to_out.0",), False),
            _Rule(blocks, stream, ("feed_forward.w1", "feed_forward.w3"), False),
            _Rule(blocks, stream, ("feed_forward.w2",), in_paper)]


_Z_IMAGE = [*_z_image_blocks("noise_refiner", "image", False),
            *_z_image_blocks("context_refiner", "text", False),
            *_z_image_blocks("layers", "joint", True)]

_FAMILIES = {
    "FluxTransformer2DModel": ("FLUX.1", _FLUX, {"image": 4096, "text": 512}),
    "QwenImageTransformer2DModel": ("Qwen-Image", _QWEN_IMAGE, {"image": 6889, "text": 512}),
    "ZImageTransformer2DModel": ("Z-Image", _Z_IMAGE, {"image": 4096, "text": 128}),
}

# What sees one row an image, or few channels: a generic model's names for it.
_SIDELINES = re.compile(r"(^|[._])(norm|mod|modulation|ada|adaln|emb|embed|embedder|time|pos)",
                        re.IGNORECASE)


def linears_of(model):
    """Linears by name, as they are called without LoRAs around them."""
    return {name.replace(".base_layer", ""): module for name, module in model.named_modules()
            if isinstance(module, nn.Linear)}


def _known(model):
    """Name, rules and tokens of the model's family; of one that is not known (None, (), None)."""
    return next((_FAMILIES[cls.__name__] for cls in type(model).__mro__
                 if cls.__name__ in _FAMILIES), (None, (), None))


def family_of(model):
    """The name of a family that is known, or None."""
    return _known(model)[0]


def block_lists(model):
    """The lists of blocks in the order in which they run; none of a family that is not known."""
    _, rules, _ = _known(model)
    return [name for name in dict.fromkeys(rule.blocks for rule in rules)
            if len(getattr(model, name, ()))]


def groups_of(model):
    """The groups of the blocks, and the tokens that their streams have by default."""
    linears = linears_of(model)
    family, rules, tokens = _known(model)
    if family is None:
        return _generic(model, linears), _DEFAULT_TOKENS
    return _by_rules(model, rules, linears), tokens


def why_no_candidate(name):
    """Why a Linear is in no group."""
    if not re.search(r"\.\d+\.", name):
        return "outside the blocks"
    return "a norm, modulation or embedding" if _SIDELINES.search(name) else "in no group of layers"


def _by_rules(model, rules, linears):
    groups = []
    for block_list in dict.fromkeys(rule.blocks for rule in rules):
        for index in range(len(getattr(model, block_list, ()))):
            prefix = f"{block_list}.{index}."
            for rule in rules:
                if rule.blocks != block_list:
                    continue
                layers = [prefix + layer for layer in rule.layers if prefix + layer in linears]
                groups.append(Group(layers, rule.stream, rule.in_paper))
    return _without_replaced(model, [_filled(group, linears) for group in groups if group.layers])


def _filled(group, linears):
    group.modules = [linears[layer] for layer in group.layers]
    return group


def _without_replaced(model, groups):
    """Fused projections stand beside q, k and v, which nothing reads then."""
    fused = {name for name, module in model.named_modules()
             if getattr(module, "fused_projections", False)}
    unread = {f"{name}.{layer}" for name in fused for layer in
              ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj")}
    kept = []
    linears = linears_of(model)
    for group in groups:
        layers = [layer for layer in group.layers if layer not in unread]
        if layers:
            kept.append(_filled(Group(layers, group.stream, group.in_paper), linears))
    return kept


def _generic(model, linears):
    """Each Linear of the repeated blocks by itself: what reads one input is not known."""
    lists = [name for name, module in model.named_modules()
             if isinstance(module, nn.ModuleList) and name and len(module) > 1]
    inside = re.compile("|".join(rf"{re.escape(name)}\.\d+\." for name in lists) or "(?!)")
    return [_filled(Group([name], "image", True), linears) for name in linears
            if inside.match(name) and not _SIDELINES.search(name)]
