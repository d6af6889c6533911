#include "ops/weights.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <utility>

#include "ops/proof.h"

namespace subbyte {
namespace {

std::int64_t round_up(std::int64_t n, std::int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

// The same ratio with a shift of 33 or more where m has room: (acc*2m + 2^n) >> (n+1) is (acc*m + 2^(n-1)) >> n.
void raise_shift(std::int32_t& m, std::int32_t& n) {
    while (n < 33 && m >= -(1 << 30) && m < (1 << 30)) {
        m *= 2;
        ++n;
    }
}

}  // namespace

Weights read_weights(Attributes& attributes, std::size_t rank) {
    const ArraySpec& codes = attributes.array("codes", Storage::u8);
    const ArraySpec& table = attributes.array("table", Storage::i16);
    if (codes.shape.size() != rank) attributes.fail("the weight has shape " + text(codes.shape));
    if (table.shape.size() != 1 || table.shape[0] > 256)
        attributes.fail("the weight's table has shape " + text(table.shape));
    Weights w;
    w.shape = codes.shape;
    const auto columns = static_cast<std::size_t>(w.shape[0]);
    const std::vector<std::int32_t> zeros = attributes.int32s("weight_zero", w.shape[0], INT32_LO, INT32_HI);
    const auto* code = static_cast<const std::uint8_t*>(codes.data);
    std::vector<std::int16_t> values(static_cast<std::size_t>(table.shape[0]));
    std::memcpy(values.data(), table.data, values.size() * sizeof(std::int16_t));
    w.numbers.resize(static_cast<std::size_t>(product(w.shape, "weight")));
    const std::size_t depth = w.numbers.size() / columns;
    for (std::size_t i = 0; i < w.numbers.size(); ++i) {
        if (code[i] >= values.size())
            attributes.fail("a weight's code is " + std::to_string(code[i]) + " of " + std::to_string(values.size()) +
                            " levels");
        const std::int64_t number = std::int64_t{values[code[i]]} - zeros[i / depth];
        if (number < -128 || number > 127) attributes.fail("a weight is " + std::to_string(number) + ", outside int8");
        w.numbers[i] = static_cast<std::int8_t>(number);
    }
    return w;
}

std::vector<std::int32_t> natural_order(std::int64_t count, const Kernels& kernels) {
    std::vector<std::int32_t> order(static_cast<std::size_t>(round_up(count, kernels.lanes)));
    std::iota(order.begin(), order.end(), 0);
    return order;
}

std::vector<std::int32_t> panel_order(std::int64_t count, const Kernels& kernels) {
    std::vector<std::int32_t> order = natural_order(count, kernels);
    if (!kernels.interleaved) return order;
    const auto vectors = static_cast<int>(order.size()) / kernels.lanes;
    for (int v = 0; v < vectors;) {
        const int width = panel_vectors(vectors - v, kernels.most_vectors);
        for (int i = 0; i < width * kernels.lanes; ++i)
            order[static_cast<std::size_t>(v * kernels.lanes + i)] =
                v * kernels.lanes + panel_column(i, width, kernels.lanes);
        v += width;
    }
    return order;
}

Columns::Columns(Attributes& attributes, const Weights& weights, const Layout& in, const Layout& out,
                 std::int64_t groups, const Kernels& kernels, std::vector<std::int32_t> order)
    : order_(std::move(order)), per_group_(weights.columns() / groups), groups_(groups) {
    attributes.clamp(shared_.lo, shared_.hi);
    bias_ = attributes.int32s("bias", weights.columns(), INT32_LO, INT32_HI);
    std::vector<std::int64_t> reach(bias_.size());  // largest |acc|
    const std::int64_t depth = weights.depth();
    for (std::size_t c = 0; c < bias_.size(); ++c) {
        std::int64_t sum = 0;
        std::int64_t magnitude = 0;  // at most 2^31 * 2^7 numbers
        for (std::int64_t k = 0; k < depth; ++k) {
            const std::int64_t w = weights.numbers[c * static_cast<std::size_t>(depth) + static_cast<std::size_t>(k)];
            sum += w;
            magnitude += std::abs(w);
        }
        reach[c] = magnitude * largest(in) + std::abs(std::int64_t{bias_[c]});
        if (reach[c] > INT32_HI)
            attributes.fail("the accumulator of column " + std::to_string(c) + " may exceed 2^31 - 1");
        bias_[c] = static_cast<std::int32_t>(static_cast<std::uint32_t>(std::int64_t{bias_[c]} - in.zero_point * sum));
    }
    shared_.leaky = attributes.has_array("m_neg") || attributes.has_array("n_neg");
    m_ = attributes.int32s("m", weights.columns(), INT32_LO, INT32_HI);
    n_ = attributes.int32s("n", weights.columns(), 1, 62);
    m_neg_ = shared_.leaky ? attributes.int32s("m_neg", weights.columns(), INT32_LO, INT32_HI) : m_;
    n_neg_ = shared_.leaky ? attributes.int32s("n_neg", weights.columns(), 1, 62) : n_;
    shared_.wide = out.storage == Storage::i16;
    shared_.zero_point = out.zero_point;
    if (!shared_.wide) prove(reach, kernels);
    raise_shifts(reach);
    bias_ = placed(bias_, 0);
    m_ = placed(m_, 0);
    n_ = placed(n_, 33);
    m_neg_ = placed(m_neg_, 0);
    n_neg_ = placed(n_neg_, 33);
}

void Columns::prove(const std::vector<std::int64_t>& reach, const Kernels& kernels) {
    scale_.resize(m_.size());
    scale_neg_.resize(m_.size());
    Rescale r{0, 0, shared_.zero_point, shared_.lo, shared_.hi, 0, 0};
    bool proved = true;
    for (std::size_t c = 0; proved && c < m_.size(); ++c) {
        r.m = m_[c];
        r.n = n_[c];
        r.least = shared_.leaky ? 0 : -reach[c];
        r.most = reach[c];
        proved = prove_float(r, kernels, scale_[c]);
        if (!proved || !shared_.leaky) continue;
        r.m = m_neg_[c];
        r.n = n_neg_[c];
        r.least = -reach[c];
        r.most = 0;
        proved = prove_float(r, kernels, scale_neg_[c]) && scale_neg_[c] <= scale_[c];
    }
    scale_ = proved ? placed(scale_, 0.0F) : std::vector<float>();
    scale_neg_ = proved ? placed(scale_neg_, 0.0F) : std::vector<float>();
}

// Shifts of 33 or more where multipliers have room: same result, from high halves of the products alone.
void Columns::raise_shifts(const std::vector<std::int64_t>& reach) {
    shared_.high = true;
    shared_.joined = true;
    for (std::size_t c = 0; c < m_.size(); ++c) {
        raise_shift(m_[c], n_[c]);
        raise_shift(m_neg_[c], n_neg_[c]);
        shared_.high = shared_.high && n_[c] >= 33 && n_neg_[c] >= 33;
        const std::int64_t high = reach[c] * std::abs(std::int64_t{m_[c]}) >> 32;
        const std::int64_t term = (std::abs(std::int64_t{shared_.zero_point}) + 1) << std::max(n_[c] - 32, 0);
        shared_.joined = shared_.joined && high + term < INT32_HI;
    }
    shared_.joined = shared_.joined && shared_.high;
}

template <class T>
std::vector<T> Columns::placed(const std::vector<T>& values, T rest) const {
    std::vector<T> result;
    result.reserve(order_.size() * static_cast<std::size_t>(groups_));
    for (std::int64_t g = 0; g < groups_; ++g) {
        for (const std::int64_t c : order_)
            result.push_back(c < per_group_ ? values[static_cast<std::size_t>(g * per_group_ + c)] : rest);
    }
    return result;
}

Epilogue Columns::group(std::int64_t index) const {
    const std::size_t at = order_.size() * static_cast<std::size_t>(index);
    Epilogue e = shared_;
    e.bias = bias_.data() + at;
    e.m = m_.data() + at;
    e.n = n_.data() + at;
    e.m_neg = m_neg_.data() + at;
    e.n_neg = n_neg_.data() + at;
    e.scale = scale_.empty() ? nullptr : scale_.data() + at;
    e.scale_neg = scale_neg_.empty() ? nullptr : scale_neg_.data() + at;
    return e;
}

std::vector<std::int8_t> pack_panels(const std::int8_t* numbers, std::int64_t count, std::int64_t taps,
                                     std::int64_t run, const Kernels& kernels) {
    const std::int64_t lanes = kernels.lanes;
    const std::int64_t steps = round_up(run, 4) / 4;
    const std::vector<std::int32_t> order = panel_order(count, kernels);
    const std::int64_t vectors = static_cast<std::int64_t>(order.size()) / lanes;
    std::vector<std::int8_t> packed(static_cast<std::size_t>(vectors * lanes * taps * steps * 4));
    std::int8_t* out = packed.data();
    for (std::int64_t v = 0; v < vectors;) {
        const int width = panel_vectors(static_cast<int>(vectors - v), kernels.most_vectors);
        for (std::int64_t t = 0; t < taps; ++t) {
            for (std::int64_t k = 0; k < steps * 4; k += 4) {
                for (std::int64_t place = v * lanes; place < (v + width) * lanes; ++place) {
                    const std::int64_t column = order[static_cast<std::size_t>(place)];
                    for (std::int64_t i = k; i < k + 4; ++i)
                        *out++ = column < count && i < run ? numbers[(column * taps + t) * run + i] : std::int8_t{0};
                }
            }
        }
        v += width;
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

bool pairs_fit(const Weights& weights, std::int64_t run, std::int64_t most) {
    const auto n = static_cast<std::int64_t>(weights.numbers.size());
    for (std::int64_t start = 0; start < n; start += run) {
        for (std::int64_t k = start; k < start + run; k += 2) {
            const std::int64_t a = weights.numbers[static_cast<std::size_t>(k)];
            const std::int64_t b = k + 1 < start + run ? weights.numbers[static_cast<std::size_t>(k + 1)] : 0;
            if (most * (std::max<std::int64_t>(a, 0) + std::max<std::int64_t>(b, 0)) > 32767) return false;
            if (most * (std::min<std::int64_t>(a, 0) + std::min<std::int64_t>(b, 0)) < -32768) return false;
        }
    }
    return true;
}

}  // namespace subbyte
