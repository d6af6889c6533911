// Kernel families on AVX2; a carry-save adder is five instructions.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/families.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace avx2 {

#include "bytes_avx2.inc"
#include "pixels.inc"
#include "avx2_epilogue.inc"
#include "windows.inc"
#include "lookup_dot.inc"

// Bit j of every byte.
static inline std::uint32_t bits_of(Vec bytes, int j) {
    return static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_sll_epi16(bytes, _mm_cvtsi32_si128(7 - j))));
}

#include "bit_planes.inc"

template <int VECTORS>
static void finish_sums(const DotJob& job, const std::int32_t* sums, std::uint8_t* out, int column) {
    for (int first = column; first < column + LANES * VECTORS && first < job.columns; first += LANES, sums += LANES)
        finish(job.epilogue, add32(load(sums), load(job.epilogue.bias + first)), out, first, job.columns);
}

struct LookupTile {
    static constexpr int MOST = 4;
    static constexpr int rows(int) { return 4; }

    template <int ROWS, int VECTORS>
    static void run(const DotJob& job, const std::uint8_t* const* in, std::uint8_t* const* out,
                    const std::int8_t* panel, int column) {
        const auto& lookup_job = static_cast<const LookupJob&>(job);
        std::int32_t* sums[ROWS];
        for (int r = 0; r < ROWS; ++r)
            sums[r] = sums_of(lookup_job, in[r], column);
        look_up<ROWS, VECTORS, LANES>(lookup_job, in, panel, sums);
        for (int r = 0; lookup_job.ends && r < ROWS; ++r)
            finish_sums<VECTORS>(job, sums[r], out[r], column);
    }
};

static inline Vec carry(Vec a, Vec b, Vec& c) {
    const Vec either = differ(a, b);
    const Vec twice = _mm256_or_si256(both(a, b), both(either, c));
    c = differ(either, c);
    return twice;
}

template <int WEIGHT>
static inline Vec count(Vec sums, Vec v) {
    const Vec counts = every128("\0\1\1\2\1\2\2\3\1\2\2\3\2\3\3\4");
    const Vec nibble = every8(15);
    const Vec bytes = add8(lookup(counts, both(v, nibble)), lookup(counts, both(down16<4>(v), nibble)));
    return add32(sums, pair_sums(pair_products(bytes, every8(WEIGHT))));
}

#include "carry_counter.inc"

struct BitTile {
    static constexpr int MOST = 2;
    static constexpr int rows(int) { return 4; }

    template <int ROWS, int VECTORS>
    static void run(const DotJob& job, const std::uint8_t* const* in, std::uint8_t* const* out,
                    const std::int8_t* panel, int column) {
        Vec sums[ROWS][VECTORS] = {};
        count_planes<CarryCounter, ROWS, VECTORS>(static_cast<const BitJob&>(job), in, panel, sums);
        for (int r = 0; r < ROWS; ++r) {
            alignas(32) std::int32_t memory[VECTORS * LANES];
            for (int v = 0; v < VECTORS; ++v)
                store(memory + LANES * v, sums[r][v]);
            finish_sums<VECTORS>(job, memory, out[r], column);
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

}  // namespace avx2
}  // namespace subbyte
