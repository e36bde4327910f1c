# SPDX-License-Identifier: Apache-2.0
"""95 % intervals: the bootstrap for means, the jackknife for what resampling would bias."""

import numpy as np

RESAMPLES = 2000
JACKKNIFE_GROUPS = 10
STUDENT_T = 2.262  # of JACKKNIFE_GROUPS - 1 degrees of freedom, two-sided 95 %


def bootstrap_mean(values):
    """The percentile bootstrap (Efron 1979) of a mean: (low, high). The same values, the same
    interval."""
    values = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(0)
    means = [values[generator.integers(len(values), size=len(values))].mean()
             for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def jackknife_groups(count):
    """For each of JACKKNIFE_GROUPS groups, dealt out in turn, the indices that are not in it."""
    indices = np.arange(count)
    return [indices[indices % JACKKNIFE_GROUPS != group] for group in range(JACKKNIFE_GROUPS)]


def jackknife_interval(whole, left_out):
    """The interval around `whole`, a statistic of all samples, from its values without each group:
    whole +- t * sqrt((g - 1) / g * sum((value - mean)^2)), Tukey 1958.
    """
    left_out = np.asarray(left_out, dtype=np.float64)
    groups = len(left_out)
    error = np.sqrt((groups - 1) / groups * np.square(left_out - left_out.mean()).sum())
    return float(whole - STUDENT_T * error), float(whole + STUDENT_T * error)
