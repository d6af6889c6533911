// Depthwise convolution: 3x3 windows with strides of 1 or 2 in whole rows, every other window pixel by pixel.

#include <algorithm>

#include "ops/conv_window.h"
#include "ops/products.h"
#include "ops/panels.h"

namespace subbyte {
namespace {

// Any window: taps are gathered four at a time.
class DepthwiseAny final : public Op {
public:
    DepthwiseAny(const Build& build, Attributes& attributes, const ConvWindow& window, const Weights& weights)
        : Op(build.spec),
          window_(window),
          kernels_(build.kernels),
          columns_(attributes, weights, attributes.in(0), 1, build.kernels,
                   natural_order(weights.columns(), build.kernels)),
          panels_(pack_depthwise(weights, build.kernels), build.kernels,
                  choose_packed(attributes, weights, build.packing == Packing::packed)) {
        work = attributes.out().count() * weights.depth();
        scratch_bytes = panels_.scratch_bytes();
        weight_bytes = panels_.bytes();
    }

    void request(std::vector<Layout>& values) const override { window_.request(values[inputs[0]]); }

    void prepare(const std::vector<Layout>& values) override {
        const Layout& x = values[inputs[0]];
        const Layout& y = values[output];
        const std::int64_t channels = x.shape[2];
        const std::int64_t size = storage_bytes(y.storage);
        first_ = window_.first(x);
        channels_ = static_cast<std::int32_t>(channels);
        grid_ = Grid{y.shape[1], window_.stride_w * channels, window_.stride_h * x.strides[0], channels * size,
                     y.strides[0] * size};
        pixels_ = y.shape[0] * y.shape[1];
        for (std::int64_t ky = 0; ky < window_.kernel_h; ++ky) {
            for (std::int64_t kx = 0; kx < window_.kernel_w; ++kx)
                taps_.push_back(static_cast<std::int32_t>(ky * window_.dilation_h * x.strides[0] +
                                                          kx * window_.dilation_w * channels));
        }
        while (taps_.size() % 4 != 0)
            taps_.push_back(taps_[0]);
    }

    void run(const Frame& frame, Part part) const override {
        DepthwiseJob job{};
        job.in = frame.at(inputs[0]) + first_;
        job.out = frame.at(output);
        job.grid = grid_;
        job.first = part.begin(pixels_);
        job.last = part.end(pixels_);
        if (job.first == job.last) return;
        job.taps = taps_.data();
        job.tap_count = static_cast<std::int32_t>(taps_.size());
        job.panels = panels_.unpacked(frame.scratch(part.index));
        job.columns = channels_;
        job.epilogue = columns_.group(0);
        kernels_.depthwise(job);
    }

private:
    ConvWindow window_;
    const Kernels& kernels_;
    Columns columns_;
    Panels panels_;
    std::int64_t first_ = 0;
    std::int64_t pixels_ = 0;
    std::int32_t channels_ = 0;
    Grid grid_{};
    std::vector<std::int32_t> taps_;
};

// How a row's bytes are cut into vectors of `bytes`.
std::vector<DepthwiseSegment> cut(int bytes, int channels, std::int64_t width, const ConvWindow& window) {
    // Neighbouring pixels that lie densely in input and result make one run of bytes.
    const auto pixels = static_cast<int>(std::min<std::int64_t>(bytes / channels, width));
    if (channels <= bytes / 2 && window.stride_w == 1) return {{0, channels, pixels, 1}};
    std::vector<DepthwiseSegment> segments;
    for (int first = 0; first < channels; first += bytes) {
        const int left = std::min(channels - first, bytes);
        int pieces = left <= bytes / 4 ? 4 : left <= bytes / 2 ? 2 : 1;
        while (pieces > width)
            pieces /= 2;
        segments.push_back({first, left, pieces, pieces});
    }
    return segments;
}

// The channel of every byte of a segment's vector, or -1, in the order in which interleaving rows leaves the dwords:
// quarter q, 128-bit lane l, dword i is byte 16 l + 4 q + i.
void order_lanes(const DepthwiseSegment& s, const Kernels& kernels, std::int32_t gap,
                 std::vector<std::int32_t>& order) {
    const int bytes = 4 * kernels.lanes;
    const int pitch = s.pieces > 1 ? bytes / s.pieces : s.channels;
    for (int quarter = 0; quarter < 4; ++quarter) {
        for (int lane = 0; lane < bytes / 4; ++lane) {
            const int byte = kernels.edges && s.pieces == 4 ? lane : lane / 4 * 16 + quarter * 4 + lane % 4;
            const bool used = byte / pitch < s.pixels && byte % pitch < s.channels;
            order.push_back(used ? s.channel + byte % pitch : gap);
        }
    }
}

// Channels by lane of all segments; one panel, so that one rule of rescaling holds for all.
Order lanes_of(const std::vector<DepthwiseSegment>& segments, std::int64_t channels, const Kernels& kernels) {
    Order order;
    for (const DepthwiseSegment& s : segments)
        order_lanes(s, kernels, static_cast<std::int32_t>(channels), order.columns);
    order.panels = {static_cast<int>(order.columns.size()) / kernels.lanes};
    return order;
}

// Whether every sum of products of one channel with numbers of low..high (low <= 0 <= high) fits int16, whatever their
// order.
bool sums_fit(const Weights& weights, std::int64_t low, std::int64_t high) {
    const auto depth = static_cast<std::size_t>(weights.depth());
    for (std::size_t first = 0; first < weights.numbers.size(); first += depth) {
        std::int64_t above = 0;
        std::int64_t below = 0;
        for (std::size_t k = first; k < first + depth; ++k) {
            above += std::max<std::int64_t>(weights.numbers[k], 0);
            below += std::min<std::int64_t>(weights.numbers[k], 0);
        }
        if (above * high + below * low > 32767 || above * low + below * high < -32768) return false;
    }
    return true;
}

class Depthwise3 final : public Op {
public:
    Depthwise3(const Build& build, Attributes& attributes, const ConvWindow& window, const Weights& weights)
        : Op(build.spec),
          window_(window),
          kernels_(build.kernels),
          segments_(cut(4 * kernels_.lanes, static_cast<std::int32_t>(attributes.out().shape[2]),
                        attributes.out().shape[1], window)),
          order_(lanes_of(segments_, weights.columns(), kernels_)),
          products_(prove_products(weights, attributes.in(0), build.kernels)),
          columns_(attributes, weights, attributes.in(0), 1, build.kernels, order_, products_.center),
          sums_fit_(sums_fit(weights, -products_.center,
                             std::max(attributes.in(0).hi, attributes.in(0).zero_point) - products_.center)) {
        const Layout& y = attributes.out();
        channels_ = static_cast<std::int32_t>(y.shape[2]);
        width_ = y.shape[1];
        height_ = y.shape[0];
        panels_ = Panels(lane_weights(weights), kernels_,
                         choose_packed(attributes, weights, build.packing == Packing::packed));
        work = y.count() * weights.depth();
        wide_macs = kernels_.sums_in_int16 && !sums_fit_ ? work : 0;
        scratch_bytes = panels_.scratch_bytes();
        weight_bytes = panels_.bytes();
    }

    // An input that the caller gives need not be copied into a buffer with a border.
    bool reads_exactly(const std::vector<Layout>& values) const override {
        const Layout& x = values[inputs[0]];
        const bool whole = std::all_of(segments_.begin(), segments_.end(), [](const DepthwiseSegment& s) {
            return s.channels * s.pieces == 64 && (s.pieces == 4 || s.pixels == 1);
        });
        return kernels_.edges && x.given && whole && window_.left <= 1 && beyond(x) <= 1;
    }

    void request(std::vector<Layout>& values) const override {
        if (!reads_exactly(values)) window_.request(values[inputs[0]]);
    }

    void prepare(const std::vector<Layout>& values) override {
        const Layout& x = values[inputs[0]];
        const Layout& y = values[output];
        in_row_ = x.strides[0];
        out_row_ = y.strides[0] * storage_bytes(y.storage);
        if (reads_exactly(values)) {
            border_row_.assign(static_cast<std::size_t>(in_row_), static_cast<std::uint8_t>(x.zero_point));
            edges_ = {border_row_.data(), 0, x.shape[0], border_row_[0], window_.left == 1, beyond(x) == 1};
        } else {
            first_ = window_.first(x);
        }
    }

    void run(const Frame& frame, Part part) const override {
        const std::int64_t begin = part.begin(height_);
        Depthwise3Job job{};
        job.rows = part.end(height_) - begin;
        if (job.rows == 0) return;
        job.in = frame.at(inputs[0]);
        job.edges = edges_;
        if (edges_.row != nullptr) {
            job.edges.first = begin * window_.stride_h - window_.top;
        } else {
            job.in += first_ + begin * window_.stride_h * in_row_;
        }
        job.out = frame.at(output) + begin * out_row_;
        job.in_row = in_row_;
        job.out_row = out_row_;
        job.width = width_;
        job.channels = channels_;
        job.stride_y = static_cast<std::int32_t>(window_.stride_h);
        job.stride_x = static_cast<std::int32_t>(window_.stride_w);
        job.segments = segments_.data();
        job.segment_count = static_cast<std::int32_t>(segments_.size());
        job.weights = panels_.unpacked(frame.scratch(part.index));
        job.sums_fit = sums_fit_;
        job.products = products_;
        job.epilogue = columns_.group(0);
        kernels_.depthwise3(job);
    }

private:
    // Columns of the last window that are beyond the image.
    std::int64_t beyond(const Layout& x) const {
        return std::max<std::int64_t>((width_ - 1) * window_.stride_w + 3 - window_.left - x.shape[1], 0);
    }

    // [segment][upper, lower row][kernel column][byte of the vector in lane order][4 rows]
    std::vector<std::int8_t> lane_weights(const Weights& weights) const {
        const std::vector<std::int32_t>& order = order_.columns;
        const auto bytes = static_cast<std::size_t>(4 * kernels_.lanes);
        std::vector<std::int8_t> packed(order.size() * 24);
        for (std::size_t i = 0; i < order.size(); ++i) {
            if (order[i] >= channels_) continue;
            const std::int8_t* w = weights.numbers.data() + std::ptrdiff_t{order[i]} * 9;
            for (std::size_t lower = 0; lower < 2; ++lower) {
                for (std::size_t kx = 0; kx < 3; ++kx) {
                    std::int8_t* four =
                        packed.data() + (((i / bytes * 2 + lower) * 3 + kx) * bytes + i % bytes) * 4 + lower;
                    for (std::size_t ky = 0; ky < 3; ++ky)
                        four[ky] = w[ky * 3 + kx];
                }
            }
        }
        return packed;
    }

    ConvWindow window_;
    const Kernels& kernels_;
    std::vector<DepthwiseSegment> segments_;
    Order order_;
    Products products_;
    Columns columns_;
    bool sums_fit_;
    std::int32_t channels_ = 0;
    std::int64_t width_ = 0, height_ = 0, first_ = 0, in_row_ = 0, out_row_ = 0;
    Panels panels_;
    DepthwiseEdges edges_{};
    std::vector<std::uint8_t> border_row_;
};

}  // namespace

OpPtr make_depthwise(const Build& build, Attributes& attributes, const ConvWindow& w, const Weights& weights) {
    const bool small = w.kernel_h == 3 && w.kernel_w == 3 && w.dilation_h == 1 && w.dilation_w == 1 &&
                       w.stride_h <= 2 && w.stride_w <= 2;
    const bool rows = small && build.kernels.depthwise3 != nullptr;
    std::vector<std::string> ways = {"pixels"};
    if (rows) ways.push_back("rows");
    if (attributes.choose("depthwise", ways, ways.back()) == "rows")
        return std::make_unique<Depthwise3>(build, attributes, w, weights);
    return std::make_unique<DepthwiseAny>(build, attributes, w, weights);
}

}  // namespace subbyte
