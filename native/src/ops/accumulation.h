// How a kernel without a four-byte product may add up the products of a layer: decided once, from the weights
// themselves and the numbers that the input can hold.
#pragma once

#include <cstdint>
#include <vector>

#include "layout.h"
#include "subbyte/kernels.h"

namespace subbyte {

// What kernels see of an input: its numbers and its border's, less a center where they multiply signed bytes.
struct Seen {
    std::int32_t center;
    std::int32_t low;  // <= 0
    std::int32_t high;
};

Seen seen_by(const Kernels& kernels, const Layout& in);

// Of sums of all products of a column, in any order: `once`, or `steps` where any two products fit int16, or `exact`.
Accumulate sum_columns(const std::int8_t* numbers, std::int64_t columns, std::int64_t depth, const Seen& seen);

// Per panel of columns the steps whose products fit int16 together; see Accumulate in kernels.h.
//
// An int16 lane of vpmaddubsw holds the sum of two products x * w with 0 <= x <= most, so after some steps it lies
// between most * (sum of its negative weights) and most * (sum of its positive ones). A window ends before the first
// step that could take any lane of the panel out of int16. For weights of one magnitude that is every D steps,
// D = floor(32767 / (2 * w_max * x_max)); real weights, of both signs and mostly small, allow longer windows.
//
// NEON multiplies signed bytes, so x and the bounds have both signs. Its lanes hold two neighbouring products where each
// fits int8 alone, else one.
class Accumulation {
public:
    Accumulation() = default;
    // numbers [count columns][taps][run] are packed by pack_panels for the same kernels.
    Accumulation(const std::int8_t* numbers, std::int64_t count, std::int64_t taps, std::int64_t run, const Seen& seen,
                 const Kernels& kernels);
    Accumulation(Accumulation&&) = default;
    Accumulation& operator=(Accumulation&&) = default;

    // From one panel on; nullptr for kernels that do not ask.
    const PanelSum* from(std::size_t panel) const { return panels_.empty() ? nullptr : panels_.data() + panel; }
    // Whether every sum of two neighbouring products fits int16, as far as kernels ask.
    bool pairs_fit() const;
    // Lengths of a panel's windows, in steps; empty where a single step may not fit.
    std::vector<std::int32_t> windows(std::size_t panel) const;

private:
    std::vector<std::int32_t> lengths_;
    std::vector<PanelSum> panels_;
};

}  // namespace subbyte
