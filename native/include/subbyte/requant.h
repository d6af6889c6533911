/* THE rescale rule, in C99: an integer accumulator times a real ratio, in integers, with one rounding.
 *
 * This header and src/subbyte/arithmetic/requant.py are the definition; everything else must give the same bits.
 * It is shared by the native engine and by generated firmware, so it needs <stdint.h> only.
 *
 * Right shifts of negative numbers must be arithmetic, as on every compiler we support; tested below.
 */
#ifndef SUBBYTE_REQUANT_H
#define SUBBYTE_REQUANT_H

#include <stdint.h>

typedef char sb_arithmetic_shift[(-3 >> 1) == -2 ? 1 : -1];

/* (product + 2**(n - 1)) >> n: division by 2**n, rounded half up. 1 <= n <= 62, |product| <= 2**62. */
static inline int64_t sb_round_shift(int64_t product, int32_t n) {
    return (product + ((int64_t)1 << (n - 1))) >> n;
}

static inline int32_t sb_clamp(int64_t value, int32_t lo, int32_t hi) {
    return value < lo ? lo : value > hi ? hi : (int32_t)value;
}

/* The code of the value nearest to acc * m / 2**n, of the larger one in the middle of two; 0 <= code < levels. `sums` are
 * those of neighbouring values, ascending: levels - 1 of them. Twice what is looked for reaches them exactly. */
static inline int32_t sb_nearest_code(int32_t acc, int32_t m, int32_t n, const int32_t *sums, int32_t levels) {
    const int64_t twice = ((int64_t)acc * m) >> (n - 1);
    int32_t least = 0, most = levels - 1;
    while (least < most) {
        const int32_t middle = (least + most) / 2;
        if (sums[middle] <= twice)
            least = middle + 1;
        else
            most = middle;
    }
    return least;
}

/* clamp(z + ((acc * m + 2**(n - 1)) >> n), lo, hi): |acc * m| <= 2**62 for any two int32. */
static inline int32_t sb_requantize(int32_t acc, int32_t m, int32_t n, int32_t zero_point, int32_t lo, int32_t hi) {
    return sb_clamp(zero_point + sb_round_shift((int64_t)acc * m, n), lo, hi);
}

#endif
