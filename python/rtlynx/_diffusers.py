# SPDX-License-Identifier: Apache-2.0
"""RTLynxConfig: sparsify as a quantization_config of diffusers.

diffusers has no registry for quantizers, only two dicts; this one file writes into them.
"""

import enum
import json

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.quantizers import auto
from diffusers.quantizers.base import DiffusersQuantizer
from diffusers.quantizers.quantization_config import QuantizationConfigMixin
from torch import nn

from . import _compensation, _recipes, _sparsify
from ._error import Error

_PARTS = ("down", "up", "weight", "transform", "scale", "permutation")
_PREFIX = "rtlynx_saved_"  # of a parameter beside a Linear's weight, in a saved model


class _Method(str, enum.Enum):
    RTLYNX = "rtlynx"


class RTLynxConfig(QuantizationConfigMixin):
    """The arguments of ``rtlynx.sparsify``, for ``from_pretrained(quantization_config=...)``.

    A saved model holds its own weights and the compensation, and its config.json these arguments: it
    loads again by ``import rtlynx`` and ``from_pretrained``.
    """

    def __init__(self, compensation=None, recipe="auto", exclude=(), tokens=None, force=False,
                 keep_original=True, dtype=None, saved=None, **unknown):
        unknown.pop("quant_method", None)
        if unknown:
            raise Error("RTLynxConfig", "the arguments of rtlynx.sparsify", next(iter(unknown)))
        self.quant_method = _Method.RTLYNX
        self.compensation = None if compensation is None else str(compensation)
        self.recipe = recipe if isinstance(recipe, str) else list(recipe)
        self.exclude = exclude if isinstance(exclude, str) else list(exclude)
        self.tokens, self.force, self.keep_original = tokens, force, keep_original
        self.dtype = dtype
        self.saved = saved  # in a saved model: the shapes of its compensation

    def arguments(self):
        names = ("recipe", "exclude", "tokens", "force", "keep_original", "dtype")
        return {name: getattr(self, name) for name in names}

    def to_dict(self):
        # Where the compensation came from is of no use to who loads a model that holds it.
        own = {"quant_method": _Method.RTLYNX.value}
        return {**vars(self), **own, **({"compensation": None} if self.saved else {})}

    def to_diff_dict(self):
        return self.to_dict()

    def to_json_string(self, use_diff=True):
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"


class RTLynxQuantizer(DiffusersQuantizer):
    """Loads a model as it is and sparsifies it."""

    use_keep_in_fp32_modules = True
    requires_calibration = False
    saves_compensation = True

    def validate_environment(self, *args, **kwargs):
        if torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 0):
            raise Error("RTLynxConfig", "a GPU of compute capability 8.0 or later",
                        torch.cuda.get_device_name())

    def preprocess_model(self, model, **kwargs):
        # is_quantized stays unset: it would forbid .to(dtype), and with it from_pipe.
        self._process_model_before_weight_loading(model, **kwargs)

    def postprocess_model(self, model, **kwargs):
        return self._process_model_after_weight_loading(model, **kwargs)

    def check_if_quantized_param(self, *args, **kwargs):
        return False

    def get_cuda_warm_up_factor(self):
        return 2

    def _process_model_before_weight_loading(self, model, **kwargs):
        self.modules_to_not_convert = list(kwargs.get("keep_in_fp32_modules") or [])
        linears = _recipes.linears_of(model)
        for name, shapes in (self.quantization_config.saved or {}).get("shapes", {}).items():
            if name not in linears:
                raise Error("RTLynxConfig", f"a saved {type(model).__name__}", f"layer {name}")
            for part, shape in shapes.items():
                kind = torch.int64 if part == "permutation" else linears[name].weight.dtype
                empty = torch.empty(shape, dtype=kind, device=linears[name].weight.device)
                linears[name].register_parameter(_PREFIX + part, nn.Parameter(empty, False))

    def _process_model_after_weight_loading(self, model, **kwargs):
        config = self.quantization_config
        compensation = config.compensation
        if config.saved:
            compensation = self._take_saved(model)
        elif compensation is not None:
            compensation = _compensation.read(compensation, model)
        _sparsify.sparsify(model, compensation, **config.arguments())
        if compensation is not None:
            config.saved = _describe_saved(model, compensation.metadata)
        self.source = model
        model.register_to_config(quantization_config=config)
        return model

    @classmethod
    def attach(cls, model):
        """To a model that was sparsified after loading, which saves what it was."""
        if isinstance(model, ModelMixin):
            model.hf_quantizer = cls(RTLynxConfig(), pre_quantized=False)
            model.hf_quantizer.source, model.hf_quantizer.saves_compensation = model, False

    def _take_saved(self, model):
        """The compensation, out of the parameters that it was loaded into."""
        saved, linears = self.quantization_config.saved, _recipes.linears_of(model)
        layers, transforms = {}, {}
        for name, (source, norm, *e4m3) in saved["layers"].items():  # an input by its first layer
            parts = {part: linears[name]._parameters.pop(_PREFIX + part, None) for part in _PARTS}
            parts = {part: None if value is None else value.data for part, value in parts.items()}
            layers[name] = _compensation.LayerCompensation(source, norm, parts["down"], parts["up"],
                                                           parts["weight"], any(e4m3))
            transform = _compensation.InputTransform(parts["transform"], parts["scale"],
                                                     parts["permutation"])
            if not transform.is_identity():
                transforms[source] = transform
        return _compensation.Compensation(layers, transforms, saved["metadata"])

    def get_state_dict_and_metadata(self, state_dict, safe_serialization=False):
        """The model's own weights; by RTLynxConfig, the compensation beside them."""
        state_dict = _sparsify.own_weights(self.source, state_dict)
        if not self.saves_compensation:
            return state_dict, {}
        saved = {}
        for name, parts in _saved_parts(self.source).items():
            saved |= {f"{name}.{_PREFIX}{part}": value for part, value in parts.items()}
        return {**state_dict, **saved}, {}

    @property
    def is_serializable(self):
        return True

    @property
    def is_trainable(self):
        return False

    @property
    def is_compileable(self):
        return True

    def _dequantize(self, model):
        _sparsify.undo(model)
        return model


def _saved_parts(model):
    """Of every sparse layer, the tensors that a compensation gave it."""
    found = {}
    for name, linear in _sparsify.sparse_linears(model).items():
        owner, index = linear.lynx_group.members[0], linear.lynx_index
        parts = {"scale": owner.lynx_scale, "permutation": owner.lynx_permutation}
        if owner.lynx_transform is not None:
            parts["transform"] = owner.lynx_transform.mT
        if linear.lynx_up is not None:
            rank = linear.lynx_up.shape[1]
            parts |= {"up": linear.lynx_up, "down": owner.lynx_down[rank * index:rank * (index + 1)]}
        if linear.lynx_replaced:
            parts["weight"] = linear.weight
        found[name] = {part: value.detach().contiguous() for part, value in parts.items()
                       if value is not None}
    return found


def _describe_saved(model, metadata):
    """What config.json has to say for the tensors to be found again."""
    parts, linears = _saved_parts(model), _sparsify.sparse_linears(model)
    names = {id(linear): name for name, linear in linears.items()}
    return {"layers": {name: [names[id(linear.lynx_group.members[0])], linear.lynx_group.norm,
                              linear.lynx_group.e4m3]
                       for name, linear in linears.items()},
            "shapes": {name: {part: list(value.shape) for part, value in of_layer.items()}
                       for name, of_layer in parts.items()},
            "metadata": metadata}


def register():
    auto.AUTO_QUANTIZER_MAPPING[_Method.RTLYNX.value] = RTLynxQuantizer
    auto.AUTO_QUANTIZATION_CONFIG_MAPPING[_Method.RTLYNX.value] = RTLynxConfig


register()
