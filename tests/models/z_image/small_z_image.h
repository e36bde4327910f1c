// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "models/z_image/config.h"

namespace rtlynx::test {

/// One block of each kind, 2 heads of 16.
inline ZImageConfig small_z_image_config() {
  return {.in_channels = 4,
          .dim = 32,
          .n_layers = 1,
          .n_refiner_layers = 1,
          .n_heads = 2,
          .cap_feat_dim = 12,
          .axes_dims = {4, 6, 6},
          .axes_lens = {128, 32, 32}};
}

}  // namespace rtlynx::test
