#include "ops/products.h"

#include <algorithm>

namespace subbyte {
namespace {

// How many numbers of low..high (low <= 0 <= high) fit least..most together, at least.
std::int32_t fitting(std::int32_t low, std::int32_t high, std::int32_t least, std::int32_t most) {
    const std::int32_t below = low < 0 ? least / low : most;
    const std::int32_t above = high > 0 ? most / high : most;
    return std::min(below, above);
}

}  // namespace

Products prove_products(const Weights& weights, const Layout& in, const Kernels& kernels) {
    Products p;
    if (!kernels.centred) return p;
    const std::int32_t most = std::max(in.hi, in.zero_point);  // padding is the zero point
    // An even number of levels lies askew: -7..8 rather than -8..7, so that two products with weights of -8..7 fit
    // int8 (-128..112). All 256 levels fit a signed byte in one way only.
    p.center = most == 255 ? 128 : most / 2;
    const auto [low, high] = std::minmax_element(weights.numbers.begin(), weights.numbers.end());
    const std::int32_t w_low = std::min<std::int32_t>(*low, 0);  // panels are padded with 0
    const std::int32_t w_high = std::max<std::int32_t>(*high, 0);
    const std::int32_t x_low = -p.center;
    const std::int32_t x_high = most - p.center;
    const std::int32_t product_low = std::min(x_low * w_high, x_high * w_low);
    const std::int32_t product_high = std::max(x_low * w_low, x_high * w_high);
    p.in_int8 = fitting(product_low, product_high, -128, 127);
    p.in_int16 = fitting(product_low, product_high, -32768, 32767);
    return p;
}

}  // namespace subbyte
