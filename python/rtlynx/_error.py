# SPDX-License-Identifier: Apache-2.0


class Error(ValueError):
    """Says which call, what was required and what arrived. The model is as it was."""

    def __init__(self, where, required, got):
        super().__init__(f"{where}: required {required}, got {got}")
