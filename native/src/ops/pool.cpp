// Maximum and average pooling over height and width, channels last: rows of channels are reduced together.

#include <cstring>

#include "ops/ops.h"
#include "ops/window.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace {

struct Windows {
    Axis y, x;
};

Windows read_windows(Attributes& a, bool dilated) {
    a.arity(1, 1);
    const Layout& in = a.in(0);
    if (in.shape.size() != 3) a.fail("the input has shape " + text(in.shape) + ", not [height, width, channels]");
    const Dims kernel = a.list("kernel", 2, 1, MOST_CELLS);
    const Dims stride = a.list("stride", 2, 1, MOST_CELLS);
    const Dims padding = a.list("padding", 4, 0, MOST_CELLS);
    const Dims dilation = dilated ? a.list("dilation", 2, 1, MOST_CELLS) : Dims{1, 1};
    const bool ceil_mode = a.flag("ceil_mode");
    const Windows w{{in.shape[0], kernel[0], stride[0], dilation[0], padding[0], padding[2], ceil_mode},
                    {in.shape[1], kernel[1], stride[1], dilation[1], padding[1], padding[3], ceil_mode}};
    if (w.y.out() < 1 || w.x.out() < 1) a.fail("the window does not fit the padded input");
    a.result({w.y.out(), w.x.out(), in.shape[2]});
    for (const Axis& axis : {w.y, w.x}) {
        for (std::int64_t i = 0; i < axis.out(); ++i) {
            if (axis.inside(i) < 1) a.fail("a window meets padding only");
        }
    }
    return w;
}

class Pool : public Op {
public:
    Pool(const Build& build, Attributes& a, const Windows& windows)
        : Op(build.spec), kernels_(build.kernels), windows_(windows), channels_(a.in(0).shape[2]) {
        work = a.out().count() * windows.y.kernel * windows.x.kernel;
    }

    void prepare(const std::vector<Layout>& values) override {
        const Layout& x = values[inputs[0]];
        const Layout& y = values[output];
        in_size_ = storage_bytes(x.storage);
        out_size_ = storage_bytes(y.storage);
        in_row_ = x.strides[0] * in_size_;
        in_step_ = x.strides[1] * in_size_;
        out_row_ = y.strides[0] * out_size_;
        out_step_ = y.strides[1] * out_size_;
    }

    void run(const Frame& frame, Part part) const override {
        const std::int64_t height = windows_.y.out();
        const std::int64_t width = windows_.x.out();
        for (std::int64_t oy = part.begin(height); oy < part.end(height); ++oy) {
            for (std::int64_t ox = 0; ox < width; ++ox)
                window(frame.at(inputs[0]), frame.at(output) + oy * out_row_ + ox * out_step_, oy, ox);
        }
    }

protected:
    virtual void window(const std::uint8_t* in, std::uint8_t* out, std::int64_t oy, std::int64_t ox) const = 0;

    // Call f(address) for every cell of the window that lies in the input.
    template <class F>
    void cells(const std::uint8_t* in, std::int64_t oy, std::int64_t ox, F&& f) const {
        const Axis& ay = windows_.y;
        const Axis& ax = windows_.x;
        for (std::int64_t ky = ay.first(oy); ky < ay.last(oy); ++ky) {
            const std::uint8_t* row = in + (ay.start(oy) + ky * ay.dilation) * in_row_;
            for (std::int64_t kx = ax.first(ox); kx < ax.last(ox); ++kx)
                f(row + (ax.start(ox) + kx * ax.dilation) * in_step_);
        }
    }

    const Kernels& kernels_;
    Windows windows_;
    std::int64_t channels_;
    std::int64_t in_size_ = 1, out_size_ = 1, in_row_ = 0, in_step_ = 0, out_row_ = 0, out_step_ = 0;
};

class MaxPool final : public Pool {
public:
    using Pool::Pool;

protected:
    void window(const std::uint8_t* in, std::uint8_t* out, std::int64_t oy, std::int64_t ox) const override {
        bool first = true;
        cells(in, oy, ox, [&](const std::uint8_t* cell) {
            if (first) {
                std::memcpy(out, cell, static_cast<std::size_t>(channels_ * in_size_));
            } else if (in_size_ == 1) {
                kernels_.max8(cell, out, channels_);
            } else {
                kernels_.max16(reinterpret_cast<const std::int16_t*>(cell), reinterpret_cast<std::int16_t*>(out),
                               channels_);
            }
            first = false;
        });
    }
};

class AvgPool final : public Pool {
public:
    AvgPool(const Build& build, Attributes& a, const Windows& windows)
        : Pool(build, a, windows), count_padding_(a.flag("count_include_pad")) {
        const Layout& x = a.in(0);
        const Layout& y = a.out();
        a.clamp(lo_, hi_);
        const auto count = static_cast<std::int64_t>(
            build.spec.arrays.count("divisors") ? a.array("divisors", Storage::i32).shape[0] : 0);
        divisors_ = a.int32s("divisors", count, 1, INT32_HI);
        m_ = a.int32s("m", count, INT32_LO, INT32_HI);
        n_ = a.int32s("n", count, 1, 62);
        source_ = Operand{nullptr, 1, x.storage == Storage::u8 ? Cell::u8 : Cell::i16, x.zero_point};
        wide_ = y.storage == Storage::i16;
        zero_point_ = y.zero_point;
        std::int64_t most = 0;
        for (std::int64_t oy = 0; oy < windows.y.out(); ++oy) {
            for (std::int64_t ox = 0; ox < windows.x.out(); ++ox) {
                most = std::max(most, windows.y.inside(oy) * windows.x.inside(ox));
                if (index(oy, ox) == divisors_.size())
                    a.fail("no multiplier for the divisor " + std::to_string(divisor(oy, ox)));
            }
        }
        if (most * largest(x) > INT32_HI) a.fail("the sum of a window may exceed 2^31 - 1");
    }

protected:
    void window(const std::uint8_t* in, std::uint8_t* out, std::int64_t oy, std::int64_t ox) const override {
        constexpr std::int64_t BLOCK = 256;
        const std::size_t d = index(oy, ox);
        for (std::int64_t c = 0; c < channels_; c += BLOCK) {
            const std::int64_t count = std::min(BLOCK, channels_ - c);
            std::int32_t sums[BLOCK] = {};
            cells(in, oy, ox, [&](const std::uint8_t* cell) {
                Operand x = source_;
                x.data = cell + c * in_size_;
                kernels_.accumulate(x, sums, count);
            });
            Operand sum{sums, 1, Cell::i32, 0};
            RowJob job{};
            job.a = sum;
            job.out = ResultRow{out + c * out_size_, wide_, zero_point_, lo_, hi_};
            job.count = count;
            job.m0 = m_[d];
            job.n = n_[d];
            kernels_.rescale(job);
        }
    }

private:
    std::int64_t divisor(std::int64_t oy, std::int64_t ox) const {
        return count_padding_ ? windows_.y.padded(oy) * windows_.x.padded(ox)
                              : windows_.y.inside(oy) * windows_.x.inside(ox);
    }

    std::size_t index(std::int64_t oy, std::int64_t ox) const {
        return static_cast<std::size_t>(std::find(divisors_.begin(), divisors_.end(), divisor(oy, ox)) -
                                        divisors_.begin());
    }

    bool count_padding_;
    bool wide_ = false;
    std::int32_t zero_point_ = 0, lo_ = 0, hi_ = 0;
    Operand source_{};
    std::vector<std::int32_t> divisors_, m_, n_;
};

}  // namespace

OpPtr make_max_pool(const Build& build) {
    Attributes a(build.spec, build.values);
    const Windows windows = read_windows(a, true);
    if (!a.flag("channels_last")) a.fail("channels must be last");
    a.moved();
    auto op = std::make_unique<MaxPool>(build, a, windows);
    a.done();
    return op;
}

OpPtr make_avg_pool(const Build& build) {
    Attributes a(build.spec, build.values);
    const Windows windows = read_windows(a, false);
    auto op = std::make_unique<AvgPool>(build, a, windows);
    a.done();
    return op;
}

}  // namespace subbyte
