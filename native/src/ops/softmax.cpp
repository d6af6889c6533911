// Softmax and its logarithm in integers; defined in graph/ops/softmax.py and graph/ops/log_softmax.py.

#include <algorithm>
#include <cmath>

#include "ops/ops.h"
#include "subbyte/requant.h"
#include "walk.h"

namespace subbyte {
namespace {

constexpr std::int64_t DEEPEST = 1 << 13;  // units of 1/256 octave, where powers have vanished

// No entry before rounding lies nearer than 0.0001 to a half, so any correct library rounds to the same integers.
struct Tables {
    std::int64_t pow2[256];
    std::int64_t log2[257];

    Tables() {
        for (int f = 0; f < 256; ++f)
            pow2[f] = std::llrint(std::ldexp(std::exp2(-f / 256.0), 30));
        for (int i = 0; i < 257; ++i)
            log2[i] = std::llrint(65536 * std::log2(1 + i / 256.0));
    }
};

const Tables& tables() {
    static const Tables instance;
    return instance;
}

// Along one axis, for every position of the others.
class Normalise : public Op {
public:
    Normalise(const Build& build, Attributes& a) : Op(build.spec), tables_(tables()), axis_(a.axis("axis")) {
        a.result(a.in(0).shape);
        if (a.out().storage != Storage::i16) a.fail("the result must be int16");
        m_ = a.one("m", INT32_LO, INT32_HI);
        n_ = static_cast<std::int32_t>(a.one("n", 1, 62));
        work = a.in(0).count() * 16;
    }

    void prepare(const std::vector<Layout>& values) override {
        const Layout& x = values[inputs[0]];
        const Layout& y = values[output];
        Dims shape = x.shape, in = x.strides, out = y.strides;
        count_ = shape[axis_];
        in_step_ = in[axis_];
        out_step_ = out[axis_];
        shape[axis_] = 1;
        walk_ = Walk<2>(shape, {in, out});
        wide_ = x.storage == Storage::i16;
    }

    void run(const Frame& frame, Part part) const override {
        const std::uint8_t* x = frame.at(inputs[0]);
        auto* y = reinterpret_cast<std::int16_t*>(frame.at(output));
        walk_.each(part, [&](const Walk<2>::Offsets& at, std::int64_t rows) {
            for (std::int64_t i = 0; i < rows; ++i) {
                if (wide_) {
                    line(reinterpret_cast<const std::int16_t*>(x) + at[0] + i, y + at[1] + i);
                } else {
                    line(x + at[0] + i, y + at[1] + i);
                }
            }
        });
    }

protected:
    // The result of a number `below` the largest; total is the sum of powers.
    virtual std::int16_t result(std::int64_t below, std::int64_t power, std::int64_t total,
                                std::int64_t log_total) const = 0;

    // log2(total / 2^30) in units of 2^-16, total >= 2^30.
    std::int64_t log_of(std::int64_t total) const {
        int octaves = 0;
        while ((total >> (octaves + 31)) > 0)
            ++octaves;
        const std::int64_t f = (total >> octaves) - (std::int64_t{1} << 30);
        const std::int64_t i = f >> 22;
        const std::int64_t r = (f >> 6) & 65535;
        return octaves * 65536 + tables_.log2[i] + (((tables_.log2[i + 1] - tables_.log2[i]) * r + 32768) >> 16);
    }

private:
    std::int64_t power(std::int64_t below) const {
        const std::int64_t t = std::clamp<std::int64_t>(sb_round_shift(below * m_, n_), 0, DEEPEST);
        return tables_.pow2[t & 255] >> (t >> 8);
    }

    template <class T>
    void line(const T* x, std::int16_t* y) const {
        std::int64_t most = x[0];
        for (std::int64_t i = 1; i < count_; ++i)
            most = std::max<std::int64_t>(most, x[i * in_step_]);
        std::int64_t total = 0;
        for (std::int64_t i = 0; i < count_; ++i)
            total += power(most - x[i * in_step_]);
        const std::int64_t log_total = log_of(total);
        for (std::int64_t i = 0; i < count_; ++i) {
            const std::int64_t below = most - x[i * in_step_];
            y[i * out_step_] = result(below, power(below), total, log_total);
        }
    }

    const Tables& tables_;
    std::size_t axis_;
    std::int64_t m_ = 0;
    std::int32_t n_ = 1;
    bool wide_ = false;
    std::int64_t count_ = 1, in_step_ = 1, out_step_ = 1;
    Walk<2> walk_;
};

class Softmax final : public Normalise {
public:
    Softmax(const Build& build, Attributes& a) : Normalise(build, a) {
        if (a.out().zero_point != 0 || a.out().lo > 0 || a.out().hi < 32767)
            a.fail("the result must have zero point 0 and hold 0..32767");
    }

protected:
    std::int16_t result(std::int64_t, std::int64_t power, std::int64_t total, std::int64_t) const override {
        return static_cast<std::int16_t>(std::min<std::int64_t>(32767, (power * 32768 + total / 2) / total));
    }
};

class LogSoftmax final : public Normalise {
public:
    LogSoftmax(const Build& build, Attributes& a) : Normalise(build, a), zero_point_(a.out().zero_point) {
        a.clamp(lo_, hi_);
        m_in_ = a.one("m_in", INT32_LO, INT32_HI);
        m_log_ = a.one("m_log", INT32_LO, INT32_HI);
        shift_ = static_cast<std::int32_t>(a.one("shift", 1, 62));
    }

protected:
    std::int16_t result(std::int64_t below, std::int64_t, std::int64_t, std::int64_t log_total) const override {
        return static_cast<std::int16_t>(
            sb_clamp(zero_point_ + sb_round_shift(-(below * m_in_ + log_total * m_log_), shift_), lo_, hi_));
    }

private:
    std::int32_t zero_point_;
    std::int32_t lo_ = 0, hi_ = 0, shift_ = 1;
    std::int64_t m_in_ = 0, m_log_ = 0;
};

}  // namespace

OpPtr make_softmax(const Build& build) {
    Attributes a(build.spec, build.values);
    a.arity(1, 1);
    auto op = std::make_unique<Softmax>(build, a);
    a.done();
    return op;
}

OpPtr make_log_softmax(const Build& build) {
    Attributes a(build.spec, build.values);
    a.arity(1, 1);
    auto op = std::make_unique<LogSoftmax>(build, a);
    a.done();
    return op;
}

}  // namespace subbyte
