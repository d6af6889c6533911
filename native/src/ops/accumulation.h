// How a kernel without a four-byte product may add up the products of a layer: decided once, from the weights
// themselves and the largest number that the input can hold.
#pragma once

#include <cstdint>
#include <vector>

#include "subbyte/kernels.h"

namespace subbyte {

// Numbers of columns [columns][taps][run], as pack_panels takes them.
struct ColumnNumbers {
    const std::int8_t* numbers;
    std::int64_t columns;
    std::int64_t taps;
    std::int64_t run;
};

// w = 16 * high + low with both in -8..8: products of either with bytes fit int16 many times over.
inline std::int8_t low_half(int w) {
    return static_cast<std::int8_t>(((w + 8) & 15) - 8);
}
inline std::int8_t high_half(int w) {
    return static_cast<std::int8_t>((w - low_half(w)) / 16);
}

// Per panel of columns the steps whose products fit int16 together; see Accumulate in kernels.h.
//
// An int16 lane of vpmaddubsw holds the sum of two products x * w with 0 <= x <= most, so after some steps it lies
// between most * (sum of its negative weights) and most * (sum of its positive ones). A window ends before the first
// step that could take any lane of the panel out of int16. For weights of one magnitude that is every D steps,
// D = floor(32767 / (2 * w_max * x_max)); real weights, of both signs and mostly small, allow longer windows.
// Lengths of the windows, in steps, of columns that share a panel; empty where a single step may not fit.
std::vector<std::int32_t> windows(const ColumnNumbers& numbers, std::int64_t most);

class Accumulation {
public:
    Accumulation() = default;
    // may_arrange: whether the bytes of panels may lie in another way than pack_panels leaves them.
    Accumulation(const ColumnNumbers& numbers, std::int64_t most, const Kernels& kernels, bool may_arrange);
    Accumulation(Accumulation&&) = default;
    Accumulation& operator=(Accumulation&&) = default;

    // From one panel on; nullptr for kernels that do not ask.
    const PanelSum* from(std::size_t panel) const { return panels_.empty() ? nullptr : panels_.data() + panel; }
    const std::vector<PanelSum>& panels() const { return panels_; }
    // Whether every sum of two neighbouring products fits int16, as far as kernels ask.
    bool pairs_fit() const;

private:
    std::vector<std::int32_t> details_;
    std::vector<PanelSum> panels_;
};

}  // namespace subbyte
