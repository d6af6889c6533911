// Kernel families on AVX-512 without VNNI.

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/families.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace avx512bw {

#include "families_avx512.inc"

template <int WEIGHT>
static inline Vec count(Vec sums, Vec v) {
    return add32(sums, pair_sums(pair_products(bits_of_bytes(v), every8(WEIGHT))));
}

#include "carry_avx512.inc"

}  // namespace avx512bw
}  // namespace subbyte
