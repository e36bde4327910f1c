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

TEST(Recipe, SparsifiesThePapersLayersOnly) {
  const auto model = small_flux();
  const LayerFilter in_paper = paper_layers(model->groups());
  // Double block: q, k, v and up, down of two streams = 10; single block: q, k, v and proj_mlp = 4.
  EXPECT_EQ(apply_recipe(*model, in_paper, LinearMode::norm), 14);
  for (const auto& [name, linear] : named_linears(*model)) {
    EXPECT_EQ(linear->mode(), in_paper(name) ? LinearMode::norm : LinearMode::dense) << name;
  }
}

TEST(Recipe, LeavesOutputProjectionsDenseAsThePaperDoes) {
  const LayerFilter in_paper = recipe_from_string("paper", small_flux()->groups());
  for (const char* sparse :
       {"transformer_blocks.0.attn.add_k_proj", "transformer_blocks.0.ff.net.2",
        "single_transformer_blocks.0.proj_mlp"}) {
    EXPECT_TRUE(in_paper(sparse)) << sparse;
  }
  for (const char* dense :
       {"single_transformer_blocks.0.proj_out", "transformer_blocks.0.attn.to_out.0",
        "transformer_blocks.0.norm1.linear", "proj_out", "not a layer"}) {
    EXPECT_FALSE(in_paper(dense)) << dense;
  }
}

TEST(Recipe, AllIsEveryLayerOfAGroup) {
  const LayerFilter all = recipe_from_string("all", small_flux()->groups());
  EXPECT_TRUE(all("single_transformer_blocks.0.proj_out"));
  EXPECT_FALSE(all("transformer_blocks.0.norm1.linear"));
  EXPECT_THROW(recipe_from_string("mine", {}), UsageError);
}

TEST(Recipe, DenseUndoesIt) {
  const auto model = small_flux();
  apply_recipe(*model, paper_layers(model->groups()), LinearMode::naive);
  make_dense(*model);
  const auto linears = named_linears(*model);
  EXPECT_TRUE(std::all_of(linears.begin(), linears.end(), [](const NamedLinear& item) {
    return item.linear->mode() == LinearMode::dense;
  }));
}

}  // namespace
}  // namespace rtlynx
