// The proof that a rescale in float32 gives the same integers as the rule.
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

// Whether the single_rescale of the kernels gives, clamped, the integers of the rule for every accumulator of the
// range; if so, scale is set. Both are monotone in acc, so it is enough that they agree at both ends and on both sides
// of every step of the result, of which there are at most 255.
bool prove_single(const Rescale& rescale, const Kernels& kernels, float& scale);

}  // namespace subbyte
