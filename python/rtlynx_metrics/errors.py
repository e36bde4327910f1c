# SPDX-License-Identifier: Apache-2.0
"""What stops a measurement: one line for the user, no stack trace."""

import importlib


class MetricsError(Exception):
    """Something is missing or does not fit; the message says what was required and what arrived."""


def import_extra(module, extra):
    """The module of an optional package; MetricsError names the extra that brings it."""
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError) as error:  # a torchvision for another torch: RuntimeError
        raise MetricsError(f"required the package {module.partition('.')[0]}, got: {error}. "
                           f"Install it with: pip install 'rtlynx[{extra}]'") from error


def require_weights(path, what):
    """`path` if it exists; MetricsError tells to fetch `what` otherwise."""
    if not path.exists():
        raise MetricsError(f"required weights at {path}, found none. Nothing is downloaded here: "
                           f"fetch {what} and put it there")
    return path
