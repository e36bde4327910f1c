# SPDX-License-Identifier: Apache-2.0
"""The protocol of the RT-Lynx paper for a real checkpoint: prompts drawn by several methods from the
same seeds, and what measures say of the pictures.

``rtlynx-evaluate --help`` tells how it is used. Pipelines are diffusers', methods rtlynx's, measures
those of ``rtlynx_metrics``; ``pip install rtlynx[evaluate]`` brings what that needs, and
``rtlynx[ray]`` the engine that shares the work among GPUs and machines.
"""
