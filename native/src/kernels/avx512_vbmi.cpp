// What VBMI adds to the kernels of avx512_vnni: a table of 256 bytes in four registers.

#include <immintrin.h>

#include <cstdint>

#include "kernels/kernels.h"

namespace subbyte {
namespace avx512_vbmi {

void lookup8(const std::uint8_t* in, const std::uint8_t* table, std::uint8_t* out, std::int64_t count) {
    __m512i t[4];
    for (int i = 0; i < 4; ++i)
        t[i] = _mm512_loadu_si512(table + 64 * i);
    for (std::int64_t i = 0; i < count; i += 64) {
        const __mmask64 mask = count - i >= 64 ? ~0ULL : (1ULL << (count - i)) - 1;
        const __m512i x = _mm512_maskz_loadu_epi8(mask, in + i);
        const __m512i low = _mm512_permutex2var_epi8(t[0], x, t[1]);  // by the low seven bits
        const __m512i high = _mm512_permutex2var_epi8(t[2], x, t[3]);
        _mm512_mask_storeu_epi8(out + i, mask, _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high));
    }
}

}  // namespace avx512_vbmi
}  // namespace subbyte
