// Convolution and linear layers of numbers wider than bytes: int16 activations, weights beyond int8, sums beyond int32.
#pragma once

#include "ops/conv_window.h"

namespace subbyte {

constexpr std::int64_t MOST_PRE_SHIFT = 32;

// Of an input and weights that make_conv and make_linear have checked.
OpPtr make_wide_conv(const Build& build, Attributes& attributes, const ConvWindow& window, std::int64_t groups,
                     std::int32_t pre_shift, const WideWeights& weights);
OpPtr make_wide_linear(const Build& build, Attributes& attributes, std::int32_t pre_shift, const WideWeights& weights);

}  // namespace subbyte
