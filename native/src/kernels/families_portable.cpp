// Kernel families in plain C++: the plainest statement of what the others must compute.

#include <cstdint>
#include <cstring>

#include "kernels/families.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace portable {

#include "pixels.inc"

constexpr int LANES = 8;

#include "portable_epilogue.inc"

static void gather(const WindowJob& job, const std::uint8_t* in, std::uint8_t* to) {
    const std::uint8_t* end = to + job.depth;
    for (std::int32_t t = 0; t < job.tap_count; ++t, to += job.run)
        std::memcpy(to, in + job.taps[t], static_cast<std::size_t>(job.run));
    std::memset(to, 0, static_cast<std::size_t>(end - to));
}

static void windows(const WindowJob& job) {
    Cursor cursor(job.grid, job.in, nullptr, job.first);
    std::uint8_t* row = job.rows;
    for (std::int64_t pixel = job.first; pixel < job.last; ++pixel, row += job.depth)
        gather(job, cursor.take(), row);
}

static void tables(const TableJob& job) {
    for (std::int64_t pixel = 0; pixel < job.pixels; ++pixel) {
        const std::uint8_t* row = job.rows + pixel * job.row_step;
        std::uint8_t* out = job.out + pixel * TABLE_BYTES;
        for (std::int32_t t = 0; t < job.tables; ++t, row += job.group, out += job.pitch) {
            for (int code = 0; code < TABLE_BYTES; ++code) {
                int sum = 0;
                for (int j = 0; j < job.group; ++j)
                    sum += row[j] * job.plan->numbers[j / 2][code / 8][code % 8 * 2 + j % 2];
                out[code] = static_cast<std::uint8_t>(sum);
            }
        }
    }
}

static void planes(const PlaneJob& job) {
    Cursor cursor(job.grid, job.in, nullptr, job.first);
    for (std::int64_t pixel = 0; pixel < job.last - job.first; ++pixel) {
        gather(job, cursor.take(), job.rows);
        std::uint8_t* out = job.out + pixel * WORD_BYTES;
        for (std::int32_t j = 0; j < job.planes; ++j) {
            for (std::int32_t w = 0; w < job.words; ++w, out += job.pitch) {
                std::uint32_t word = 0;
                for (int k = 0; k < WORD_BITS; ++k)
                    word |= static_cast<std::uint32_t>(job.rows[WORD_BITS * w + k] >> j & 1) << k;
                std::memcpy(out, &word, WORD_BYTES);
            }
        }
    }
}

// One pixel and a panel of one vector.
struct LookupTile {
    static constexpr int MOST = 1;
    static constexpr int rows(int) { return 1; }

    template <int ROWS, int VECTORS>
    static void run(const DotJob& dot, const std::uint8_t* const* in, std::uint8_t* const* out,
                    const std::int8_t* panel, int column) {
        const auto& job = static_cast<const LookupJob&>(dot);
        std::int32_t* sums = job.sums + (in[0] - job.in) / TABLE_BYTES * job.sum_step + column;
        const std::uint8_t* tables = in[0];
        const auto* codes = reinterpret_cast<const std::uint8_t*>(panel + std::ptrdiff_t{job.skip} * LANES);
        for (int i = 0; i < LANES && job.begins; ++i)
            sums[i] = job.epilogue.bias[column + i];
        for (std::int32_t t = 0; t < job.tables; ++t, tables += job.pitch) {
            for (int i = 0; i < LANES; ++i)
                sums[i] = wrapping_add(sums[i], static_cast<std::int8_t>(tables[*codes++]));
        }
        if (job.ends) finish(job.epilogue, sums, out[0], column, job.columns);
    }
};

static std::int32_t count(std::uint32_t v) {
    v -= v >> 1 & 0x55555555U;
    v = (v & 0x33333333U) + (v >> 2 & 0x33333333U);
    return static_cast<std::int32_t>(((v + (v >> 4)) & 0x0F0F0F0FU) * 0x01010101U >> 24);
}

struct BitTile {
    static constexpr int MOST = 1;
    static constexpr int rows(int) { return 1; }

    template <int ROWS, int VECTORS>
    static void run(const DotJob& dot, const std::uint8_t* const* in, std::uint8_t* const* out,
                    const std::int8_t* panel, int column) {
        const auto& job = static_cast<const BitJob&>(dot);
        std::int32_t sums[LANES];
        for (int i = 0; i < LANES; ++i)
            sums[i] = job.epilogue.bias[column + i];
        for (std::int32_t i = 0; i < job.weight_planes; ++i) {
            const bool negative =
                job.form == Planes::levels || (job.form == Planes::negative && i + 1 == job.weight_planes);
            for (std::int32_t w = 0; w < job.words; ++w, panel += WORD_BYTES * LANES)
                add_word(job, in[0] + w * job.pitch, panel, (negative ? -1 : 1) * (1 << i), sums);
        }
        finish(job.epilogue, sums, out[0], column, job.columns);
    }

    static void add_word(const BitJob& job, const std::uint8_t* x, const std::int8_t* weights, std::int32_t factor,
                         std::int32_t* sums) {
        std::uint32_t words[LANES];
        std::memcpy(words, weights, sizeof words);
        for (std::int32_t j = 0; j < job.in_planes; ++j, x += job.words * job.pitch) {
            std::uint32_t a;
            std::memcpy(&a, x, WORD_BYTES);
            for (int l = 0; l < LANES; ++l) {
                const std::uint32_t met = job.form == Planes::levels ? words[l] ^ a : words[l] & a;
                sums[l] = wrapping_add(sums[l], factor * (1 << j) * count(met));
            }
        }
    }
};

static void lookup(const LookupJob& job) {
    walk_panels<LookupTile>(job, job.first, job.last, LANES);
}

static void bits(const BitJob& job) {
    walk_panels<BitTile>(job, job.first, job.last, LANES);
}

const FamilyKernels FAMILIES = {LANES, windows, tables, lookup, LookupTile::MOST, planes, bits, BitTile::MOST};

}  // namespace portable
}  // namespace subbyte
