# SPDX-License-Identifier: Apache-2.0
"""What the scripts here write: one JSON file, complete or not at all."""

import json
import os
import time

import torch


def write_json(path, result):
    temporary = path + ".part"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1, allow_nan=False)
    os.replace(temporary, path)


def write_result(path, measured):
    """``measured`` behind the GPU, the day and torch's version."""
    write_json(path, {"gpu": torch.cuda.get_device_name(),
                      "date": time.strftime("%Y-%m-%d", time.gmtime()),
                      "torch": torch.__version__, **measured})
