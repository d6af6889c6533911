// Maximum and average pooling over height and width, channels last: rows of channels are reduced together.

#include <cstring>

#include "ops/ops.h"
#include "ops/window.h"

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

    // The window's cells that lie in the input.
    CellJob cells(const std::uint8_t* in, std::int64_t oy, std::int64_t ox) const {
        const Axis& ay = windows_.y;
        const Axis& ax = windows_.x;
        CellJob job{};
        job.in = in + (ay.start(oy) + ay.first(oy) * ay.dilation) * in_row_ +
                 (ax.start(ox) + ax.first(ox) * ax.dilation) * in_step_;
        job.row_step = ay.dilation * in_row_;
        job.rows = ay.last(oy) - ay.first(oy);
        job.cell_step = ax.dilation * in_step_;
        job.cells = ax.last(ox) - ax.first(ox);
        job.count = channels_;
        job.cell = in_size_ == 1 ? Cell::u8 : Cell::i16;
        return job;
    }

    const Kernels& kernels_;
    Windows windows_;
    std::int64_t channels_;
    std::int64_t in_size_ = 1, out_size_ = 1, in_row_ = 0, in_step_ = 0, out_row_ = 0, out_step_ = 0;
};

// Every step-th run of `bytes` bytes, one behind the other with the pitch of the result.
template <std::size_t BYTES>
void thin_out(const std::uint8_t* in, std::ptrdiff_t step, std::uint8_t* out, std::ptrdiff_t pitch, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i)
        std::memcpy(out + i * pitch, in + i * step, BYTES);
}

class MaxPool final : public Pool {
public:
    MaxPool(const Build& build, Attributes& a, const Windows& windows) : Pool(build, a, windows) {
        const std::int64_t width = windows.x.out();
        while (first_ < width && !whole(first_))
            ++first_;
        last_ = first_;
        while (last_ < width && whole(last_))
            ++last_;
    }

    void prepare(const std::vector<Layout>& values) override {
        Pool::prepare(values);
        const std::int64_t bytes = channels_ * in_size_;
        if (last_ - first_ < 2 || in_step_ != bytes) return;
        if (bytes == 4) thin_ = thin_out<4>;
        if (bytes == 8) thin_ = thin_out<8>;
        if (bytes == 16) thin_ = thin_out<16>;
        if (bytes == 32) thin_ = thin_out<32>;
        row_bytes_ = windows_.x.size * bytes + READ_SLACK;
        if (thin_ != nullptr) scratch_bytes = 2 * row_bytes_;
    }

    // A pixel of few channels leaves most of a vector empty. Then whole rows are taken, first down, then along at every
    // pixel, of which the stride keeps some.
    void run(const Frame& frame, Part part) const override {
        if (thin_ == nullptr) return Pool::run(frame, part);
        const std::uint8_t* in = frame.at(inputs[0]);
        for (std::int64_t oy = part.begin(windows_.y.out()); oy < part.end(windows_.y.out()); ++oy) {
            std::uint8_t* out = frame.at(output) + oy * out_row_;
            for (std::int64_t ox = 0; ox < first_; ++ox)
                window(in, out + ox * out_step_, oy, ox);
            row(in, out + first_ * out_step_, oy, frame.scratch(part.index));
            for (std::int64_t ox = last_; ox < windows_.x.out(); ++ox)
                window(in, out + ox * out_step_, oy, ox);
        }
    }

protected:
    void window(const std::uint8_t* in, std::uint8_t* out, std::int64_t oy, std::int64_t ox) const override {
        kernels_.largest_cells(cells(in, oy, ox), out);
    }

private:
    bool whole(std::int64_t ox) const { return windows_.x.last(ox) - windows_.x.first(ox) == windows_.x.kernel; }

    void row(const std::uint8_t* in, std::uint8_t* out, std::int64_t oy, std::uint8_t* scratch) const {
        const Axis& x = windows_.x;
        CellJob down = cells(in, oy, first_);
        CellJob along = down;
        down.cells = 1;
        down.count = ((last_ - first_ - 1) * x.stride + (x.kernel - 1) * x.dilation + 1) * channels_;
        kernels_.largest_cells(down, scratch);
        along.in = scratch;
        along.rows = 1;
        along.count = ((last_ - first_ - 1) * x.stride + 1) * channels_;
        kernels_.largest_cells(along, scratch + row_bytes_);
        thin_(scratch + row_bytes_, x.stride * in_step_, out, out_step_, last_ - first_);
    }

    std::int64_t first_ = 0;  // windows that lie wholly in the input's width
    std::int64_t last_ = 0;
    std::int64_t row_bytes_ = 0;
    void (*thin_)(const std::uint8_t*, std::ptrdiff_t, std::uint8_t*, std::ptrdiff_t, std::int64_t) = nullptr;
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
        in_zero_point_ = x.zero_point;
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
        for (std::size_t d = 0; d < m_.size(); ++d)
            fits_.push_back(result_fits(static_cast<double>(most * largest(x)) * m_[d], n_[d]));
    }

protected:
    void window(const std::uint8_t* in, std::uint8_t* out, std::int64_t oy, std::int64_t ox) const override {
        constexpr std::int64_t BLOCK = 256;
        const std::size_t d = index(oy, ox);
        for (std::int64_t c = 0; c < channels_; c += BLOCK) {
            const std::int64_t count = std::min(BLOCK, channels_ - c);
            std::int32_t sums[BLOCK];
            CellJob window = cells(in, oy, ox);
            window.in = static_cast<const std::uint8_t*>(window.in) + c * in_size_;
            window.count = count;
            kernels_.sum_cells(window, in_zero_point_, sums);
            RowJob job{};
            job.a = Operand{sums, 1, Cell::i32, 0};
            job.out = ResultRow{out + c * out_size_, wide_, zero_point_, lo_, hi_};
            job.count = count;
            job.m0 = m_[d];
            job.n = n_[d];
            job.fits = fits_[d];
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
    std::int32_t in_zero_point_ = 0, zero_point_ = 0, lo_ = 0, hi_ = 0;
    std::vector<std::int32_t> divisors_, m_, n_;
    std::vector<bool> fits_;
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
