// The proof that a float32 rescale gives the same integers as the rule.
#pragma once

#include <cstdint>

#include "subbyte/kernels.h"

namespace subbyte {

// A column's rescale, and the accumulators least..most (least <= most) that it will see.
struct Rescale {
    std::int32_t m;
    std::int32_t n;
    std::int32_t zero_point;
    std::int32_t lo;
    std::int32_t hi;
    std::int64_t least;
    std::int64_t most;
};

// Whether clamp(rint(fma(acc, scale, zero_point)), lo, hi) in float32 equals the integer rule for every accumulator of
// the range; if so, scale is set. Both are monotone in acc, so it is enough that they agree on both sides of every
// step of the result, of which there are hi - lo <= 255.
bool prove_float(const Rescale& rescale, const Kernels& kernels, float& scale);

}  // namespace subbyte
