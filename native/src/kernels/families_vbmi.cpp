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

using Tile = BitTile<InstructionCounter, 6>;

static void bits(const BitJob& job) {
    walk_block<Tile>(job);
}

const FamilyKernels FAMILIES = {LANES, windows, avx512_vnni::tables, avx512_vnni::lookup, Tile::MOST, planes, bits, Tile::MOST};

}  // namespace avx512_vbmi
}  // namespace subbyte
