#include "ops/proof.h"

#include <algorithm>
#include <cmath>

#include "attributes.h"

namespace subbyte {
namespace {

constexpr int MOST_STEPS = 256;
constexpr std::int32_t MOST_SHIFT = 44;  // keeps (result << n) in 63 bits
constexpr std::int32_t MOST_ZERO = 1 << 10;

std::int64_t floor_div(std::int64_t a, std::int64_t b) {
    return a / b - (a % b < 0 ? 1 : 0);
}

}  // namespace

bool prove_float(const Rescale& r, const Kernels& kernels, float& scale) {
    if (kernels.rescale_float == nullptr || r.m < 0 || r.hi - r.lo >= MOST_STEPS) return false;
    scale = static_cast<float>(std::ldexp(static_cast<double>(r.m), -r.n));
    if (r.zero_point < -MOST_ZERO || r.zero_point > MOST_ZERO) return false;
    const double reach = static_cast<double>(std::max(-r.least, r.most)) * static_cast<double>(scale);
    if (reach < 0.25) return true;  // both give the zero point
    if (r.n > MOST_SHIFT) return false;
    if (reach + MOST_ZERO >= 2147480000.0) return false;  // the conversion to integers must not overflow
    // The result reaches v at acc = ceil(((v - z) * 2^n - 2^(n - 1)) / m) = quotient + (remainder > 0).
    const std::int64_t one = std::int64_t{1} << r.n;
    const std::int64_t start = (std::int64_t{r.lo} + 1 - r.zero_point) * one - one / 2;
    std::int64_t quotient = floor_div(start, r.m);
    std::int64_t remainder = start - quotient * r.m;
    const std::int64_t next_quotient = one / r.m;
    const std::int64_t next_remainder = one % r.m;
    std::int32_t sides[2 * MOST_STEPS] = {};
    std::int32_t got[2 * MOST_STEPS];
    const int steps = r.hi - r.lo;
    for (int i = 0; i < steps; ++i) {
        const std::int64_t step = quotient + (remainder > 0 ? 1 : 0);
        sides[2 * i] = static_cast<std::int32_t>(std::min(std::max(step - 1, r.least), r.most));
        sides[2 * i + 1] = static_cast<std::int32_t>(std::min(std::max(step, r.least), r.most));
        quotient += next_quotient;
        remainder += next_remainder;
        if (remainder >= r.m) {
            remainder -= r.m;
            ++quotient;
        }
    }
    kernels.rescale_float(sides, scale, static_cast<float>(r.zero_point), got, 2 * steps);
    for (int i = 0; i < 2 * steps; ++i) {
        const std::int64_t scaled = (std::int64_t{sides[i]} * r.m + one / 2) >> r.n;
        const std::int64_t wanted = r.zero_point + scaled;
        if (std::min<std::int64_t>(std::max(got[i], r.lo), r.hi) !=
            std::min<std::int64_t>(std::max<std::int64_t>(wanted, r.lo), r.hi))
            return false;
    }
    return true;
}

}  // namespace subbyte
