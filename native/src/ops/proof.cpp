#include "ops/proof.h"

#include <algorithm>
#include <cmath>

#include "subbyte/requant.h"

namespace subbyte {
namespace {

constexpr int MOST_STEPS = 256;
constexpr std::int32_t MOST_ZERO = 1 << 10;
constexpr double MOST_RESULT = 1 << 23;  // in magnitude, before the clamp: the float32 sum stays positive

std::int64_t floor_div(std::int64_t a, std::int64_t b) {
    return a / b - (a % b < 0 ? 1 : 0);
}

std::int64_t unclamped(const Rescale& r, std::int64_t acc) {
    return r.zero_point + sb_round_shift(acc * r.m, r.n);
}

// Accumulators on both sides of every step between the results first and last, both reached: the result reaches v at
// acc = ceil(((v - z) * 2^n - 2^(n - 1)) / m). Products are at most 2^62, so neither overflows.
int steps_between(const Rescale& r, std::int64_t first, std::int64_t last, std::int32_t* sides) {
    if (first >= last) return 0;
    const std::int64_t one = std::int64_t{1} << r.n;
    const std::int64_t start = (first + 1 - r.zero_point) * one - one / 2;
    std::int64_t quotient = floor_div(start, r.m);
    std::int64_t remainder = start - quotient * r.m;
    int count = 0;
    for (std::int64_t v = first; v < last; ++v) {
        const std::int64_t step = quotient + (remainder > 0 ? 1 : 0);
        sides[count++] = static_cast<std::int32_t>(step - 1);
        sides[count++] = static_cast<std::int32_t>(step);
        quotient += one / r.m;
        remainder += one % r.m;
        if (remainder >= r.m) {
            remainder -= r.m;
            ++quotient;
        }
    }
    return count;
}

}  // namespace

bool prove_single(const Rescale& r, const Kernels& kernels, float& scale) {
    if (kernels.single_rescale == nullptr || r.m < 0 || r.hi - r.lo >= MOST_STEPS) return false;
    if (r.zero_point < -MOST_ZERO || r.zero_point > MOST_ZERO) return false;
    scale = static_cast<float>(std::ldexp(static_cast<double>(r.m), -r.n));
    if (static_cast<double>(std::max(-r.least, r.most)) * static_cast<double>(scale) > MOST_RESULT) return false;
    std::int32_t sides[2 * MOST_STEPS] = {static_cast<std::int32_t>(r.least), static_cast<std::int32_t>(r.most)};
    std::int32_t got[2 * MOST_STEPS];
    const std::int64_t first = std::max<std::int64_t>(r.lo, unclamped(r, r.least));
    const std::int64_t last = std::min<std::int64_t>(r.hi, unclamped(r, r.most));
    const int count = 2 + steps_between(r, first, last, sides + 2);
    kernels.single_rescale(sides, scale, r.zero_point, got, count);
    for (int i = 0; i < count; ++i) {
        if (sb_clamp(got[i], r.lo, r.hi) != sb_clamp(unclamped(r, sides[i]), r.lo, r.hi)) return false;
    }
    return true;
}

}  // namespace subbyte
