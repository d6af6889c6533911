// Weights and per-column rescales of convolution and linear layers, checked, decoded and packed for the kernels.
#pragma once

#include <cstdint>
#include <vector>

#include "attributes.h"
#include "subbyte/kernels.h"

namespace subbyte {

// Integers table[code] - zero_point as int8, [columns, ...] as in the graph.
struct Weights {
    Dims shape;
    std::vector<std::int8_t> numbers;

    std::int64_t columns() const { return shape[0]; }
    std::int64_t depth() const { return static_cast<std::int64_t>(numbers.size()) / shape[0]; }
};

// Reads arrays codes, table and weight_zero.
Weights read_weights(Attributes& attributes, std::size_t rank);

// Columns in equal groups, each padded to whole vectors.
class Columns {
public:
    // Reads arrays bias, m, n and optionally m_neg, n_neg, and attributes lo and hi. Proves every accumulator, where
    // kernels see activations less `center`.
    Columns(Attributes& attributes, const Weights& weights, const Layout& in, const Layout& out, std::int64_t groups,
            int lanes, std::int32_t center = 0);

    Epilogue group(std::int64_t index) const;

private:
    void fill(std::vector<std::int32_t>& padded, const std::vector<std::int32_t>& values, std::int32_t rest) const;
    void rescales(Attributes& attributes, const std::string& m, const std::string& n, std::vector<std::int32_t>& ms,
                  std::vector<std::int32_t>& ns);

    std::int64_t per_group_;
    std::int64_t groups_;
    std::int64_t padded_;
    bool leaky_;
    bool high_ = true;
    std::vector<std::int32_t> bias_, m_, n_, m_neg_, n_neg_;
    Epilogue shared_{};
};

// Panels of columns [first, first + count), whose numbers are [taps][run] each; see subbyte/kernels.h.
std::vector<std::int8_t> pack_panels(const std::int8_t* numbers, std::int64_t count, std::int64_t taps,
                                     std::int64_t run, const Kernels& kernels);
// Panels of a depthwise convolution: numbers [channels][taps].
std::vector<std::int8_t> pack_depthwise(const Weights& weights, const Kernels& kernels);
// Whether w[k] * x + w[k + 1] * x' fits int16 for all even k of a run and 0 <= x, x' <= most.
bool pairs_fit(const Weights& weights, std::int64_t run, std::int64_t most);

}  // namespace subbyte
