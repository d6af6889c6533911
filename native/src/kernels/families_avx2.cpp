// Kernel families on AVX2; a carry-save adder is five instructions.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/families.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace avx2 {

#include "bytes_avx2.inc"

using Vector = Vec;

#include "cursor.inc"
#include "tiles.inc"
#include "avx2_epilogue.inc"
#include "tile_epilogue.inc"
#include "windows.inc"
#include "lookup_dot.inc"

// Bit j of every byte.
static inline std::uint32_t bits_of(Vec bytes, int j) {
    return static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_sll_epi16(bytes, _mm_cvtsi32_si128(7 - j))));
}

#include "bit_planes.inc"

// Sums of pixels [row][VECTORS * LANES], in panels of at most two vectors as the kernels have them.
template <int GROUPS, int GROUP, int VECTORS>
static void finish_sums(const DotJob& job, const Pixels& pixels, const std::int32_t* const* sums, int column) {
    constexpr int WIDTH = VECTORS > 1 ? 2 : 1;
    for (int first = 0; first < VECTORS; first += WIDTH) {
        Vec acc[GROUPS * GROUP][WIDTH];
        UNROLL for (int v = 0; v < WIDTH; ++v) {
            const Vec bias = load(job.epilogue.bias + column + LANES * (first + v));
            UNROLL for (int r = 0; r < GROUPS * GROUP; ++r)
                acc[r][v] = add32(load(sums[r] + LANES * (first + v)), bias);
        }
        finish_tile<GROUPS, GROUP, WIDTH>(job, pixels, acc, column + LANES * first);
    }
}

#include "lookup_tile.inc"

static inline Vec carry(Vec a, Vec b, Vec& c) {
    const Vec either = differ(a, b);
    const Vec twice = _mm256_or_si256(both(a, b), both(either, c));
    c = differ(either, c);
    return twice;
}

template <int WEIGHT>
static inline Vec count(Vec sums, Vec v) {
    return add32(sums, pair_sums(pair_products(bits_of_bytes(v), every8(WEIGHT))));
}

#include "carry_counter.inc"

struct BitTile {
    static constexpr int MOST = 2;
    static constexpr bool JOINS = false;
    static constexpr int group(int vectors) { return vectors == 2 ? 2 : 4; }
    static constexpr int most_groups(int vectors) { return vectors; }

    template <int GROUPS, int GROUP, int VECTORS>
    static void run(const DotJob& job, const Pixels& pixels, const std::int8_t* panel, int column) {
        constexpr int ROWS = GROUPS * GROUP;
        const std::uint8_t* x[ROWS];
        for (int r = 0; r < ROWS; ++r)
            x[r] = pixels.in[r / GROUP] + r % GROUP * WORD_BYTES;
        Vec sums[ROWS][VECTORS] = {};
        count_planes<CarryCounter, ROWS, VECTORS>(static_cast<const BitJob&>(job), x, panel, sums);
        const std::int32_t* rows[ROWS];
        alignas(32) std::int32_t memory[ROWS][VECTORS * LANES];
        for (int r = 0; r < ROWS; ++r) {
            for (int v = 0; v < VECTORS; ++v)
                store(memory[r] + LANES * v, sums[r][v]);
            rows[r] = memory[r];
        }
        finish_sums<GROUPS, GROUP, VECTORS>(job, pixels, rows, column);
    }
};

static void lookup(const LookupJob& job) {
    const Nearest rounding;
    walk_whole<LookupTile>(job, LANES);
}

static void bits(const BitJob& job) {
    const Nearest rounding;
    walk_whole<BitTile>(job, LANES);
}

const FamilyKernels FAMILIES = {LANES, windows, tables, lookup, LookupTile::MOST, planes, bits, BitTile::MOST};

}  // namespace avx2
}  // namespace subbyte
