// Addition, multiplication, rescaling and tables: row by row over broadcast operands.

#include <cmath>
#include <cstring>

#include "ops/codes.h"
#include "ops/ops.h"
#include "subbyte/requant.h"
#include "walk.h"

namespace subbyte {
namespace {

// Strides of an operand seen in the result's shape; aligned from the right, 0 where it repeats.
Dims broadcast(const Attributes& a, const Dims& shape, const Dims& strides, const Dims& result) {
    if (shape.size() > result.size())
        a.fail("an operand of shape " + text(shape) + " does not broadcast to " + text(result));
    const std::size_t skip = result.size() - shape.size();
    Dims spread(result.size(), 0);
    for (std::size_t i = 0; i < shape.size(); ++i) {
        if (shape[i] == result[skip + i]) {
            spread[skip + i] = strides[i];
        } else if (shape[i] != 1) {
            a.fail("an operand of shape " + text(shape) + " does not broadcast to " + text(result));
        }
    }
    return spread;
}

Cell cell(Storage s) {
    return s == Storage::u8 ? Cell::u8 : s == Storage::i16 ? Cell::i16 : Cell::i32;
}

// A number's address in an array of `size` bytes per number.
const void* shifted(const void* data, std::int64_t numbers, std::int64_t size) {
    return static_cast<const std::uint8_t*>(data) + numbers * size;
}

using Row = void (*)(const RowJob&);

// One or two operands, the second a value or a constant.
class Elementwise final : public Op {
public:
    Elementwise(const Build& build, Attributes& a, Row row, const RowJob& job) : Op(build.spec), row_(row), job_(job) {
        const Layout& y = a.out();
        if (a.has_array("b")) {
            const ArraySpec& b = a.array("b", Storage::i32);
            constant_.resize(static_cast<std::size_t>(product(b.shape, "constant")));
            std::memcpy(constant_.data(), b.data, constant_.size() * sizeof(std::int32_t));
            constant_strides_ = broadcast(a, b.shape, dense(b.shape), y.shape);
        }
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            // The batch axis is left out, so two values align only where their ranks are equal.
            if (a.in(i).shape.size() != y.shape.size()) a.fail("operands and result must have one rank");
            broadcast(a, a.in(i).shape, a.in(i).shape, y.shape);
        }
        Dims widest(y.shape.size(), 1);
        for (std::size_t d = 0; d < widest.size(); ++d) {
            for (std::size_t i = 0; i < inputs.size(); ++i)
                widest[d] = std::max(widest[d], a.in(i).shape[d]);
            if (!constant_.empty() && constant_strides_[d] != 0) widest[d] = y.shape[d];
        }
        a.result(widest);
        job_.out = ResultRow{nullptr, y.storage == Storage::i16, y.zero_point, job.out.lo, job.out.hi};
        job_.a.zero_point = a.in(0).zero_point;
        job_.a.cell = cell(a.in(0).storage);
        job_.b.cell = Cell::i32;
        if (inputs.size() == 2) {
            job_.b.zero_point = a.in(1).zero_point;
            job_.b.cell = cell(a.in(1).storage);
        }
        work = y.count() * 4;
    }

    void prepare(const std::vector<Layout>& values) override {
        const Layout& y = values[output];
        const auto strides = [&](std::size_t i) {
            Dims s = values[inputs[i]].strides;
            for (std::size_t d = 0; d < s.size(); ++d)
                s[d] = values[inputs[i]].shape[d] == y.shape[d] ? s[d] : 0;
            return s;
        };
        Dims second(y.shape.size(), 0);
        if (inputs.size() == 2) second = strides(1);
        if (!constant_.empty()) second = constant_strides_;
        walk_ = Walk<3>(y.shape, {strides(0), second, y.strides});
        size_a_ = storage_bytes(values[inputs[0]].storage);
        size_b_ = inputs.size() == 2 ? storage_bytes(values[inputs[1]].storage) : 4;
        size_y_ = storage_bytes(y.storage);
    }

    void run(const Frame& frame, Part part) const override {
        RowJob job = job_;
        const void* a = frame.at(inputs[0]);
        const void* b = inputs.size() == 2 ? static_cast<const void*>(frame.at(inputs[1])) : constant_.data();
        std::uint8_t* y = frame.at(output);
        job.a.step = walk_.step(0);
        job.b.step = walk_.step(1);
        walk_.each(part, [&](const Walk<3>::Offsets& at, std::int64_t count) {
            job.a.data = shifted(a, at[0], size_a_);
            job.b.data = b == nullptr ? nullptr : shifted(b, at[1], size_b_);
            job.out.data = y + at[2] * size_y_;
            job.count = count;
            row_(job);
        });
    }

    void prove_fit(double magnitude, bool factors) { job_.fits = factors && result_fits(magnitude, job_.n); }

    std::int64_t largest_constant() const {
        std::int64_t most = 0;
        for (const std::int32_t v : constant_)
            most = std::max(most, std::abs(std::int64_t{v}));
        return most;
    }

private:
    Row row_;
    RowJob job_;
    std::vector<std::int32_t> constant_;
    Dims constant_strides_;
    Walk<3> walk_;
    std::int64_t size_a_ = 1, size_b_ = 1, size_y_ = 1;
};

class Lookup final : public Op {
public:
    // A rescale of bytes to bytes: 256 entries know all of it.
    Lookup(const Build& build, Attributes& a, const RowJob& job)
        : Op(build.spec), kernels_(build.kernels), wide_(false) {
        a.result(a.in(0).shape);
        for (std::int32_t q = 0; q < 256; ++q) {
            table8_[q] = static_cast<std::uint8_t>(
                sb_requantize(q - a.in(0).zero_point, job.m0, job.n, a.out().zero_point, job.out.lo, job.out.hi));
        }
        work = a.out().count();
    }
    Lookup(const Build& build, Attributes& a)
        : Op(build.spec), kernels_(build.kernels), wide_(a.out().storage == Storage::i16) {
        const Layout& x = a.in(0);
        if (x.storage != Storage::u8) a.fail("the input must be uint8");
        a.result(x.shape);
        const ArraySpec& table = a.array("table", a.out().storage);
        if (table.shape != Dims{256}) a.fail("the table has shape " + text(table.shape));
        if (wide_) {
            std::memcpy(table16_, table.data, sizeof(table16_));
        } else {
            std::memcpy(table8_, table.data, sizeof(table8_));
        }
        for (std::int32_t q = x.lo; q <= x.hi; ++q) {
            const std::int32_t y = wide_ ? table16_[q] : table8_[q];
            if (y < a.out().lo || y > a.out().hi)
                a.fail("table entry " + std::to_string(q) + " leaves the result's range");
        }
        work = a.out().count();
    }

    void prepare(const std::vector<Layout>& values) override {
        walk_ = Walk<2>(values[output].shape, {values[inputs[0]].strides, values[output].strides});
    }

    void run(const Frame& frame, Part part) const override {
        const std::uint8_t* x = frame.at(inputs[0]);
        std::uint8_t* y = frame.at(output);
        walk_.each(part, [&](const Walk<2>::Offsets& at, std::int64_t count) {
            if (wide_) {
                kernels_.lookup16(x + at[0], table16_, reinterpret_cast<std::int16_t*>(y) + at[1], count);
            } else {
                kernels_.lookup8(x + at[0], table8_, y + at[1], count);
            }
        });
    }

private:
    const Kernels& kernels_;
    bool wide_;
    std::uint8_t table8_[256] = {};
    std::int16_t table16_[256] = {};
    Walk<2> walk_;
};

// A rescale to codes of a table.
class Encode final : public Op {
public:
    Encode(const Build& build, Attributes& a, const RowJob& job)
        : Op(build.spec),
          job_(job),
          zero_point_(a.in(0).zero_point),
          wide_(a.in(0).storage == Storage::i16),
          codes_(a.out()) {
        a.result(a.in(0).shape);
        work = a.out().count() * 16;
    }

    void prepare(const std::vector<Layout>& values) override {
        walk_ = Walk<2>(values[output].shape, {values[inputs[0]].strides, values[output].strides});
    }

    void run(const Frame& frame, Part part) const override {
        const std::uint8_t* x = frame.at(inputs[0]);
        std::uint8_t* y = frame.at(output);
        walk_.each(part, [&](const Walk<2>::Offsets& at, std::int64_t count) {
            if (wide_) {
                row(reinterpret_cast<const std::int16_t*>(x) + at[0], y + at[1], count);
            } else {
                row(x + at[0], y + at[1], count);
            }
        });
    }

private:
    template <class T>
    void row(const T* x, std::uint8_t* y, std::int64_t count) const {
        const CodeSearch search = codes_.search();
        for (std::int64_t i = 0; i < count; ++i) {
            const std::int64_t product = std::int64_t{x[i] - zero_point_} * job_.m0;
            y[i] = static_cast<std::uint8_t>(sb_clamp(find_code(search, product, job_.n), job_.out.lo, job_.out.hi));
        }
    }

    RowJob job_;
    std::int32_t zero_point_;
    bool wide_;
    Codes codes_;
    Walk<2> walk_;
};

RowJob scalars(Attributes& a) {
    RowJob job{};
    job.n = static_cast<std::int32_t>(a.one("n", 1, 62));
    a.clamp(job.out.lo, job.out.hi);
    return job;
}

// Products and their sums are proved to stay below 2^63, rounding included.
void prove(const Attributes& a, double magnitude, std::int32_t n) {
    if (magnitude + std::ldexp(1.0, n - 1) > 9.2e18) a.fail("a product may exceed int64");
}

void binary_arity(Attributes& a) {
    const std::size_t count = a.has_array("b") ? 1 : 2;
    a.arity(count, count);
}

}  // namespace

OpPtr make_add(const Build& build) {
    Attributes a(build.spec, build.values);
    binary_arity(a);
    RowJob job = scalars(a);
    const std::vector<std::int32_t> m = a.int32s("m", 2, INT32_LO, INT32_HI);
    job.m0 = m[0];
    job.m1 = m[1];
    auto op = std::make_unique<Elementwise>(build, a, build.kernels.add, job);
    const std::int64_t second = op->inputs.size() == 2 ? largest(a.in(1)) : op->largest_constant();
    const double magnitude = static_cast<double>(largest(a.in(0))) * std::abs(static_cast<double>(m[0])) +
                             static_cast<double>(second) * std::abs(static_cast<double>(m[1]));
    prove(a, magnitude, job.n);
    op->prove_fit(magnitude, true);
    a.done();
    return op;
}

OpPtr make_mul(const Build& build) {
    Attributes a(build.spec, build.values);
    binary_arity(a);
    RowJob job = scalars(a);
    job.m0 = static_cast<std::int32_t>(a.one("m", INT32_LO, INT32_HI));
    auto op = std::make_unique<Elementwise>(build, a, build.kernels.mul, job);
    const std::int64_t second = op->inputs.size() == 2 ? largest(a.in(1)) : op->largest_constant();
    const double product = static_cast<double>(largest(a.in(0))) * static_cast<double>(second);
    const double magnitude = product * std::abs(static_cast<double>(job.m0));
    prove(a, magnitude, job.n);
    op->prove_fit(magnitude, product <= static_cast<double>(INT32_HI));
    a.done();
    return op;
}

OpPtr make_rescale(const Build& build) {
    Attributes a(build.spec, build.values);
    a.arity(1, 1);
    RowJob job = scalars(a);
    job.m0 = static_cast<std::int32_t>(a.one("m", INT32_LO, INT32_HI));
    if (a.out().coded()) {
        auto encode = std::make_unique<Encode>(build, a, job);
        a.done();
        return encode;
    }
    if (a.in(0).storage == Storage::u8 && a.out().storage == Storage::u8) {
        auto table = std::make_unique<Lookup>(build, a, job);
        a.done();
        return table;
    }
    auto op = std::make_unique<Elementwise>(build, a, build.kernels.rescale, job);
    op->prove_fit(static_cast<double>(largest(a.in(0))) * job.m0, true);
    a.done();
    return op;
}

OpPtr make_lookup(const Build& build) {
    Attributes a(build.spec, build.values);
    a.arity(1, 1);
    auto op = std::make_unique<Lookup>(build, a);
    a.done();
    return op;
}

}  // namespace subbyte
