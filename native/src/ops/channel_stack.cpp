// Convolutions that stay within their channel, one behind the other in int32, renormalised together at the end. The
// formula is that of graph/ops/channel_stack.py.
//
// Channels go through all stages in blocks of LANES, numbers of a pixel side by side, so that loops over them become
// vectors; a stage overwrites what the one before left, as results lie in front of what is still read.

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "ops/ops.h"
#include "ops/scaleless.h"

namespace subbyte {
namespace {

constexpr std::size_t LANES = 16;
constexpr std::size_t MOST_STAGES = 16;
constexpr std::int64_t MOST_SIDE = 255;  // int16 weights of a window, all of a sign, then sum up to 2^31 at most

struct Stage {
    std::int64_t kernel, shift, pool;
    std::int64_t width;                    // of what it reads
    std::int64_t sum_rows, sum_columns;    // of its sums
    std::int64_t left_rows, left_columns;  // behind the maxima
    std::int64_t first;                    // of its weights in a row
};

class ChannelStack final : public Op {
public:
    ChannelStack(const Build& build, Attributes& a)
        : Op(build.spec), hi_(static_cast<std::int32_t>(a.one("hi", 1, 32767))) {
        const Layout& x = a.in(0);
        if (x.shape.size() != 2) a.fail("the input has shape " + text(x.shape) + ", not [height, width]");
        Dims shape;
        const std::vector<std::int16_t> weights = read_scaleless(a, shape);
        read_stages(a, x, shape);
        channels_ = shape[0];
        zero_point_ = x.zero_point;
        cells_ = stages_.back().left_rows * stages_.back().left_columns;
        a.result({product({channels_, cells_}, "the result")});
        check_renormalised(a, hi_);
        prove(a, weights);
        place(weights);
    }

    bool reads_exactly(const std::vector<Layout>& /*values*/) const override { return true; }

    void prepare(const std::vector<Layout>& values) override {
        const Layout& x = values[inputs[0]];
        rows_ = x.shape[0];
        row_step_ = x.strides[0];
        column_step_ = x.strides[1];
        wide_in_ = x.storage == Storage::i16;
        wide_out_ = values[output].storage == Storage::i16;
        out_step_ = values[output].strides.back();
        scratch_bytes = (rows_ * stages_[0].width + most_sums_ * std::int64_t{LANES} + channels_ * cells_) *
                        static_cast<std::int64_t>(sizeof(std::int32_t));
    }

    // The largest number of all channels decides, so all of them are one part's.
    void run(const Frame& frame, Part part) const override {
        if (part.index != 0) return;
        auto* image = reinterpret_cast<std::int32_t*>(frame.scratch(0));
        std::int32_t* plane = image + rows_ * stages_[0].width;
        std::int32_t* left = plane + most_sums_ * std::int64_t{LANES};
        wide_in_ ? centre(reinterpret_cast<const std::int16_t*>(frame.at(inputs[0])), image)
                 : centre(frame.at(inputs[0]), image);
        for (std::int64_t c = 0; c < channels_; c += LANES) {
            const std::int32_t* weights = weights_.data() + c * depth_;
            for (const Stage& stage : stages_) {
                const std::int32_t* window = weights + stage.first * std::int64_t{LANES};
                &stage == stages_.data() ? convolve<1>(stage, image, window, plane)
                                         : convolve<LANES>(stage, plane, window, plane);
                if (stage.pool > 1) keep_largest(stage, plane);
            }
            const std::int64_t count = std::min<std::int64_t>(LANES, channels_ - c);
            for (std::int64_t i = 0; i < count; ++i) {
                for (std::int64_t p = 0; p < cells_; ++p)
                    left[(c + i) * cells_ + p] = plane[p * std::int64_t{LANES} + i];
            }
        }
        std::uint8_t* y = frame.at(output);
        wide_out_ ? renormalise(left, channels_ * cells_, hi_, reinterpret_cast<std::int16_t*>(y), out_step_)
                  : renormalise(left, channels_ * cells_, hi_, y, out_step_);
    }

private:
    void read_stages(Attributes& a, const Layout& x, const Dims& weight) {
        const Dims kernels = a.any_list("kernels");
        const std::size_t count = kernels.size();
        if (count < 1 || count > MOST_STAGES) a.fail(std::to_string(count) + " stages");
        const Dims shifts = a.list("shifts", count, 0, 31);
        const Dims pools = a.list("pools", count, 1, MOST_SIDE);
        Stage last{};
        last.left_rows = x.shape[0];
        last.left_columns = x.shape[1];
        for (std::size_t i = 0; i < count; ++i) {
            if (kernels[i] < 1 || kernels[i] > MOST_SIDE) a.fail("a window of " + std::to_string(kernels[i]));
            Stage s{};
            s.kernel = kernels[i];
            s.shift = shifts[i];
            s.pool = pools[i];
            s.width = last.left_columns;
            s.sum_rows = last.left_rows - s.kernel + 1;
            s.sum_columns = last.left_columns - s.kernel + 1;
            if (s.sum_rows < s.pool || s.sum_columns < s.pool) a.fail("nothing is left of a stage");
            s.left_rows = s.sum_rows / s.pool;
            s.left_columns = s.sum_columns / s.pool;
            s.first = depth_;
            depth_ += s.kernel * s.kernel;
            const std::int64_t sums = product({s.sum_rows, s.sum_columns, weight[0]}, "a stage") / weight[0];
            most_sums_ = std::max(most_sums_, sums);
            work += sums * s.kernel * s.kernel * weight[0];
            stages_.push_back(s);
            last = s;
        }
        if (depth_ != weight[1]) a.fail("weight " + text(weight) + " is not " + std::to_string(depth_) + " per channel");
    }

    // No sum, nor a part of it, leaves int32: of each channel numbers are 0..hi behind the first stage.
    void prove(const Attributes& a, const std::vector<std::int16_t>& weights) const {
        const Layout& x = a.in(0);
        for (std::int64_t c = 0; c < channels_; ++c) {
            std::int64_t lo = std::min<std::int64_t>(std::int64_t{x.lo} - x.zero_point, 0);
            std::int64_t hi = std::max<std::int64_t>(std::int64_t{x.hi} - x.zero_point, 0);
            for (const Stage& s : stages_) {
                const auto from = weights.begin() + c * depth_ + s.first;
                std::int64_t above = 0, below = 0;  // sums of weights of either sign, together at most 2^31
                for (auto w = from; w != from + s.kernel * s.kernel; ++w)
                    (*w > 0 ? above : below) += *w;
                const std::int64_t most = above * hi + below * lo;
                if (most > INT32_HI || below * hi + above * lo < -INT32_HI)
                    a.fail("a sum of channel " + std::to_string(c) + " may exceed 2^31 - 1");
                lo = 0;
                hi = most >> s.shift;
            }
        }
    }

    // [block of channels][window][lane], zeros in lanes behind the last channel.
    void place(const std::vector<std::int16_t>& weights) {
        const std::int64_t blocks = (channels_ + std::int64_t{LANES} - 1) / std::int64_t{LANES};
        weights_.resize(static_cast<std::size_t>(blocks * depth_) * LANES);
        for (std::int64_t c = 0; c < channels_; ++c) {
            std::int32_t* block = weights_.data() + c / std::int64_t{LANES} * depth_ * std::int64_t{LANES};
            for (std::int64_t k = 0; k < depth_; ++k)
                block[k * std::int64_t{LANES} + c % std::int64_t{LANES}] = weights[static_cast<std::size_t>(c * depth_ + k)];
        }
        weight_bytes = static_cast<std::int64_t>(weights_.size() * sizeof(std::int32_t));
    }

    template <class T>
    void centre(const T* x, std::int32_t* image) const {
        for (std::int64_t i = 0; i < rows_; ++i) {
            for (std::int64_t j = 0; j < stages_[0].width; ++j)
                *image++ = x[i * row_step_ + j * column_step_] - zero_point_;
        }
    }

    // A pixel of `in` holds WIDE numbers: one for all channels, or one of each.
    template <std::size_t WIDE>
    static void convolve(const Stage& s, const std::int32_t* in, const std::int32_t* window, std::int32_t* out) {
        for (std::int64_t i = 0; i < s.sum_rows; ++i) {
            for (std::int64_t j = 0; j < s.sum_columns; ++j) {
                std::int32_t sums[LANES] = {};
                const std::int32_t* w = window;
                for (std::int64_t ky = 0; ky < s.kernel; ++ky) {
                    const std::int32_t* x = in + ((i + ky) * s.width + j) * std::int64_t{WIDE};
                    for (std::int64_t kx = 0; kx < s.kernel; ++kx, x += WIDE, w += LANES) {
                        for (std::size_t l = 0; l < LANES; ++l)
                            sums[l] += x[WIDE == 1 ? 0 : l] * w[l];
                    }
                }
                for (std::size_t l = 0; l < LANES; ++l)
                    out[l] = std::max(sums[l], 0) >> s.shift;
                out += LANES;
            }
        }
    }

    static void keep_largest(const Stage& s, std::int32_t* plane) {
        std::int32_t* out = plane;
        for (std::int64_t i = 0; i < s.left_rows; ++i) {
            for (std::int64_t j = 0; j < s.left_columns; ++j) {
                std::int32_t most[LANES] = {};  // nothing is negative
                for (std::int64_t ky = 0; ky < s.pool; ++ky) {
                    const std::int64_t pixel = (i * s.pool + ky) * s.sum_columns + j * s.pool;
                    const std::int32_t* x = plane + pixel * std::int64_t{LANES};
                    for (std::size_t n = 0; n < static_cast<std::size_t>(s.pool) * LANES; n += LANES) {
                        for (std::size_t l = 0; l < LANES; ++l)
                            most[l] = std::max(most[l], x[n + l]);
                    }
                }
                std::memcpy(out, most, sizeof most);
                out += LANES;
            }
        }
    }

    std::int32_t hi_;
    std::vector<Stage> stages_;
    std::vector<std::int32_t> weights_;
    std::int64_t channels_ = 0, depth_ = 0;
    std::int64_t cells_ = 0;      // left of each channel
    std::int64_t most_sums_ = 0;  // of a channel in any stage
    std::int32_t zero_point_ = 0;
    // Known after prepare:
    std::int64_t rows_ = 0, row_step_ = 0, column_step_ = 1, out_step_ = 1;
    bool wide_in_ = false, wide_out_ = false;
};

}  // namespace

OpPtr make_channel_stack(const Build& build) {
    Attributes a(build.spec, build.values);
    a.arity(1, 1);
    auto op = std::make_unique<ChannelStack>(build, a);
    a.done();
    return op;
}

}  // namespace subbyte
