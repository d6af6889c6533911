// Kernel families on AVX-512 with an instruction that counts the bits of an int32.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/families.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace avx512_vbmi {

#include "families_avx512.inc"

struct InstructionCounter {
    template <class Meet, int ROWS, int VECTORS>
    static INLINE void add(const BitJob& job, const std::uint8_t* const* x, const std::int8_t* weights,
                           Vec (*sums)[VECTORS]) {
        std::ptrdiff_t at = 0;
        for (std::int32_t w = 0; w < job.words; ++w) {
            Vec words[VECTORS];
            UNROLL for (int v = 0; v < VECTORS; ++v) words[v] = load(weights + BYTES * v);
            UNROLL for (int r = 0; r < ROWS; ++r) {
                const Vec a = every32(x[r] + at);
                UNROLL for (int v = 0; v < VECTORS; ++v) {
                    const Vec count = _mm512_popcnt_epi32(Meet::meet(words[v], a));
                    sums[r][v] = Meet::NEGATIVE ? less32(sums[r][v], count) : add32(sums[r][v], count);
                    pin(sums[r][v]);
                }
            }
            weights += BYTES * VECTORS;
            at += job.pitch;
        }
    }
};

struct BitTile {
    static constexpr int MOST = 4;
    static constexpr bool JOINS = false;
    static constexpr int group(int vectors) { return vectors == 4 ? 1 : vectors == 2 ? 2 : 4; }
    static constexpr int most_groups(int vectors) { return vectors == 4 ? 6 : vectors == 2 ? 6 : 4; }

    template <int GROUPS, int GROUP, int VECTORS>
    static void run(const DotJob& job, const Pixels& pixels, const std::int8_t* panel, int column) {
        constexpr int ROWS = GROUPS * GROUP;
        const std::uint8_t* x[ROWS];
        rows_of<GROUPS, GROUP>(pixels, WORD_BYTES, x);
        Vec sums[ROWS][VECTORS] = {};
        count_planes<InstructionCounter, ROWS, VECTORS>(static_cast<const BitJob&>(job), x, panel, sums);
        finish_sums<GROUPS, GROUP, VECTORS>(job, pixels, sums, column);
    }
};

static void bits(const BitJob& job) {
    walk_whole<BitTile>(job, LANES);
}

const FamilyKernels FAMILIES = {LANES,  windows, avx512bw::tables, avx512bw::lookup,
                                BitTile::MOST, planes,  bits,             BitTile::MOST};

}  // namespace avx512_vbmi
}  // namespace subbyte
