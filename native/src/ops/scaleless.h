// What operators of nets without scales share: their weights, and results shortened by a power of two. The formula is
// that of graph/ops/renormalise.py.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "attributes.h"

namespace subbyte {

// The operator's weights as int16 numbers, row by row, and their shape [rows, columns].
std::vector<std::int16_t> read_scaleless(Attributes& a, Dims& shape);

// The result has zero point 0 and holds 0..hi.
void check_renormalised(const Attributes& a, std::int32_t hi);

// `count` sums to numbers that lie `step` apart.
template <class T>
void renormalise(const std::int32_t* acc, std::int64_t count, std::int32_t hi, T* y, std::int64_t step) {
    const std::int32_t peak = *std::max_element(acc, acc + count);
    int shift = 0;
    while (peak >> shift > hi)
        ++shift;
    const std::int64_t half = (std::int64_t{1} << shift) >> 1;
    for (std::int64_t c = 0; c < count; ++c) {
        const std::int64_t kept = (std::max<std::int64_t>(acc[c], 0) + half) >> shift;
        y[c * step] = static_cast<T>(std::min<std::int64_t>(kept, hi));
    }
}

}  // namespace subbyte
