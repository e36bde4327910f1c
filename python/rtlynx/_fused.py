# SPDX-License-Identifier: Apache-2.0
"""Activation functions that a sparse Linear beside them computes on the way.

A module here stands for the one it was made of, in place. Where a LoRA wraps the Linear, or the
Linear is dense, it does what it did before.
"""


from ._linear import LynxLinear


def _reads_alone(linear):
    return type(linear) is LynxLinear and len(linear.lynx_group.members) == 1


def _gelu_forward(self, hidden_states):
    """diffusers' GELU, a Linear and the activation: in one pass."""
    if _reads_alone(self.proj):
        return self.proj(hidden_states, activation="gelu")
    return self.lynx_base.forward(self, hidden_states)


def _swiglu_forward(self, x):
    """Z-Image's FeedForward: the gate is computed while its product is packed."""
    if _reads_alone(self.w2):
        return self.w2(self.w1(x), producer="swiglu", up=self.w3(x))
    return self.lynx_base.forward(self, x)


_FUSED = {}  # the class of a module -> its fused class


def _fused_class(cls, forward):
    if cls not in _FUSED:
        _FUSED[cls] = type(f"Lynx{cls.__name__}", (cls,),
                           {"forward": forward, "__module__": __name__, "lynx_base": cls})
    return _FUSED[cls]


def fuse_activations(model):
    """Returns how many modules it fused."""
    count = 0
    for module in model.modules():
        cls = type(module)
        if cls.__name__ == "GELU" and cls.__module__ == "diffusers.models.activations":
            forward = _gelu_forward if module.approximate == "tanh" else None
        elif cls.__name__ == "FeedForward" and cls.__module__.endswith("transformer_z_image"):
            forward = _swiglu_forward
        else:
            continue
        linear = module.proj if forward is _gelu_forward else getattr(module, "w2", None)
        if forward is not None and _reads_alone(linear):
            module.__class__ = _fused_class(cls, forward)
            count += 1
    return count


def unfuse_activations(model):
    for module in model.modules():
        base = getattr(type(module), "lynx_base", None)
        if base is not None:
            module.__class__ = base
