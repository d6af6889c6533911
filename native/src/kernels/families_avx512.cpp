// Kernel families on AVX-512 without an instruction that counts bits; a carry-save adder is two instructions.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/families.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace avx512_vnni {

#include "families_avx512.inc"

static inline Vec carry(Vec a, Vec b, Vec& c) {
    const Vec twice = _mm512_ternarylogic_epi64(a, b, c, 0xE8);
    c = _mm512_ternarylogic_epi64(a, b, c, 0x96);
    return twice;
}

template <int WEIGHT>
static inline Vec count(Vec sums, Vec v) {
    const Vec counts = every128("\0\1\1\2\1\2\2\3\1\2\2\3\2\3\3\4");
    const Vec nibble = every8(15);
    const Vec bytes = add8(lookup(counts, both(v, nibble)), lookup(counts, both(down16<4>(v), nibble)));
    return _mm512_dpbusd_epi32(sums, bytes, every8(WEIGHT));
}

#include "carry_counter.inc"

struct BitTile {
    static constexpr int MOST = 4;
    static constexpr int group(int vectors) { return vectors == 4 ? 1 : vectors == 2 ? 2 : 4; }
    static constexpr int most_groups(int vectors) { return vectors == 4 ? 4 : vectors == 2 ? 2 : 1; }

    template <int GROUPS, int GROUP, int VECTORS>
    static void run(const DotJob& job, const Pixels& pixels, const std::int8_t* panel, int column) {
        constexpr int ROWS = GROUPS * GROUP;
        const std::uint8_t* x[ROWS];
        rows_of<GROUPS, GROUP>(pixels, WORD_BYTES, x);
        Vec sums[ROWS][VECTORS] = {};
        count_planes<CarryCounter, ROWS, VECTORS>(static_cast<const BitJob&>(job), x, panel, sums);
        finish_sums<GROUPS, GROUP, VECTORS>(job, pixels, sums, column);
    }
};

static void bits(const BitJob& job) {
    walk_block<BitTile>(job);
}

const FamilyKernels FAMILIES = {LANES, windows, avx512_vnni::tables, avx512_vnni::lookup, BitTile::MOST, planes, bits, BitTile::MOST};

}  // namespace avx512_vnni
}  // namespace subbyte
