#include "ops/weights.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

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

Columns::Columns(Attributes& attributes, const Weights& weights, const Layout& in, const Layout& out,
                 std::int64_t groups, int lanes, std::int32_t center)
    : per_group_(weights.columns() / groups),
      groups_(groups),
      padded_(round_up(per_group_, lanes)),
      leaky_(attributes.has_array("m_neg") || attributes.has_array("n_neg")) {
    attributes.clamp(shared_.lo, shared_.hi);
    std::vector<std::int32_t> bias = attributes.int32s("bias", weights.columns(), INT32_LO, INT32_HI);
    const std::int64_t depth = weights.depth();
    for (std::size_t c = 0; c < bias.size(); ++c) {
        std::int64_t sum = 0;
        std::int64_t magnitude = 0;  // at most 2^31 * 2^7 numbers
        for (std::int64_t k = 0; k < depth; ++k) {
            const std::int64_t w = weights.numbers[c * static_cast<std::size_t>(depth) + static_cast<std::size_t>(k)];
            sum += w;
            magnitude += std::abs(w);
        }
        if (magnitude * largest(in) + std::abs(std::int64_t{bias[c]}) > INT32_HI)
            attributes.fail("the accumulator of column " + std::to_string(c) + " may exceed 2^31 - 1");
        const std::int64_t zero = std::int64_t{in.zero_point} - center;
        bias[c] = static_cast<std::int32_t>(static_cast<std::uint32_t>(std::int64_t{bias[c]} - zero * sum));
    }
    fill(bias_, bias, 0);
    rescales(attributes, "m", "n", m_, n_);
    if (leaky_) rescales(attributes, "m_neg", "n_neg", m_neg_, n_neg_);
    shared_.leaky = leaky_;
    shared_.high = high_;
    shared_.wide = out.storage == Storage::i16;
    shared_.zero_point = out.zero_point;
}

void Columns::fill(std::vector<std::int32_t>& padded, const std::vector<std::int32_t>& values,
                   std::int32_t rest) const {
    padded.assign(static_cast<std::size_t>(padded_ * groups_), rest);
    for (std::size_t c = 0; c < values.size(); ++c) {
        const auto group = static_cast<std::int64_t>(c) / per_group_;
        padded[c + static_cast<std::size_t>(group * (padded_ - per_group_))] = values[c];
    }
}

void Columns::rescales(Attributes& attributes, const std::string& m, const std::string& n,
                       std::vector<std::int32_t>& ms, std::vector<std::int32_t>& ns) {
    std::vector<std::int32_t> multipliers = attributes.int32s(m, per_group_ * groups_, INT32_LO, INT32_HI);
    std::vector<std::int32_t> shifts = attributes.int32s(n, per_group_ * groups_, 1, 62);
    for (std::size_t c = 0; c < shifts.size(); ++c) {
        raise_shift(multipliers[c], shifts[c]);
        high_ = high_ && shifts[c] >= 33;
    }
    fill(ms, multipliers, 0);
    fill(ns, shifts, 33);
}

Epilogue Columns::group(std::int64_t index) const {
    const std::int64_t at = index * padded_;
    Epilogue e = shared_;
    e.bias = bias_.data() + at;
    e.m = m_.data() + at;
    e.n = n_.data() + at;
    e.m_neg = (leaky_ ? m_neg_ : m_).data() + at;
    e.n_neg = (leaky_ ? n_neg_ : n_).data() + at;
    return e;
}

std::vector<std::int8_t> pack_panels(const std::int8_t* numbers, std::int64_t count, std::int64_t taps,
                                     std::int64_t run, const Kernels& kernels) {
    const std::int64_t lanes = kernels.lanes;
    const std::int64_t steps = round_up(run, 4) / 4;
    const std::int64_t vectors = round_up(count, lanes) / lanes;
    std::vector<std::int8_t> packed(static_cast<std::size_t>(vectors * lanes * taps * steps * 4));
    std::int8_t* out = packed.data();
    for (std::int64_t v = 0; v < vectors;) {
        const int width = panel_vectors(static_cast<int>(vectors - v), kernels.most_vectors);
        for (std::int64_t t = 0; t < taps; ++t) {
            for (std::int64_t k = 0; k < steps * 4; k += 4) {
                for (std::int64_t column = v * lanes; column < (v + width) * lanes; ++column) {
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
