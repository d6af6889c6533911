// Bounds of a layer's products, from the weights themselves and the largest number that the input can hold.
#pragma once

#include "ops/weights.h"

namespace subbyte {

// All zero for kernels that do not ask for it.
Products prove_products(const Weights& weights, const Layout& in, const Kernels& kernels);

}  // namespace subbyte
