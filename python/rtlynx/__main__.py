# SPDX-License-Identifier: Apache-2.0
from . import doctor

if __name__ == "__main__":
    doctor()
