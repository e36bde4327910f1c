// SPDX-License-Identifier: Apache-2.0
#include "models/recipe.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"
#include "models/flux/small_flux.h"
#include "models/flux/transformer.h"

namespace rtlynx {
namespace {

FluxTransformer small_flux() { return FluxTransformer(test::small_flux_config()); }

TEST(PaperRecipe, SparsifiesTheNamedLayersOnly) {
  const auto model = small_flux();
  // Double block: q, k, v and up, down of two streams = 10; single block: q, k, v and proj_mlp = 4.
  EXPECT_EQ(apply_paper_flux_recipe(*model, LinearMode::norm), 14);
  for (const auto& [name, linear] : named_linears(*model)) {
    EXPECT_EQ(linear->mode(), in_paper_flux_recipe(name) ? LinearMode::norm : LinearMode::dense)
        << name;
  }
}

TEST(PaperRecipe, LeavesOutputProjectionsDense) {
  EXPECT_TRUE(in_paper_flux_recipe("transformer_blocks.3.attn.add_k_proj"));
  EXPECT_TRUE(in_paper_flux_recipe("transformer_blocks.0.ff.net.2"));
  EXPECT_TRUE(in_paper_flux_recipe("single_transformer_blocks.7.proj_mlp"));
  EXPECT_FALSE(in_paper_flux_recipe("single_transformer_blocks.7.proj_out"));
  EXPECT_FALSE(in_paper_flux_recipe("transformer_blocks.0.attn.to_out.0"));
  EXPECT_FALSE(in_paper_flux_recipe("transformer_blocks.0.norm1.linear"));
  EXPECT_FALSE(in_paper_flux_recipe("proj_out"));
}

TEST(PaperRecipe, HasANameForEachModelOfThePaper) {
  EXPECT_TRUE(recipe_from_string("paper-flux")("transformer_blocks.0.attn.to_q"));
  const LayerFilter z_image = recipe_from_string("paper-z-image");
  EXPECT_TRUE(z_image("layers.7.attention.to_v"));
  EXPECT_TRUE(z_image("layers.7.feed_forward.w2"));
  EXPECT_FALSE(z_image("layers.7.feed_forward.w3"));
  EXPECT_FALSE(z_image("layers.7.attention.to_out.0"));
  EXPECT_FALSE(z_image("noise_refiner.0.attention.to_q"));
  const LayerFilter qwen = recipe_from_string("paper-qwen-image");
  EXPECT_TRUE(qwen("transformer_blocks.59.txt_mlp.net.2"));
  EXPECT_TRUE(qwen("transformer_blocks.0.attn.add_k_proj"));
  EXPECT_FALSE(qwen("transformer_blocks.0.attn.to_out.0"));
  EXPECT_FALSE(qwen("transformer_blocks.0.img_mod.1"));
  EXPECT_THROW(recipe_from_string("mine"), UsageError);
}

TEST(PaperRecipe, DenseUndoesIt) {
  const auto model = small_flux();
  apply_paper_flux_recipe(*model, LinearMode::naive);
  apply_paper_flux_recipe(*model, LinearMode::dense);
  const auto linears = named_linears(*model);
  EXPECT_TRUE(std::all_of(linears.begin(), linears.end(), [](const NamedLinear& item) {
    return item.linear->mode() == LinearMode::dense;
  }));
}

}  // namespace
}  // namespace rtlynx
