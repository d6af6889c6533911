// One kernel for all widths: the sums of a layer are int32 where that is proved to hold them, int64 elsewhere, and the
// rescale is never in float32. Weights of few bits gain nothing here, and nothing is chosen: see src/kernels/wide.inc.
// Activations may be codes of a table, as operand and as result.

#include "ops/wide.h"

#include <algorithm>
#include <numeric>

#include "ops/codes.h"

namespace subbyte {
namespace {

std::int64_t parts(std::int64_t n, std::int64_t unit) {
    return (n + unit - 1) / unit;
}

// Whether the sums of a layer whose accumulators are proved fit int32 in every part, and what it multiplies int16.
bool fits_pairs(const WideWeights& weights, const Layout& x, std::int32_t pre_shift) {
    const auto [least, most] = std::minmax_element(weights.numbers.begin(), weights.numbers.end());
    const bool operand = !x.coded() || (x.least() >= INT16_MIN && x.most() <= INT16_MAX);
    return operand && *least >= INT16_MIN && *most <= INT16_MAX && pre_shift == 0;
}

// What any byte stands for; behind the last code nothing, for bytes that lie behind a run and meet weights of 0.
std::vector<std::int32_t> byte_values(const Layout& x) {
    std::vector<std::int32_t> values = x.table;
    if (x.coded()) values.resize(256);
    return values;
}

// Where sums start, so that activations need not be centred: they wrap, as kernels do. Groups in whole vectors.
std::vector<std::int64_t> find_starts(const WideWeights& weights, std::int32_t zero_point, std::int64_t groups,
                                      std::int64_t lanes) {
    const std::int64_t depth = weights.depth();
    const std::int64_t per_group = weights.columns() / groups;
    std::vector<std::int64_t> starts(static_cast<std::size_t>(groups * parts(per_group, lanes) * lanes));
    for (std::int64_t c = 0; c < weights.columns(); ++c) {
        const std::int32_t* numbers = weights.numbers.data() + c * depth;
        const auto sum = static_cast<std::uint64_t>(std::accumulate(numbers, numbers + depth, std::int64_t{0}));
        const std::int64_t place = c / per_group * parts(per_group, lanes) * lanes + c % per_group;
        starts[static_cast<std::size_t>(place)] = static_cast<std::int64_t>(-static_cast<std::uint64_t>(zero_point) * sum);
    }
    return starts;
}

// Numbers of T in the order of wide.inc, as bytes.
template <class T>
std::vector<std::uint8_t> as_bytes(const std::vector<std::int32_t>& numbers) {
    std::vector<std::uint8_t> bytes(numbers.size() * sizeof(T));
    auto* out = reinterpret_cast<T*>(bytes.data());
    std::transform(numbers.begin(), numbers.end(), out, [](std::int32_t n) { return static_cast<T>(n); });
    return bytes;
}

// [vector][tap][step][lane][numbers of a step], zeros behind the last column and the end of a run.
std::vector<std::int32_t> in_vectors(const std::int32_t* numbers, std::int64_t columns, std::int64_t taps,
                                     std::int64_t run, std::int64_t lanes, std::int64_t step) {
    const std::int64_t steps = parts(run, step);
    std::vector<std::int32_t> placed(static_cast<std::size_t>(parts(columns, lanes) * taps * steps * lanes * step));
    for (std::int64_t c = 0; c < columns; ++c) {
        for (std::int64_t t = 0; t < taps; ++t) {
            for (std::int64_t k = 0; k < run; ++k) {
                const std::int64_t vector = (c / lanes * taps + t) * steps + k / step;
                placed[static_cast<std::size_t>((vector * lanes + c % lanes) * step + k % step)] =
                    numbers[(c * taps + t) * run + k];
            }
        }
    }
    return placed;
}

// [tap][channel]
std::vector<std::int32_t> by_tap(const WideWeights& weights) {
    const auto channels = static_cast<std::size_t>(weights.columns());
    const auto taps = static_cast<std::size_t>(weights.depth());
    std::vector<std::int32_t> placed(weights.numbers.size());
    for (std::size_t c = 0; c < channels; ++c) {
        for (std::size_t t = 0; t < taps; ++t)
            placed[t * channels + c] = weights.numbers[c * taps + t];
    }
    return placed;
}

class Wide : public Op {
public:
    Wide(const Build& build, Attributes& attributes, std::int64_t groups, std::int64_t run, bool depthwise,
         std::int32_t pre_shift, const WideWeights& weights)
        : Op(build.spec),
          kernels_(build.kernels),
          groups_(depthwise ? 1 : groups),
          run_(depthwise ? 1 : run),
          per_group_(weights.columns() / groups_),
          depthwise_(depthwise),
          pre_shift_(pre_shift),
          columns_(attributes, weights, pre_shift, groups_, build.kernels),
          in_int32_(fits_pairs(weights, attributes.in(0), pre_shift)),
          values_(byte_values(attributes.in(0))),
          codes_(attributes.out()),
          starts_(find_starts(weights, values_.empty() ? attributes.in(0).zero_point : 0, groups_,
                              build.kernels.lanes)) {
        const std::int64_t lanes = build.kernels.lanes;
        const std::int64_t step = in_int32_ ? 2 : 1;
        for (std::int64_t g = 0; g < groups_; ++g) {
            const std::int32_t* group = weights.numbers.data() + g * per_group_ * weights.depth();
            const std::vector<std::int32_t> placed =
                depthwise ? by_tap(weights) : in_vectors(group, per_group_, weights.depth() / run, run, lanes, step);
            weights_.push_back(in_int32_ ? as_bytes<std::int16_t>(placed) : as_bytes<std::int32_t>(placed));
            weight_bytes += static_cast<std::int64_t>(weights_.back().size());
        }
        work = 4 * attributes.out().count() * weights.depth();  // a byte's product counts 1
        wide_macs = 0;
    }

    void run(const Frame& frame, Part part) const override {
        WideJob job{};
        job.in = frame.at(inputs[0]) + first_;
        job.out = frame.at(output);
        job.grid = grid_;
        job.first = part.begin(pixels_);
        job.last = part.end(pixels_);
        if (job.first == job.last) return;
        job.taps = taps_.data();
        job.tap_count = static_cast<std::int32_t>(taps_.size());
        job.run = static_cast<std::int32_t>(run_);
        job.columns = static_cast<std::int32_t>(per_group_);
        job.depthwise = depthwise_;
        job.wide_input = in_size_ == 2;
        job.values = values_.empty() ? nullptr : values_.data();
        const CodeSearch search = codes_.search();
        job.search = codes_.any() ? &search : nullptr;
        job.in_int32 = in_int32_;
        job.pre_shift = pre_shift_;
        for (std::int64_t g = 0; g < groups_; ++g) {
            job.epilogue = columns_.group(g);
            job.starts = starts_.data() + static_cast<std::int64_t>(starts_.size()) / groups_ * g;
            job.weights = weights_[static_cast<std::size_t>(g)].data();
            kernels_.wide(job);
            job.in += in_group_;
            job.out += out_group_;
        }
    }

protected:
    const Kernels& kernels_;
    std::int64_t groups_;
    std::int64_t run_;
    std::int64_t per_group_;
    bool depthwise_;
    std::int32_t pre_shift_;
    Columns columns_;
    bool in_int32_;
    std::vector<std::int32_t> values_;
    Codes codes_;
    std::vector<std::int64_t> starts_;
    std::vector<std::vector<std::uint8_t>> weights_;  // by group
    // Known after prepare, in bytes:
    std::int64_t in_size_ = 1;
    std::int64_t first_ = 0;
    std::int64_t in_group_ = 0;
    std::int64_t out_group_ = 0;
    std::int64_t pixels_ = 0;
    Grid grid_{};
    std::vector<std::int32_t> taps_;
};

class WideConv final : public Wide {
public:
    WideConv(const Build& build, Attributes& attributes, const ConvWindow& window, std::int64_t groups,
             std::int32_t pre_shift, const WideWeights& weights)
        : Wide(build, attributes, groups, run(window, groups, weights), is_depthwise(groups, weights), pre_shift,
               weights),
          window_(window) {}

    void request(std::vector<Layout>& values) const override { window_.request(values[inputs[0]]); }

    void prepare(const std::vector<Layout>& values) override {
        const Layout& x = values[inputs[0]];
        const Layout& y = values[output];
        const std::int64_t channels = x.shape[2];
        const std::int64_t size = storage_bytes(y.storage);
        in_size_ = storage_bytes(x.storage);
        first_ = window_.first(x) * in_size_;
        grid_ = Grid{y.shape[1], window_.stride_w * channels * in_size_, window_.stride_h * x.strides[0] * in_size_,
                     y.shape[2] * size, y.strides[0] * size};
        pixels_ = y.shape[0] * y.shape[1];
        in_group_ = channels / groups_ * in_size_;
        out_group_ = per_group_ * size;
        const std::int64_t columns = run_ > channels / groups_ ? 1 : window_.kernel_w;
        for (std::int64_t ky = 0; ky < window_.kernel_h; ++ky) {
            for (std::int64_t kx = 0; kx < columns; ++kx) {
                const std::int64_t at = ky * window_.dilation_h * x.strides[0] + kx * window_.dilation_w * channels;
                taps_.push_back(static_cast<std::int32_t>(at * in_size_));
            }
        }
    }

    using Wide::run;

private:
    static bool is_depthwise(std::int64_t groups, const WideWeights& weights) {
        return groups > 1 && weights.columns() == groups && weights.shape[3] == 1;
    }
    // Numbers that lie side by side: a row of the window, or a group's channels.
    static std::int64_t run(const ConvWindow& window, std::int64_t groups, const WideWeights& weights) {
        return window.dilation_w == 1 && groups == 1 ? weights.shape[2] * weights.shape[3] : weights.shape[3];
    }

    ConvWindow window_;
};

class WideLinear final : public Wide {
public:
    WideLinear(const Build& build, Attributes& attributes, std::int32_t pre_shift, const WideWeights& weights)
        : Wide(build, attributes, 1, weights.depth(), false, pre_shift, weights) {}

    void prepare(const std::vector<Layout>& values) override {
        const Layout& x = values[inputs[0]];
        const Layout& y = values[output];
        const std::int64_t size = storage_bytes(y.storage);
        in_size_ = storage_bytes(x.storage);
        pixels_ = y.count() / per_group_;
        const bool image = x.shape.size() == 3;  // whose rows may have borders
        grid_ = Grid{image ? x.shape[1] : pixels_, run_ * in_size_, image ? x.strides[0] * in_size_ : 0, per_group_ * size,
                     image ? y.strides[0] * size : 0};
        taps_.push_back(0);
    }
};

}  // namespace

OpPtr make_wide_conv(const Build& build, Attributes& attributes, const ConvWindow& window, std::int64_t groups,
                     std::int32_t pre_shift, const WideWeights& weights) {
    return std::make_unique<WideConv>(build, attributes, window, groups, pre_shift, weights);
}

OpPtr make_wide_linear(const Build& build, Attributes& attributes, std::int32_t pre_shift, const WideWeights& weights) {
    return std::make_unique<WideLinear>(build, attributes, pre_shift, weights);
}

}  // namespace subbyte
