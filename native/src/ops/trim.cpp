// Trims of 8-bit codes: tables by code, and neighbours that decide which table (src/subbyte/formats/trims.py defines it).

#include <algorithm>
#include <cstring>

#include "ops/ops.h"
#include "walk.h"

namespace subbyte {
namespace {

constexpr std::int64_t CODES = 256;
constexpr std::int64_t CHUNK = 2048;  // bytes between two tables, in the first cache
constexpr std::int64_t QUAD = 4;
constexpr std::int64_t MOST_RUN = 64;
constexpr std::int64_t MOST_TABLES = 8;

enum Pairing : std::int64_t { NONE, PAIRS, QUADS };

// All bits of some bytes: its top bit is that of the largest.
std::uint8_t together(const std::uint8_t* in, std::int64_t count) {
    std::uint64_t any = 0;
    std::int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
        std::uint64_t word;
        std::memcpy(&word, in + i, 8);
        any |= word;
    }
    any |= any >> 32;
    any |= any >> 16;
    any |= any >> 8;
    for (; i < count; ++i)
        any |= in[i];
    return static_cast<std::uint8_t>(any);
}

// Of two neighbours each takes `wide` where the other one is zero, else `alone`. Words, so that compilers vectorise;
// either byte order does.
void choose(const std::uint8_t* in, const std::uint8_t* alone, const std::uint8_t* wide, std::uint8_t* out,
            std::int64_t count, std::uint8_t zero) {
    for (std::int64_t i = 0; i + 1 < count; i += 2) {
        std::uint16_t x, a, w;
        std::memcpy(&x, in + i, 2);
        std::memcpy(&a, alone + i, 2);
        std::memcpy(&w, wide + i, 2);
        const unsigned high = (x >> 8) == zero ? 0x00FFU : 0U;
        const unsigned low = (x & 0xFFU) == zero ? 0xFF00U : 0U;
        const auto y = static_cast<std::uint16_t>((a & ~(high | low)) | (w & (high | low)));
        std::memcpy(out + i, &y, 2);
    }
}

class Trim final : public Op {
public:
    Trim(const Build& build, Attributes& a) : Op(build.spec), kernels_(build.kernels) {
        const Layout& x = a.in(0);
        if (x.storage != Storage::u8 || x.lo != 0 || x.hi != 255) a.fail("the input must be uint8 0..255");
        if (x.shape.empty()) a.fail("the input has no channels");
        a.moved();
        channels_ = x.shape.back();
        group_ = a.one("group", 1, channels_);
        if (channels_ % group_ != 0) a.fail("the group does not divide the channels");
        pairing_ = a.one("pairing", NONE, QUADS);
        run_ = a.one("run", 0, INT32_HI);
        reach_ = a.any_list("reach");
        if (run_ != 0 && pairing_ != NONE) a.fail("shared windows have no pairs");
        const std::int64_t count = run_ != 0 ? static_cast<std::int64_t>(reach_.size()) : pairing_ == NONE ? 1 : 2;
        if (run_ != 0 && (reach_.empty() || reach_.back() < 255 || !std::is_sorted(reach_.begin(), reach_.end())))
            a.fail("the reach of shared windows does not rise to 255");
        if (run_ > MOST_RUN || count > MOST_TABLES) a.fail("runs of shared windows are too long, or places too many");
        const ArraySpec& tables = a.array("tables", Storage::u8);
        if (tables.shape != Dims{count, CODES}) a.fail("the tables have shape " + text(tables.shape));
        const auto* bytes = static_cast<const std::uint8_t*>(tables.data);
        tables_.assign(bytes, bytes + count * CODES);
        for (std::int64_t size = 0; run_ != 0 && size < CODES; ++size) {
            const auto place = std::lower_bound(reach_.begin(), reach_.end(), size) - reach_.begin();
            place_[size] = static_cast<std::uint8_t>(place);
        }
        for (std::int64_t q = 0; q < CODES; ++q)
            size_[q] = static_cast<std::uint8_t>(std::abs(q - x.zero_point));
        zero_ = static_cast<std::uint8_t>(x.zero_point);
        if (x.zero_point < 0 || x.zero_point > 255) a.fail("the zero point is no byte");
        Dims shape = x.shape;
        shape.back() *= pairing_ == QUADS ? QUAD : 1;
        a.result(shape);
        wide_is_all_ = count == 2;
        for (std::int64_t q = 0; count == 2 && q < CODES; ++q)
            wide_is_all_ = wide_is_all_ && table(1)[q] == q;
        work = a.out().count();
    }

    void prepare(const std::vector<Layout>& values) override {
        const auto outer = [](Dims dims) {
            dims.pop_back();
            return dims;
        };
        const Layout& x = values[inputs[0]];
        walk_ = Walk<2>(outer(x.shape), {outer(x.strides), outer(values[output].strides)}, false);
    }

    void run(const Frame& frame, Part part) const override {
        const std::uint8_t* in = frame.at(inputs[0]);
        std::uint8_t* out = frame.at(output);
        const std::int64_t step_in = walk_.step(0);
        const std::int64_t step_out = walk_.step(1);
        walk_.each(part, [&](const Walk<2>::Offsets& at, std::int64_t pixels) {
            // Neighbouring pixels are one row of channels where runs end with them: groups do not know pixels.
            const bool ends = run_ == 0 || channels_ % run_ == 0;
            const bool dense = step_in == channels_ && step_out == channels_ && ends && pairing_ != QUADS;
            const std::int64_t together = dense ? pixels : 1;
            for (std::int64_t p = 0; p < pixels; p += together)
                trim(in + at[0] + p * step_in, out + at[1] + p * step_out, together * channels_);
        });
    }

private:
    const std::uint8_t* table(std::size_t i) const { return tables_.data() + i * CODES; }

    void trim(const std::uint8_t* in, std::uint8_t* out, std::int64_t count) const {
        if (run_ != 0) {
            shared(in, out, count);
        } else if (pairing_ == QUADS) {
            quads(in, out, count);
        } else if (pairing_ == NONE) {
            kernels_.lookup8(in, table(0), out, count);
        } else if (group_ == 1) {  // nobody has a partner
            kernels_.lookup8(in, table(1), out, count);
        } else {
            pairs(in, out, count);
        }
    }

    void pairs(const std::uint8_t* in, std::uint8_t* out, std::int64_t count) const {
        alignas(64) std::uint8_t alone[CHUNK];
        alignas(64) std::uint8_t doubled[CHUNK];
        const std::int64_t unit = group_ % 2 == 0 ? CHUNK : group_;  // what begins with the first of a pair
        for (std::int64_t first = 0; first < count;) {
            const std::int64_t end = std::min(first + unit, count);
            for (std::int64_t i = first; i < end; i += CHUNK) {
                const std::int64_t n = std::min(CHUNK, end - i);
                kernels_.lookup8(in + i, table(0), alone, n);
                const std::uint8_t* wide = in + i;
                if (!wide_is_all_) {
                    kernels_.lookup8(in + i, table(1), doubled, n);
                    wide = doubled;
                }
                choose(in + i, alone, wide, out + i, n, zero_);
                if (n % 2 != 0) out[i + n - 1] = wide[n - 1];
            }
            first = end;
        }
    }

    // Versions of every channel of a four: beside each of the three that follow it in a circle, and alone.
    void quads(const std::uint8_t* in, std::uint8_t* out, std::int64_t count) const {
        for (std::int64_t group = 0; group < count; group += group_) {
            for (std::int64_t c = 0; c < group_; ++c) {
                const std::int64_t four = c / QUAD * QUAD;
                const std::uint8_t x = in[group + c];
                for (std::int64_t k = 1; k <= QUAD; ++k) {
                    const std::int64_t partner = four + (c + k) % QUAD;
                    const bool free = k == QUAD || partner >= group_ || in[group + partner] == zero_;
                    *out++ = table(free ? 1 : 0)[x];
                }
            }
        }
    }

    // Every table for a chunk, in vectors, then each run from the table of its window.
    void shared(const std::uint8_t* in, std::uint8_t* out, std::int64_t count) const {
        alignas(64) std::uint8_t sizes[CHUNK];
        alignas(64) std::uint8_t held[MOST_TABLES][CHUNK];
        const std::int64_t unit = CHUNK / run_ * run_;
        for (std::int64_t first = 0; first < count; first += unit, in += unit, out += unit) {
            const std::int64_t n = std::min(unit, count - first);
            const std::uint8_t* size = in;
            if (zero_ != 0) {
                kernels_.lookup8(in, size_, sizes, n);
                size = sizes;
            }
            for (std::size_t t = 0; t < reach_.size(); ++t)
                kernels_.lookup8(in, table(t), held[t], n);
            for (std::int64_t i = 0; i < n; i += run_) {
                const std::int64_t length = std::min(run_, n - i);
                const std::uint8_t* from = held[place_[together(size + i, length)]] + i;
                if (length == 16) {
                    std::memcpy(out + i, from, 16);
                } else {
                    std::memcpy(out + i, from, static_cast<std::size_t>(length));
                }
            }
        }
    }

    const Kernels& kernels_;
    std::int64_t channels_, group_, pairing_, run_;
    Dims reach_;  // largest magnitude of each shared window
    std::vector<std::uint8_t> tables_;
    std::uint8_t zero_;
    std::uint8_t place_[CODES] = {};  // by magnitude
    std::uint8_t size_[CODES] = {};   // magnitude by code
    bool wide_is_all_;  // beside a zero all 8 bits are kept
    Walk<2> walk_;
};

}  // namespace

OpPtr make_trim(const Build& build) {
    Attributes a(build.spec, build.values);
    a.arity(1, 1);
    auto op = std::make_unique<Trim>(build, a);
    a.done();
    return op;
}

}  // namespace subbyte
