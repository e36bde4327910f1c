# SPDX-License-Identifier: Apache-2.0
"""LoRAs by PEFT on layers whose weight reads a transformed input.

A fused LoRA is added to the weight. Behind a transform z = x A that weight reads z, so B A^-T has to
be added for a LoRA's product B; and a weight that runs as e4m3 is rounded again. PEFT has no registry
for such a layer; this one file extends its dispatch.
"""

import importlib.util

from ._error import Error
from ._linear import LynxLinear


def wrapped_layers(model):
    """LoRA layers by the name of what they wrap."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "base_layer")}


def fused_layers(model):
    return {name for name, module in wrapped_layers(model).items()
            if getattr(module, "merged", False)}


def extend_peft(where, model):
    """Makes PEFT, if it is there, wrap LynxLinears by a layer that knows of transforms and e4m3."""
    if wrapped_layers(model):
        raise Error(where, "LoRAs loaded after a compensation with a transform or e4m3",
                    f"a LoRA on {next(iter(wrapped_layers(model)))}")
    if importlib.util.find_spec("peft") is None:
        return
    import peft.tuners.lora.model as tuner
    if getattr(tuner.dispatch_default, "of_rtlynx", False):
        return
    default, layer = tuner.dispatch_default, _layer_class()

    def dispatch(target, adapter_name, config, **options):
        base = target.get_base_layer() if hasattr(target, "get_base_layer") else target
        if not isinstance(base, LynxLinear) or not (base.lynx_replaced or base.lynx_group.e4m3):
            return default(target, adapter_name, config=config, **options)
        if getattr(config, "use_dora", False):
            raise Error("rtlynx", "a LoRA on a layer behind a transform or in e4m3", "a DoRA")
        return layer(target, adapter_name, config=config, **options)

    dispatch.of_rtlynx = True
    tuner.dispatch_default = dispatch


def _layer_class():
    from peft.tuners.lora.layer import Linear

    class LynxLoraLinear(Linear):
        """PEFT's, which fuses into a weight behind a transform."""

        def get_delta_weight(self, adapter):
            delta, base = super().get_delta_weight(adapter), self.get_base_layer()
            return base.lynx_group.weight_for_z(delta) if isinstance(base, LynxLinear) else delta

        def merge(self, *args, **kwargs):
            super().merge(*args, **kwargs)
            self._round()

        def unmerge(self):
            super().unmerge()
            self._round()

        def _round(self):
            base = self.get_base_layer()
            if isinstance(base, LynxLinear) and base.lynx_group.e4m3:
                base.lynx_group.round_to_e4m3()

    return LynxLoraLinear
