// Kernels in plain C++: the ones every CPU has, and the plainest statement of what the others must compute.

#include <cstdint>
#include <cstring>

#include "kernels/kernels.h"
#include "subbyte/requant.h"

namespace subbyte {
namespace portable {

#include "pixels.inc"
#include "rows.inc"
#include "boundary.inc"
#include "per_token.inc"

constexpr int LANES = 8;

#include "portable_epilogue.inc"

// What wide.inc asks of lanes_*.inc, without vectors: eight int32, or four int64.
struct PlainLanes {
    struct V {
        std::int32_t lane[8];
    };
    static constexpr int COUNT = 8;

    static V load(const void* p) {
        V v;
        std::memcpy(&v, p, sizeof v);
        return v;
    }
    static void store(void* p, const V& v) { std::memcpy(p, &v, sizeof v); }
    static V all(std::int32_t n) {
        V v;
        for (std::int32_t& lane : v.lane)
            lane = n;
        return v;
    }
    static V add(V a, const V& b) {
        for (int i = 0; i < COUNT; ++i)
            a.lane[i] = wrapping_add(a.lane[i], b.lane[i]);
        return a;
    }
    static V pair_products(V a, const V& b) {
        const auto low = [](std::int32_t pair) { return std::int32_t{static_cast<std::int16_t>(pair)}; };
        for (int i = 0; i < COUNT; ++i)
            a.lane[i] = wrapping_add(low(a.lane[i]) * low(b.lane[i]), (a.lane[i] >> 16) * (b.lane[i] >> 16));
        return a;
    }
    static V even_product(const V& a, const V& b) {
        std::int64_t product[COUNT / 2];
        for (int i = 0; i < COUNT / 2; ++i)
            product[i] = std::int64_t{a.lane[2 * i]} * b.lane[2 * i];
        return load(product);
    }
    static V odd(V v) {
        for (int i = 0; i < COUNT; i += 2)
            v.lane[i] = v.lane[i + 1];
        return v;
    }
    static V all64(std::int64_t n) {
        const std::int64_t lanes[] = {n, n, n, n};
        return load(lanes);
    }
    static V left64(const V& v, int n) {
        std::uint64_t lanes[COUNT / 2];
        store(lanes, v);
        for (std::uint64_t& lane : lanes)
            lane <<= n;
        return load(lanes);
    }
    static V highs(const V& even, V odd) {
        for (int i = 0; i < COUNT; i += 2)
            odd.lane[i] = even.lane[i + 1];
        return odd;
    }
    static V add64(const V& a, const V& b) {
        std::int64_t sums[COUNT / 2], other[COUNT / 2];
        store(sums, a);
        store(other, b);
        for (int i = 0; i < COUNT / 2; ++i)
            sums[i] = static_cast<std::int64_t>(static_cast<std::uint64_t>(sums[i]) + static_cast<std::uint64_t>(other[i]));
        return load(sums);
    }
};

static void finish_row(const Epilogue& e, const PlainLanes::V& acc, std::uint8_t* out, int column, int columns) {
    finish(e, acc.lane, out, column, columns);
}

#include "wide.inc"

struct Tile {
    static constexpr int MOST = 1;
    static constexpr int rows(int) { return 4; }

    template <int ROWS, int VECTORS>
    static void run(const DotJob& job, const std::uint8_t* const* in, std::uint8_t* const* out,
                    const std::int8_t* panel, int column) {
        std::int32_t acc[ROWS][VECTORS * LANES];
        for (int r = 0; r < ROWS; ++r) {
            for (int i = 0; i < VECTORS * LANES; ++i)
                acc[r][i] = job.epilogue.bias[column + i];
        }
        for (std::int32_t t = 0; t < job.tap_count; ++t) {
            const std::int32_t tap = job.taps[t];
            for (std::int32_t k = 0; k < job.steps; ++k) {
                for (int r = 0; r < ROWS; ++r) {
                    const std::uint8_t* x = in[r] + tap + 4 * k;
                    const std::int32_t x0 = x[0], x1 = x[1], x2 = x[2], x3 = x[3];
                    for (int i = 0; i < VECTORS * LANES; ++i) {
                        const std::int8_t* w = panel + 4 * i;
                        acc[r][i] = wrapping_add(acc[r][i], x0 * w[0] + x1 * w[1] + x2 * w[2] + x3 * w[3]);
                    }
                }
                panel += 4 * VECTORS * LANES;
            }
        }
        for (int r = 0; r < ROWS; ++r) {
            for (int v = 0; v < VECTORS; ++v)
                finish(job.epilogue, acc[r] + v * LANES, out[r], column + v * LANES, job.columns);
        }
    }
};

static void dot(const DotJob& job) {
    walk_dot<Tile>(job, LANES);
}

template <class T>
static void largest_numbers(const CellJob& job, T* out) {
    const auto* row = static_cast<const std::uint8_t*>(job.in);
    std::memcpy(out, row, static_cast<std::size_t>(job.count) * sizeof(T));
    for (std::int64_t y = 0; y < job.rows; ++y, row += job.row_step) {
        for (std::int64_t x = 0; x < job.cells; ++x) {
            const T* cell = reinterpret_cast<const T*>(row + x * job.cell_step);
            for (std::int64_t c = 0; c < job.count; ++c)
                out[c] = cell[c] > out[c] ? cell[c] : out[c];
        }
    }
}

static void largest_cells(const CellJob& job, void* out) {
    if (job.cell == Cell::u8) {
        largest_numbers(job, static_cast<std::uint8_t*>(out));
    } else {
        largest_numbers(job, static_cast<std::int16_t*>(out));
    }
}

static void depthwise(const DepthwiseJob& job) {
    for (std::int32_t column = 0; column < job.columns; column += LANES) {
        const std::int8_t* panel = job.panels + std::ptrdiff_t{column} * job.tap_count;
        const int count = job.columns - column < LANES ? job.columns - column : LANES;
        Cursor cursor(job.grid, job.in, job.out, job.first);
        for (std::int64_t p = job.first; p < job.last; ++p) {
            const std::uint8_t* in;
            std::uint8_t* out;
            cursor.take(in, out);
            std::int32_t acc[LANES] = {};
            for (int i = 0; i < count; ++i)
                acc[i] = job.epilogue.bias[column + i];
            for (std::int32_t t = 0; t < job.tap_count; ++t) {
                const std::uint8_t* x = in + job.taps[t] + column;
                const std::int8_t* w = panel + t / 4 * 4 * LANES + t % 4;
                for (int i = 0; i < count; ++i)
                    acc[i] = wrapping_add(acc[i], x[i] * w[4 * i]);
            }
            finish(job.epilogue, acc, out, column, job.columns);
        }
    }
}

const Kernels KERNELS = {"portable",
                         LANES,
                         Tile::MOST,
                         dot,
                         depthwise,
                         nullptr,
                         add_row<PlainArithmetic>,
                         mul_row<PlainArithmetic>,
                         rescale_row<PlainArithmetic>,
                         lookup_row<std::uint8_t>,
                         lookup_row<std::int16_t>,
                         plain_sum_cells,
                         largest_cells,
                         encode_row,
                         decode_row,
                         join_planes,
                         wide_products<PlainLanes>,
                         row_codes,
                         scale_sums<PlainLanes>};

}  // namespace portable
}  // namespace subbyte
