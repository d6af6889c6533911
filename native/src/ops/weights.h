// Weights and per-column rescales of convolution and linear layers, checked, decoded and packed for the kernels.
#pragma once

#include <cstdint>
#include <vector>

#include "attributes.h"
#include "subbyte/kernels.h"

namespace subbyte {

constexpr std::int32_t MOST_SHIFT = 62;

// Integers group_scale * (table[code] - zero_point) as int8, [columns, ...] as in the graph. A column that is `negated` has the table's
// numbers once its sign is changed, e.g. -1..2 of a table -2..1, and is kept so: then few numbers occur in all columns,
// and acc * m = (-acc) * (-m) gives its results.
struct Weights {
    Dims shape;
    std::vector<std::int8_t> numbers;
    std::int64_t levels = 256;  // at most so many different numbers, zero points and padding aside
    std::vector<bool> negated;

    std::int64_t columns() const { return shape[0]; }
    std::int64_t depth() const { return static_cast<std::int64_t>(numbers.size()) / shape[0]; }
};

// The same before anything is known of their width: integers of at most 24 bits and a sign.
struct WideWeights {
    Dims shape;
    std::vector<std::int32_t> numbers;
    std::int64_t levels = 256;
    std::vector<bool> negated;

    std::int64_t columns() const { return shape[0]; }
    std::int64_t depth() const { return static_cast<std::int64_t>(numbers.size()) / shape[0]; }
};

// Reads arrays codes, table (int16, or int32) and weight_zero, and where columns consist of groups group_size and
// group_scale: weight k of a column belongs to group k / group_size, and each group has a zero point and a scale.
WideWeights read_weights(Attributes& attributes, std::size_t rank);
bool fits_int8(const WideWeights& weights);
// Weights that fit.
Weights narrow(const WideWeights& weights);

// Largest magnitude of a sum of numbers[i] * (x[i] - zero_point), some left out, plus a bias that may be left out too.
// Fails where it passes 2^62 - 1; numbers are within 2^24, fewer than 2^31.
template <class T>
std::int64_t worst_sum(const Attributes& attributes, const T* numbers, std::int64_t depth, const Layout& x,
                       std::int64_t bias);

// How many neighbouring result pixels of a row to make at once, as columns of their own that fill up a vector (or as
// chosen): their windows share most of what they read. weights are [columns, kernel_h, kernel_w, channels].
std::int64_t choose_fold(Attributes& attributes, const Weights& weights, std::int64_t stride, const Kernels& kernels);
// Weights [fold * columns, kernel_h, kernel_w + (fold - 1) * stride, channels], where pixel p's lie p strides further
// among zeros.
Weights fold_pixels(const Weights& weights, std::int64_t fold, std::int64_t stride);

// Where the columns of one group lie: columns[position], numbers >= their count for padding; vectors of each panel.
struct Order {
    std::vector<std::int32_t> columns;
    std::vector<int> panels;
};

// Panels of `count` columns, fold times over.
Order panel_order(std::int64_t count, const Kernels& kernels, std::int64_t fold = 1);
// One after the other in panels of one vector, as depthwise kernels take them.
Order natural_order(std::int64_t count, const Kernels& kernels);

// Columns in equal groups, each in the given order.
class Columns {
public:
    // Reads arrays bias, m, n and optionally m_neg, n_neg, and attributes lo and hi. Proves every accumulator,
    // where kernels see activations less `center`.
    Columns(Attributes& attributes, const Weights& weights, const Layout& in, std::int64_t groups,
            const Kernels& kernels, Order order, std::int32_t center = 0);

    // The same for the numbers of wide kernels, whose sums are shifted before the bias is added: columns in natural
    // order, no float32, nothing folded into the bias.
    Columns(Attributes& attributes, const WideWeights& weights, std::int32_t pre_shift, std::int64_t groups,
            const Kernels& kernels);

    // The same in a given order for products of narrow weights, whatever their signs, with numbers of `in`.
    Columns(Attributes& attributes, const Weights& weights, std::int32_t pre_shift, const Layout& in,
            const Kernels& kernels, Order order);

    Epilogue group(std::int64_t index) const;

private:
    // Bounds, bias and multipliers behind sums of products that are shifted before the bias is added.
    template <class T>
    void read_shifted(Attributes& attributes, const T* numbers, std::int64_t depth, const Layout& in,
                      std::int32_t pre_shift, const Kernels& kernels);
    // What follows the bias: multipliers, which are legal for accumulators of the proved reach.
    void read_rescale(Attributes& attributes, const std::vector<std::int64_t>& reach, const std::vector<bool>& negated,
                      const Kernels& kernels, bool in_float);
    // What holds for a column: the formulas of Rule, as bits 1 << rule.
    std::uint8_t allowed(std::size_t c, std::int64_t reach, const Kernels& kernels, bool in_float);
    void negate(std::size_t c);
    void choose_rules(const std::vector<std::uint8_t>& allowed);
    template <class T>
    std::vector<T> placed(const std::vector<T>& values, T rest) const;

    int lanes_;
    Order order_;
    std::int64_t per_group_;
    std::int64_t groups_;
    std::vector<std::int32_t> bias_, m_, n_, m_neg_, n_neg_;
    std::vector<float> scale_, scale_neg_;
    std::vector<Rule> rules_;  // by vector
    Epilogue shared_{};
};

// Panels of columns [first, first + count), whose numbers are [taps][run] each; see subbyte/kernels.h.
std::vector<std::int8_t> pack_panels(const std::int8_t* numbers, std::int64_t count, std::int64_t taps,
                                     std::int64_t run, const Kernels& kernels);
// Panels of a depthwise convolution: numbers [channels][taps].
std::vector<std::int8_t> pack_depthwise(const Weights& weights, const Kernels& kernels);

}  // namespace subbyte
