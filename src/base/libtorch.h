// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What we use of libtorch. torch/torch.h has all of it, and leaves twice as many templates to be
/// instantiated in every translation unit: half of the time that one takes to compile.
#include <torch/autograd.h>
#include <torch/cuda.h>
#include <torch/nn/init.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/container/moduledict.h>
#include <torch/nn/modules/container/modulelist.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/pimpl.h>
#include <torch/types.h>
#include <torch/utils.h>
