// Linear layers without bias, for nets without scales: results shortened by as many bits as the sample's largest
// accumulator asks, and the position of the largest accumulator. The formulas are those of graph/ops/linear_norm.py.
//
// Weights are kept as int16: 128 of FP1.3.0 is no int8. Such nets are small, so there is one plain loop for all
// instruction sets, which the compiler makes vectors of.

#include <algorithm>
#include <string>
#include <vector>

#include "ops/ops.h"
#include "ops/scaleless.h"
#include "walk.h"

namespace subbyte {
namespace {

class WideLinear : public Op {
public:
    WideLinear(const Build& build, Attributes& a) : Op(build.spec) {
        const Layout& x = a.in(0);
        Dims shape;
        weights_ = read_scaleless(a, shape);
        if (x.shape.empty() || x.shape.back() != shape[1]) a.fail("weight " + text(shape) + " does not fit " + text(x.shape));
        columns_ = shape[0];
        depth_ = shape[1];
        zero_point_ = x.zero_point;
        prove(a);
        weight_bytes = static_cast<std::int64_t>(weights_.size() * sizeof(std::int16_t));
        work = x.count() * columns_;
    }

    bool reads_exactly(const std::vector<Layout>& /*values*/) const override { return true; }

    void prepare(const std::vector<Layout>& values) override {
        const Layout& x = values[inputs[0]];
        const Layout& y = values[output];
        const auto leading = [](Dims dims, std::size_t count) {
            dims.resize(count);
            return dims;
        };
        const std::size_t axes = x.shape.size() - 1;
        rows_ = Walk<2>(leading(x.shape, axes), {leading(x.strides, axes), leading(y.strides, axes)}, false);
        wide_ = x.storage == Storage::i16;
        step_ = x.strides.back();
        scratch_bytes = columns_ * static_cast<std::int64_t>(sizeof(std::int32_t)) +
                        depth_ * static_cast<std::int64_t>(sizeof(std::int32_t));
    }

    void run(const Frame& frame, Part part) const override {
        const std::uint8_t* x = frame.at(inputs[0]);
        std::uint8_t* y = frame.at(output);
        auto* acc = reinterpret_cast<std::int32_t*>(frame.scratch(part.index));
        rows_.each(part, [&](const Walk<2>::Offsets& at, std::int64_t count) {
            for (std::int64_t r = 0; r < count; ++r) {
                const std::int64_t from = at[0] + r * rows_.step(0);
                if (wide_) {
                    multiply(reinterpret_cast<const std::int16_t*>(x) + from, acc);
                } else {
                    multiply(x + from, acc);
                }
                answer(acc, y, at[1] + r * rows_.step(1));
            }
        });
    }

protected:
    // The accumulators of one row, and where its result lies, in numbers.
    virtual void answer(const std::int32_t* acc, std::uint8_t* y, std::int64_t at) const = 0;

    std::int64_t columns_ = 0;

private:
    void prove(const Attributes& a) const {
        for (std::int64_t c = 0; c < columns_; ++c) {
            std::int64_t above = 0, below = 0;  // sums of weights of either sign, at most 2^31 * 2^15
            for (std::int64_t k = 0; k < depth_; ++k) {
                const std::int64_t number = weights_[static_cast<std::size_t>(c * depth_ + k)];
                (number > 0 ? above : below) += number;
            }
            if (leaves_int32(above, below, a.in(0)))
                a.fail("the accumulator of column " + std::to_string(c) + " may exceed 2^31 - 1");
        }
    }

    // Whether a sum, or any part of it, of such weights may: activations at one end meet all weights of one sign.
    static bool leaves_int32(std::int64_t above, std::int64_t below, const Layout& x) {
        const std::int64_t lo = std::min<std::int64_t>(std::int64_t{x.lo} - x.zero_point, 0);
        const std::int64_t hi = std::max<std::int64_t>(std::int64_t{x.hi} - x.zero_point, 0);
        if (lo == hi) return false;
        if (above > INT32_HI || below < -INT32_HI) return true;
        return above * hi + below * lo > INT32_HI || above * lo + below * hi < -INT32_HI;
    }

    template <class T>
    void multiply(const T* x, std::int32_t* acc) const {
        std::int32_t* centred = acc + columns_;
        for (std::int64_t k = 0; k < depth_; ++k)
            centred[k] = x[k * step_] - zero_point_;
        for (std::int64_t c = 0; c < columns_; ++c) {
            const std::int16_t* w = weights_.data() + c * depth_;
            std::int32_t sum = 0;
            for (std::int64_t k = 0; k < depth_; ++k)
                sum += w[k] * centred[k];
            acc[c] = sum;
        }
    }

    std::vector<std::int16_t> weights_;
    std::int64_t depth_ = 0, step_ = 1;
    std::int32_t zero_point_ = 0;
    bool wide_ = false;
    Walk<2> rows_;
};

class LinearNorm final : public WideLinear {
public:
    LinearNorm(const Build& build, Attributes& a)
        : WideLinear(build, a), hi_(static_cast<std::int32_t>(a.one("hi", 1, 32767))) {
        Dims shape = a.in(0).shape;
        shape.back() = columns_;
        a.result(shape);
        check_renormalised(a, hi_);
    }

    void prepare(const std::vector<Layout>& values) override {
        WideLinear::prepare(values);
        wide_out_ = values[output].storage == Storage::i16;
        out_step_ = values[output].strides.back();
    }

private:
    void answer(const std::int32_t* acc, std::uint8_t* y, std::int64_t at) const override {
        if (wide_out_) {
            renormalise(acc, columns_, hi_, reinterpret_cast<std::int16_t*>(y) + at, out_step_);
        } else {
            renormalise(acc, columns_, hi_, y + at, out_step_);
        }
    }

    std::int32_t hi_;
    bool wide_out_ = false;
    std::int64_t out_step_ = 1;
};

class LinearArgmax final : public WideLinear {
public:
    LinearArgmax(const Build& build, Attributes& a) : WideLinear(build, a) {
        const Layout& y = a.out();
        Dims shape = a.in(0).shape;
        shape.pop_back();
        a.result(shape);
        if (y.storage != Storage::i16 || y.zero_point != 0 || y.lo > 0 || columns_ - 1 > y.hi)
            a.fail("the result must be int16 with zero point 0 and hold every index");
    }

private:
    void answer(const std::int32_t* acc, std::uint8_t* y, std::int64_t at) const override {
        const std::int32_t* first = std::max_element(acc, acc + columns_);
        reinterpret_cast<std::int16_t*>(y)[at] = static_cast<std::int16_t>(first - acc);
    }
};

template <class T>
OpPtr make(const Build& build) {
    Attributes a(build.spec, build.values);
    a.arity(1, 1);
    auto op = std::make_unique<T>(build, a);
    a.done();
    return op;
}

}  // namespace

OpPtr make_linear_norm(const Build& build) {
    return make<LinearNorm>(build);
}

OpPtr make_linear_argmax(const Build& build) {
    return make<LinearArgmax>(build);
}

}  // namespace subbyte
