#include "ops/weights.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <utility>

#include "ops/proof.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace {

constexpr std::int64_t MOST_WEIGHT = (1 << 24) - 1;
constexpr std::int64_t MOST_SUM = (std::int64_t{1} << 62) - 1;

std::int64_t round_up(std::int64_t n, std::int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

// The same ratio with a shift of 33 or more where m has room: (acc*2m + 2^n) >> (n+1) is (acc*m + 2^(n-1)) >> n. Where
// that is possible m is no -2^31, which has no opposite.
void raise_shift(std::int32_t& m, std::int32_t& n) {
    if (m == INT32_MIN && n > 1) {
        m /= 2;
        --n;
    }
    while (n < 33 && m > -(1 << 30) && m < (1 << 30)) {
        m *= 2;
        ++n;
    }
}

// -2^31 has a shift of 1: every result but that of 0 is clamped, with 2^31 - 1 too.
std::int32_t opposite(std::int32_t m) {
    return m == INT32_MIN ? INT32_MAX : -m;
}

// Integer scales and zero points of runs of weights of a column; without scales a column is one run.
struct GroupScales {
    std::size_t size;   // weights of a run
    std::size_t count;  // runs of a column; the last may be shorter
    std::vector<std::int32_t> zeros, scales;

    bool scaled() const { return !scales.empty(); }
};

GroupScales read_groups(Attributes& attributes, std::int64_t columns, std::int64_t depth) {
    constexpr std::int64_t MOST_SIZE = 1 << 24;
    constexpr std::int64_t MOST_SCALE = 1 << 15;
    GroupScales groups{static_cast<std::size_t>(depth), 1, {}, {}};
    std::int64_t count = 1;
    if (attributes.has_array("group_scale") || attributes.has_array("group_size")) {
        const std::int64_t size = attributes.int32s("group_size", 1, 1, MOST_SIZE)[0];
        count = (depth + size - 1) / size;
        groups.size = static_cast<std::size_t>(size);
        groups.count = static_cast<std::size_t>(count);
        groups.scales = attributes.int32s("group_scale", columns * count, 1, MOST_SCALE);
    }
    groups.zeros = attributes.int32s("weight_zero", columns * count, INT32_LO, INT32_HI);
    return groups;
}

}  // namespace

WideWeights read_weights(Attributes& attributes, std::size_t rank) {
    const ArraySpec& codes = attributes.array("codes", Storage::u8);
    const bool half = attributes.has_array("table") && attributes.storage("table") == Storage::i16;
    const ArraySpec& table = attributes.array("table", half ? Storage::i16 : Storage::i32);
    if (codes.shape.size() != rank) attributes.fail("the weight has shape " + text(codes.shape));
    if (table.shape.size() != 1 || table.shape[0] > 256)
        attributes.fail("the weight's table has shape " + text(table.shape));
    WideWeights w;
    w.shape = codes.shape;
    w.levels = table.shape[0];
    const auto columns = static_cast<std::size_t>(w.shape[0]);
    w.numbers.resize(static_cast<std::size_t>(product(w.shape, "weight")));
    const std::size_t depth = w.numbers.size() / columns;
    const GroupScales groups = read_groups(attributes, w.shape[0], static_cast<std::int64_t>(depth));
    if (groups.scaled()) w.levels = 256;  // integers of groups are as many as their scales make them
    const auto* code = static_cast<const std::uint8_t*>(codes.data);
    std::vector<std::int64_t> values(static_cast<std::size_t>(table.shape[0]));
    for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = half ? static_cast<const std::int16_t*>(table.data)[i] : static_cast<const std::int32_t*>(table.data)[i];
    for (std::size_t c = 0; c < columns; ++c)
        w.negated.push_back(!groups.scaled() && groups.zeros[c] != 0 &&
                            groups.zeros[c] == values.front() + values.back());
    for (std::size_t i = 0; i < w.numbers.size(); ++i) {
        if (code[i] >= values.size())
            attributes.fail("a weight's code is " + std::to_string(code[i]) + " of " + std::to_string(values.size()) +
                            " levels");
        const std::size_t group = i / depth * groups.count + i % depth / groups.size;
        std::int64_t number = values[code[i]] - groups.zeros[group];
        if (groups.scaled()) number *= groups.scales[group];
        if (std::abs(number) > MOST_WEIGHT) attributes.fail("a weight is " + std::to_string(number) + ", beyond 24 bits");
        w.numbers[i] = static_cast<std::int32_t>(number);
    }
    return w;
}

bool fits_int8(const WideWeights& weights) {
    const std::size_t depth = weights.numbers.size() / weights.negated.size();
    for (std::size_t i = 0; i < weights.numbers.size(); ++i) {
        const std::int32_t number = weights.negated[i / depth] ? -weights.numbers[i] : weights.numbers[i];
        if (number < -128 || number > 127) return false;
    }
    return true;
}

Weights narrow(const WideWeights& weights) {
    Weights w;
    w.shape = weights.shape;
    w.levels = weights.levels;
    w.negated = weights.negated;
    w.numbers.reserve(weights.numbers.size());
    const std::size_t depth = weights.numbers.size() / weights.negated.size();
    for (std::size_t i = 0; i < weights.numbers.size(); ++i)
        w.numbers.push_back(static_cast<std::int8_t>(w.negated[i / depth] ? -weights.numbers[i] : weights.numbers[i]));
    return w;
}

template <class T>
std::int64_t worst_sum(const Attributes& attributes, const T* numbers, std::int64_t depth, const Layout& x,
                       std::int64_t bias) {
    std::int64_t positive = 0;
    std::int64_t negative = 0;
    for (std::int64_t k = 0; k < depth; ++k)
        (numbers[k] > 0 ? positive : negative) += numbers[k];
    if (positive - negative > MOST_SUM / std::max<std::int64_t>(1, largest(x)))
        attributes.fail("a sum of products may exceed 2^62 - 1");
    const std::int64_t lo = std::min<std::int64_t>(0, x.least());
    const std::int64_t hi = std::max<std::int64_t>(0, x.most());
    const std::int64_t smallest = positive * lo + negative * hi + std::min<std::int64_t>(bias, 0);
    return std::max(-smallest, positive * hi + negative * lo + std::max<std::int64_t>(bias, 0));
}

template std::int64_t worst_sum(const Attributes&, const std::int8_t*, std::int64_t, const Layout&, std::int64_t);
template std::int64_t worst_sum(const Attributes&, const std::int32_t*, std::int64_t, const Layout&, std::int64_t);

std::int64_t choose_fold(Attributes& attributes, const Weights& weights, std::int64_t stride, const Kernels& kernels) {
    const auto steps = [&](std::int64_t fold) {  // per result pixel, times 4; storing a vector costs about two steps
        return (weights.shape[1] * round_up((weights.shape[2] + (fold - 1) * stride) * weights.shape[3], 4) + 8) / fold;
    };
    const std::int64_t panel = std::int64_t{kernels.lanes} * kernels.most_vectors;
    std::int64_t best = 1;
    Dims ways = {1};
    for (std::int64_t f = 2; f * weights.columns() <= panel && attributes.out().shape[1] % f == 0; f *= 2) {
        if (f * weights.columns() <= kernels.lanes && steps(f) < steps(best)) best = f;
        ways.push_back(f);
    }
    return attributes.choose("fold", ways, best);
}

Weights fold_pixels(const Weights& weights, std::int64_t fold, std::int64_t stride) {
    const std::int64_t channels = weights.shape[3];
    const std::int64_t run = weights.shape[2] * channels;
    const std::int64_t rows = weights.columns() * weights.shape[1];
    Weights folded;
    folded.levels = weights.levels;
    folded.shape = {fold * weights.columns(), weights.shape[1], weights.shape[2] + (fold - 1) * stride, channels};
    const std::int64_t wide = folded.shape[2] * channels;
    folded.numbers.resize(static_cast<std::size_t>(fold * rows * wide));
    for (std::int64_t p = 0; p < fold; ++p) {
        for (std::int64_t row = 0; row < rows; ++row)
            std::copy_n(weights.numbers.data() + row * run, run,
                        folded.numbers.data() + (p * rows + row) * wide + p * stride * channels);
    }
    return folded;
}

Order natural_order(std::int64_t count, const Kernels& kernels) {
    Order order;
    order.columns.resize(static_cast<std::size_t>(round_up(count, kernels.lanes)));
    std::iota(order.columns.begin(), order.columns.end(), 0);
    order.panels.assign(order.columns.size() / static_cast<std::size_t>(kernels.lanes), 1);
    return order;
}

Order panel_order(std::int64_t count, const Kernels& kernels, std::int64_t fold) {
    Order order = natural_order(fold * count, kernels);
    const auto vectors = static_cast<int>(order.panels.size());
    order.panels.clear();
    for (int v = 0; v < vectors; v += order.panels.back()) {
        order.panels.push_back(panel_vectors(vectors - v, kernels.most_vectors));
        for (int i = 0; kernels.interleaved && i < order.panels.back() * kernels.lanes; ++i)
            order.columns[static_cast<std::size_t>(v * kernels.lanes + i)] =
                v * kernels.lanes + panel_column(i, order.panels.back(), kernels.lanes);
    }
    for (std::int32_t& column : order.columns) {
        if (fold > 1) column = static_cast<std::int32_t>(column < fold * count ? column % count : count);
    }
    return order;
}

Columns::Columns(Attributes& attributes, const Weights& weights, const Layout& in, std::int64_t groups,
                 const Kernels& kernels, Order order, std::int32_t center)
    : lanes_(kernels.lanes), order_(std::move(order)), per_group_(weights.columns() / groups), groups_(groups) {
    attributes.clamp(shared_.lo, shared_.hi);
    bias_ = attributes.int32s("bias", weights.columns(), INT32_LO, INT32_HI);
    std::vector<std::int64_t> reach(bias_.size());  // largest |acc|
    const std::int64_t depth = weights.depth();
    for (std::size_t c = 0; c < bias_.size(); ++c) {
        const std::int8_t* numbers = weights.numbers.data() + c * static_cast<std::size_t>(depth);
        const std::int64_t sum = std::accumulate(numbers, numbers + depth, std::int64_t{0});
        reach[c] = worst_sum(attributes, numbers, depth, in, weights.negated[c] ? -std::int64_t{bias_[c]} : bias_[c]);
        if (reach[c] > INT32_HI)
            attributes.fail("the accumulator of column " + std::to_string(c) + " may exceed 2^31 - 1");
        if (weights.negated[c]) bias_[c] = -bias_[c];
        const std::int64_t zero = std::int64_t{in.zero_point} - center;
        bias_[c] = static_cast<std::int32_t>(static_cast<std::uint32_t>(std::int64_t{bias_[c]} - zero * sum));
    }
    read_rescale(attributes, reach, weights.negated, kernels, true);
}

Columns::Columns(Attributes& attributes, const WideWeights& weights, std::int32_t pre_shift, std::int64_t groups,
                 const Kernels& kernels)
    : lanes_(kernels.lanes),
      order_(natural_order(weights.columns() / groups, kernels)),
      per_group_(weights.columns() / groups),
      groups_(groups) {
    read_shifted(attributes, weights.numbers.data(), weights.depth(), attributes.in(0), pre_shift, kernels);
}

Columns::Columns(Attributes& attributes, const Weights& weights, std::int32_t pre_shift, const Layout& in,
                 const Kernels& kernels, Order order)
    : lanes_(kernels.lanes), order_(std::move(order)), per_group_(weights.columns()), groups_(1) {
    read_shifted(attributes, weights.numbers.data(), weights.depth(), in, pre_shift, kernels);
}

template <class T>
void Columns::read_shifted(Attributes& attributes, const T* numbers, std::int64_t depth, const Layout& in,
                           std::int32_t pre_shift, const Kernels& kernels) {
    attributes.clamp(shared_.lo, shared_.hi);
    bias_ = attributes.int32s("bias", per_group_ * groups_, INT32_LO, INT32_HI);
    std::vector<std::int64_t> reach(bias_.size());
    for (std::size_t c = 0; c < bias_.size(); ++c, numbers += depth) {
        const std::int64_t bias = bias_[c];
        reach[c] = worst_sum(attributes, numbers, depth, in, pre_shift == 0 ? bias : 0);
        if (pre_shift > 0) reach[c] = sb_round_shift(reach[c], pre_shift) + std::abs(bias);
        if (reach[c] > INT32_HI)
            attributes.fail("the accumulator of column " + std::to_string(c) + " may exceed 2^31 - 1");
    }
    read_rescale(attributes, reach, std::vector<bool>(reach.size()), kernels, false);
}

void Columns::read_rescale(Attributes& attributes, const std::vector<std::int64_t>& reach,
                           const std::vector<bool>& negated, const Kernels& kernels, bool in_float) {
    const Layout& out = attributes.out();
    const auto count = static_cast<std::int64_t>(reach.size());
    shared_.leaky = attributes.has_array("m_neg") || attributes.has_array("n_neg");
    m_ = attributes.int32s("m", count, INT32_LO, INT32_HI);
    n_ = attributes.int32s("n", count, 1, MOST_SHIFT);
    m_neg_ = shared_.leaky ? attributes.int32s("m_neg", count, INT32_LO, INT32_HI) : m_;
    n_neg_ = shared_.leaky ? attributes.int32s("n_neg", count, 1, MOST_SHIFT) : n_;
    shared_.wide = out.storage == Storage::i16;
    shared_.zero_point = out.zero_point;
    scale_.resize(m_.size());
    scale_neg_.resize(m_.size());
    std::vector<std::uint8_t> rules(m_.size());
    for (std::size_t c = 0; c < m_.size(); ++c) {
        raise_shift(m_[c], n_[c]);
        raise_shift(m_neg_[c], n_neg_[c]);
        rules[c] = allowed(c, reach[c], kernels, in_float);
        if (negated[c]) negate(c);
    }
    choose_rules(placed(rules, std::uint8_t{255}));
    bias_ = placed(bias_, 0);
    m_ = placed(m_, 0);
    n_ = placed(n_, 33);
    m_neg_ = placed(m_neg_, 0);
    n_neg_ = placed(n_neg_, 33);
    scale_ = placed(scale_, 0.0F);
    scale_neg_ = placed(scale_neg_, 0.0F);
}

// What held for acc now holds for -acc, so the two sides of a leaky slope change places.
void Columns::negate(std::size_t c) {
    std::swap(m_[c], m_neg_[c]);
    std::swap(n_[c], n_neg_[c]);
    std::swap(scale_[c], scale_neg_[c]);
    m_[c] = opposite(m_[c]);
    m_neg_[c] = opposite(m_neg_[c]);
    scale_[c] = -scale_[c];
    scale_neg_[c] = -scale_neg_[c];
}

std::uint8_t Columns::allowed(std::size_t c, std::int64_t reach, const Kernels& kernels, bool in_float) {
    const std::int32_t zero = shared_.zero_point;
    const bool leaky = shared_.leaky;
    const Rescale positive{m_[c], n_[c], zero, shared_.lo, shared_.hi, leaky ? 0 : -reach, reach};
    const Rescale negative{m_neg_[c], n_neg_[c], zero, shared_.lo, shared_.hi, -reach, leaky ? 0 : reach};
    const bool single = in_float && !shared_.wide && prove_single(positive, kernels, scale_[c]) &&
                        prove_single(negative, kernels, scale_neg_[c]) && scale_neg_[c] <= scale_[c];
    const auto joins = [&](const Rescale& r) {
        const std::int64_t high = reach * std::abs(std::int64_t{r.m}) >> 32;
        return r.n >= 33 && high + ((std::abs(std::int64_t{zero}) + 1) << (r.n - 32)) < INT32_HI;
    };
    const bool high = joins(positive) && joins(negative);
    return static_cast<std::uint8_t>(single << static_cast<int>(Rule::single) | high << static_cast<int>(Rule::high) |
                                     1 << static_cast<int>(Rule::any));
}

// Every panel follows the fastest rule that all of its columns allow.
void Columns::choose_rules(const std::vector<std::uint8_t>& allowed) {
    auto next = allowed.begin();
    while (next != allowed.end()) {
        for (const int vectors : order_.panels) {
            std::uint8_t all = 255;
            for (int i = 0; i < vectors * lanes_; ++i)
                all &= *next++;
            int rule = 0;
            while ((all >> rule & 1) == 0)
                ++rule;
            rules_.insert(rules_.end(), static_cast<std::size_t>(vectors), static_cast<Rule>(rule));
        }
    }
}

template <class T>
std::vector<T> Columns::placed(const std::vector<T>& values, T rest) const {
    std::vector<T> result;
    result.reserve(order_.columns.size() * static_cast<std::size_t>(groups_));
    for (std::int64_t g = 0; g < groups_; ++g) {
        for (const std::int64_t c : order_.columns)
            result.push_back(c < per_group_ ? values[static_cast<std::size_t>(g * per_group_ + c)] : rest);
    }
    return result;
}

Epilogue Columns::group(std::int64_t index) const {
    const std::size_t at = order_.columns.size() * static_cast<std::size_t>(index);
    Epilogue e = shared_;
    e.bias = bias_.data() + at;
    e.m = m_.data() + at;
    e.n = n_.data() + at;
    e.m_neg = m_neg_.data() + at;
    e.n_neg = n_neg_.data() + at;
    e.scale = scale_.data() + at;
    e.scale_neg = scale_neg_.data() + at;
    e.rules = rules_.data() + at / static_cast<std::size_t>(lanes_);
    return e;
}

std::vector<std::int8_t> pack_panels(const std::int8_t* numbers, std::int64_t count, std::int64_t taps,
                                     std::int64_t run, const Kernels& kernels) {
    const std::int64_t steps = round_up(run, 4) / 4;
    const Order order = panel_order(count, kernels);
    std::vector<std::int8_t> packed(order.columns.size() * static_cast<std::size_t>(taps * steps * 4));
    std::int8_t* out = packed.data();
    auto columns = order.columns.begin();
    for (const int vectors : order.panels) {
        const auto end = columns + vectors * kernels.lanes;
        for (std::int64_t t = 0; t < taps; ++t) {
            for (std::int64_t k = 0; k < steps * 4; k += 4) {
                for (auto column = columns; column != end; ++column) {
                    for (std::int64_t i = k; i < k + 4; ++i)
                        *out++ = *column < count && i < run ? numbers[(*column * taps + t) * run + i] : std::int8_t{0};
                }
            }
        }
        columns = end;
    }
    return packed;
}

std::vector<std::int8_t> pack_depthwise(const Weights& weights, const Kernels& kernels) {
    const std::int64_t lanes = kernels.lanes;
    const std::int64_t channels = weights.columns();
    const std::int64_t taps = weights.depth();
    const std::int64_t padded = round_up(taps, 4);
    std::vector<std::int8_t> packed(static_cast<std::size_t>(round_up(channels, lanes) * padded));
    std::int8_t* out = packed.data();
    for (std::int64_t first = 0; first < channels; first += lanes) {
        for (std::int64_t t = 0; t < padded; t += 4) {
            for (std::int64_t c = first; c < first + lanes; ++c) {
                for (std::int64_t i = t; i < t + 4; ++i)
                    *out++ = c < channels && i < taps ? weights.numbers[static_cast<std::size_t>(c * taps + i)]
                                                      : std::int8_t{0};
            }
        }
    }
    return packed;
}

}  // namespace subbyte
