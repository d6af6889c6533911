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

using Tile = BitTile<CarryCounter, 3>;

static void bits(const BitJob& job) {
    walk_block<Tile>(job);
}

const FamilyKernels FAMILIES = {LANES, windows, avx512_vnni::tables, avx512_vnni::lookup, Tile::MOST, planes, bits, Tile::MOST};

}  // namespace avx512_vnni
}  // namespace subbyte
