// Mean over axes, and the index of the largest along one.

#include <algorithm>

#include "ops/ops.h"
#include "walk.h"

namespace subbyte {
namespace {

// The axes of an operand split into those that stay, walked beside the result, and those that are reduced.
struct Split {
    Dims kept, kept_in, kept_out, reduced, reduced_in;
    Dims result;  // declared shape
};

Split split(const Layout& x, const Layout& y, const std::vector<bool>& reduce, bool keepdims) {
    Split s;
    for (std::size_t d = 0; d < x.shape.size(); ++d) {
        const std::int64_t in = x.strides.empty() ? 0 : x.strides[d];
        if (reduce[d]) {
            s.reduced.push_back(x.shape[d]);
            s.reduced_in.push_back(in);
            if (keepdims) s.result.push_back(1);
        } else {
            const std::size_t at = keepdims ? d : s.kept.size();
            s.kept.push_back(x.shape[d]);
            s.kept_in.push_back(in);
            s.kept_out.push_back(y.strides.empty() ? 0 : y.strides[at]);
            s.result.push_back(x.shape[d]);
        }
    }
    return s;
}

class Mean final : public Op {
public:
    Mean(const Build& build, Attributes& a) : Op(build.spec), kernels_(build.kernels), keepdims_(a.flag("keepdims")) {
        const Layout& x = a.in(0);
        reduce_.assign(x.shape.size(), false);
        for (const std::int64_t axis : a.any_list("axes")) {
            if (axis < 1 || axis > static_cast<std::int64_t>(x.shape.size()))
                a.fail("axis " + std::to_string(axis) + " does not exist");
            if (reduce_[static_cast<std::size_t>(axis - 1)]) a.fail("axis " + std::to_string(axis) + " is named twice");
            reduce_[static_cast<std::size_t>(axis - 1)] = true;
        }
        const Split s = split(x, a.out(), reduce_, keepdims_);
        a.result(s.result);
        if (product(s.reduced, "mean") * largest(x) > INT32_HI) a.fail("the sum may exceed 2^31 - 1");
        result_ = ResultRow{nullptr, a.out().storage == Storage::i16, a.out().zero_point, 0, 0};
        a.clamp(result_.lo, result_.hi);
        m_ = static_cast<std::int32_t>(a.one("m", INT32_LO, INT32_HI));
        n_ = static_cast<std::int32_t>(a.one("n", 1, 62));
        zero_point_ = x.zero_point;
        fits_ = result_fits(static_cast<double>(product(s.reduced, "mean") * largest(x)) * m_, n_);
        work = x.count();
    }

    void prepare(const std::vector<Layout>& values) override {
        const Layout& x = values[inputs[0]];
        const Layout& y = values[output];
        const Split s = split(x, y, reduce_, keepdims_);
        kept_ = Walk<2>(s.kept, {s.kept_in, s.kept_out});
        cells_ = Walk<1>(s.reduced, {s.reduced_in}, false);
        in_size_ = storage_bytes(x.storage);
        out_size_ = storage_bytes(y.storage);
    }

    void run(const Frame& frame, Part part) const override {
        const std::uint8_t* x = frame.at(inputs[0]);
        std::uint8_t* y = frame.at(output);
        kept_.each(part, [&](const Walk<2>::Offsets& at, std::int64_t count) {
            for (std::int64_t c = 0; c < count; c += BLOCK) {
                // A row's steps are 1, or it has one number.
                block(x + (at[0] + c) * in_size_, y + (at[1] + c) * out_size_, std::min(BLOCK, count - c));
            }
        });
    }

private:
    static constexpr std::int64_t BLOCK = 256;

    void block(const std::uint8_t* x, std::uint8_t* y, std::int64_t count) const {
        std::int32_t sums[BLOCK] = {};
        CellJob row{};
        row.rows = 1;
        row.cell_step = cells_.step(0) * in_size_;
        row.count = count;
        row.cell = in_size_ == 1 ? Cell::u8 : Cell::i16;
        bool first = true;
        cells_.each(Part{}, [&](const Walk<1>::Offsets& at, std::int64_t cells) {
            std::int32_t more[BLOCK];
            row.in = x + at[0] * in_size_;
            row.cells = cells;
            kernels_.sum_cells(row, zero_point_, first ? sums : more);
            for (std::int64_t i = 0; i < count && !first; ++i)
                sums[i] += more[i];
            first = false;
        });
        RowJob job{};
        job.a = Operand{sums, 1, Cell::i32, 0};
        job.out = result_;
        job.out.data = y;
        job.count = count;
        job.m0 = m_;
        job.n = n_;
        job.fits = fits_;
        kernels_.rescale(job);
    }

    const Kernels& kernels_;
    bool keepdims_;
    std::vector<bool> reduce_;
    ResultRow result_{};
    std::int32_t zero_point_ = 0, m_ = 0, n_ = 1;
    bool fits_ = false;
    std::int64_t in_size_ = 1, out_size_ = 1;
    Walk<2> kept_;
    Walk<1> cells_;
};

class Argmax final : public Op {
public:
    Argmax(const Build& build, Attributes& a) : Op(build.spec), keepdims_(a.flag("keepdims")), axis_(a.axis("axis")) {
        const Layout& x = a.in(0);
        const Layout& y = a.out();
        std::vector<bool> reduce(x.shape.size(), false);
        reduce[axis_] = true;
        a.result(split(x, y, reduce, keepdims_).result);
        if (y.storage != Storage::i16 || y.zero_point != 0 || y.lo > 0 || x.shape[axis_] - 1 > y.hi)
            a.fail("the result must be int16 with zero point 0 and hold every index");
        work = x.count();
    }

    void prepare(const std::vector<Layout>& values) override {
        const Layout& x = values[inputs[0]];
        std::vector<bool> reduce(x.shape.size(), false);
        reduce[axis_] = true;
        const Split s = split(x, values[output], reduce, keepdims_);
        kept_ = Walk<2>(s.kept, {s.kept_in, s.kept_out});
        wide_ = x.storage == Storage::i16;
        count_ = x.shape[axis_];
        step_ = x.strides[axis_];
    }

    void run(const Frame& frame, Part part) const override {
        const std::uint8_t* x = frame.at(inputs[0]);
        auto* y = reinterpret_cast<std::int16_t*>(frame.at(output));
        kept_.each(part, [&](const Walk<2>::Offsets& at, std::int64_t count) {
            for (std::int64_t i = 0; i < count; ++i)
                y[at[1] + i] = wide_ ? first_largest(reinterpret_cast<const std::int16_t*>(x) + at[0] + i)
                                     : first_largest(x + at[0] + i);
        });
    }

private:
    template <class T>
    std::int16_t first_largest(const T* x) const {
        // Without branches: which number is the largest is not to be predicted.
        T most = x[0];
        for (std::int64_t i = 1; i < count_; ++i)
            most = std::max(most, x[i * step_]);
        std::int64_t first = 0;
        while (x[first * step_] != most)
            ++first;
        return static_cast<std::int16_t>(first);
    }

    bool keepdims_;
    std::size_t axis_;
    bool wide_ = false;
    std::int64_t count_ = 1, step_ = 1;
    Walk<2> kept_;
};

}  // namespace

OpPtr make_mean(const Build& build) {
    Attributes a(build.spec, build.values);
    a.arity(1, 1);
    auto op = std::make_unique<Mean>(build, a);
    a.done();
    return op;
}

OpPtr make_argmax(const Build& build) {
    Attributes a(build.spec, build.values);
    a.arity(1, 1);
    auto op = std::make_unique<Argmax>(build, a);
    a.done();
    return op;
}

}  // namespace subbyte
