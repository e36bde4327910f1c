# SPDX-License-Identifier: Apache-2.0
"""Published measures of the pictures of real models: FID, CLIP-Score, CLIP-IQA, ImageReward, LPIPS,
PSNR and SSIM.

``rtlynx-metrics --help`` (or ``python -m rtlynx_metrics``) tells how it is used; ``measure`` is the
same for Python. Each measure is its well-kept package's: clean-fid, torchmetrics, image-reward. They
come with ``pip install rtlynx[metrics]`` or ``rtlynx[image-reward]``; trained weights lie in a local
folder, and nothing is ever downloaded. Needs neither a GPU nor the operator library.
"""

from .measure import measure
from .pictures import Folder, read_folders

__all__ = ["Folder", "measure", "read_folders"]
