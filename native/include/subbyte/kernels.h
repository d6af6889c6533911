// The seam between the engine and the kernels of one instruction set: plain structs and a table of functions.
//
// Kernel files are compiled with flags that not every CPU understands. So nothing here may become code shared by the
// linker: no standard containers, no templates, no inline functions other than static ones.
//
// Weight panels, one layout for convolution, linear layers and (columns = channels) depthwise convolution:
//   [panel][step][vector][lane][4]  int8
// A panel is 1, 2 or 4 vectors of `lanes` output columns (panel_vectors); a step is 4 consecutive k, padded with 0.
// Where the kernels say `interleaved`, a panel's vectors hold its columns in the order from which 128-bit packs restore
// the natural one; the epilogue's arrays of a DotJob lie in the same order (see panel_column).
// Activations are read 4 bytes at a time, so a run whose length is no multiple of 4 reads up to 3 bytes behind it,
// which meet zero weights; depthwise kernels read up to `lanes` bytes. Buffers have READ_SLACK bytes for that.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace subbyte {

constexpr std::ptrdiff_t READ_SLACK = 64;

// Vectors in the next panel when `left` vectors of columns remain.
static inline int panel_vectors(int left, int most) {
    int vectors = most;
    while (vectors > left)
        vectors /= 2;
    return vectors;
}

// Column in a panel of `vectors` vectors that lies at `place`: vectors are cut into blocks of four columns, and block b
// of vector v holds columns 4 * (vectors * b + v) onwards. Packing four vectors (or two, twice) of int32 to bytes block
// by block, as x86 does, then gives the columns in their natural order.
static inline int panel_column(int place, int vectors, int lanes) {
    const int vector = place / lanes;
    const int block = place % lanes / 4;
    return 4 * (vectors * block + vector) + place % 4;
}

// How the rescale of a column may be computed with the same integers for all accumulators that it can see:
enum class Rule : std::uint8_t {
    single,  // in float32, see single_rescale of Kernels
    high,    // shifts are >= 33, and the zero point may join the rounding term in the high half without overflow
    any,     // as subbyte/requant.h says
    sums,    // there is none: accumulators are the result, int32, whole vectors in the order of the panel
};

// Added to a float32 of less than 2^22 in magnitude, it leaves the nearest integer, ties to even, in the low bits.
constexpr float ROUNDING = 12582912.0F;  // 1.5 * 2^23
constexpr std::int32_t ROUNDING_BITS = 0x4B400000;

// From int32 accumulators to stored integers; arrays are padded to whole vectors.
// Accumulators start at bias, where the input's zero point is folded in, and wrap: their final sum is proved to fit.
struct Epilogue {
    const std::int32_t* bias;
    const std::int32_t* m;
    const std::int32_t* n;
    const std::int32_t* m_neg;  // for acc < 0; the same arrays as m and n where there is no leaky slope
    const std::int32_t* n_neg;
    bool leaky;
    const Rule* rules;   // by vector of columns; the same for all vectors of a panel
    const float* scale;  // for Rule::single; with a leaky slope for acc >= 0, and scale_neg, no larger, for acc < 0
    const float* scale_neg;
    bool wide;  // result is int16, else uint8
    std::int32_t zero_point;
    std::int32_t lo;
    std::int32_t hi;
};

// Bytes of a column of the result.
static inline int result_bytes(const Epilogue& e) {
    return e.rules[0] == Rule::sums ? 4 : e.wide ? 2 : 1;
}

// A rectangle of pixels in row-major order; steps in bytes.
struct Grid {
    std::int64_t width;
    std::ptrdiff_t in_step;  // between the first bytes read for neighbouring result pixels of a row
    std::ptrdiff_t in_row;
    std::ptrdiff_t out_step;
    std::ptrdiff_t out_row;
};

// How kernels that sum bytes through vpmaddubsw (two products in a saturating int16) add up a panel.
enum class Accumulate : std::uint8_t {
    windows,  // int16 sums over the steps of a window, then int32
    steps,    // two products fit: every step, or sum of two steps, goes on to int32
    split,    // weights lie as 16 * high + low, vector by vector, low first: windows for both
    exact,    // two products may saturate: bytes are widened first
};

struct PanelSum {
    Accumulate how;
    std::int32_t count;          // of windows, or of the pairs of steps before the single ones
    const std::int32_t* detail;  // lengths of the windows in steps, or for steps their numbers in order
    std::ptrdiff_t bytes;        // of the panel
};

// How a kernel cuts the pixels of one layer, chosen once when the plan is built; kernels without a choice ignore it.
struct TileShape {
    std::uint8_t groups[5];  // by vectors of the panel: groups of pixels per tile
    bool sliding;            // a run is that of three neighbouring pixels' steps, so they share what they read
    std::int32_t block;      // pixels that all panels see before the next ones; 0: as the sizes of caches suggest
};

// What is proved of the products w * (x - center) of a layer, for kernels that multiply signed bytes (Kernels::centred):
// the smallest and largest product are known, so it is known how many of them, at least, fit a type together.
struct Products {
    std::int32_t center = 0;   // x - center is a signed byte; the bias holds center * sum(W)
    std::int32_t in_int8 = 0;  // 0: not even one
    std::int32_t in_int16 = 0;
};

// Dot products of `tap_count` runs of 4 * steps bytes with every column, for result pixels first..last-1 of the grid.
struct DotJob {
    const std::uint8_t* in;  // first byte of pixel 0's window
    std::uint8_t* out;       // first column of pixel 0
    Grid grid;
    std::int64_t first;
    std::int64_t last;
    const std::int32_t* taps;  // byte offset of each run in the window
    std::int32_t tap_count;
    std::int32_t steps;
    const std::int8_t* panels;
    std::int32_t columns;
    TileShape shape;
    Products products;
    const PanelSum* sums;  // of every panel; nullptr but for kernels with sums_in_int16
    Epilogue epilogue;
};

// As above with one input column per result column: tap t of column c is in[taps[t] + c].
struct DepthwiseJob {
    const std::uint8_t* in;
    std::uint8_t* out;
    Grid grid;
    std::int64_t first;
    std::int64_t last;
    const std::int32_t* taps;  // padded to a multiple of 4 with any valid tap
    std::int32_t tap_count;    // a multiple of 4
    const std::int8_t* panels;
    std::int32_t columns;
    Epilogue epilogue;
};

// A vector's worth of a result row: `pixels` neighbouring results of some channels. With one piece the vector is one
// run of bytes; else it is cut into 2 or 4 equal pieces that hold a pixel's channels each.
struct DepthwiseSegment {
    std::int32_t channel;   // first
    std::int32_t channels;  // per pixel
    std::int32_t pixels;    // at most the width
    std::int32_t pieces;
};

// An image that has no border though windows reach beyond it: any number of rows, and one column on either side. No byte
// behind the image is read.
struct DepthwiseEdges {
    const std::uint8_t* row;  // of zero points, as long as one of the image; nullptr: the input has its border
    std::int64_t first;       // row of the image, perhaps beyond it, that the first window starts with
    std::int64_t height;
    std::uint8_t zero_point;
    bool left;   // whether the first window starts beyond the image
    bool right;  // whether the last one ends there
};

// A 3x3 depthwise convolution with strides of 1 or 2, whole result rows; weights and epilogue are in the lane order
// that interleaving rows leaves, see src/ops/depthwise.cpp.
struct Depthwise3Job {
    const std::uint8_t* in;  // first byte of the first row's first window; with edges, of the image
    std::uint8_t* out;
    DepthwiseEdges edges;
    std::ptrdiff_t in_row;  // bytes between neighbouring rows
    std::ptrdiff_t out_row;
    std::int64_t width;
    std::int64_t rows;
    std::int32_t channels;
    std::int32_t stride_y;
    std::int32_t stride_x;
    const DepthwiseSegment* segments;
    std::int32_t segment_count;
    const std::int8_t* weights;  // [segment][2][3][vector byte][4]: (w0, w1, w2, 0), then (0, w0, w1, w2)
    bool sums_fit;               // every sum of a channel's products fits int16
    Products products;
    Epilogue epilogue;           // [segment][vector byte]
};

// Where codes are looked for: thresholds, sums of neighbouring values of a table, and for numbers alike in sign, exponent
// and five bits of the mantissa how many thresholds the lowest of them reaches, and how many more any of them may.
constexpr int CODE_BUCKETS = 26 * 32;  // of each sign, below 2^26

struct CodeSearch {
    const std::int32_t* thresholds;  // ascending, one behind the last that nothing reaches
    const std::uint8_t* first;       // 2 * CODE_BUCKETS
    int steps;
};

// Whose bucket an integer within 2^26 is: a double holds it exactly, whatever the rounding mode.
static inline std::int32_t code_bucket(std::int32_t y) {
    const std::int32_t size = y < 0 ? -y : y;
    const double real = size > 1 ? size : 1;
    std::int64_t bits;
    std::memcpy(&bits, &real, sizeof bits);
    const auto place = static_cast<std::int32_t>((bits >> 47) - (std::int64_t{1023} << 5));
    return y < 0 ? place + CODE_BUCKETS : place;
}

// The number of thresholds that `product * 2 / 2^n` reaches, rounded down; what sb_nearest_code finds.
static inline std::int32_t find_code(const CodeSearch& search, std::int64_t product, std::int32_t n) {
    const std::int64_t most = (std::int64_t{1} << 26) - 1;  // beyond every threshold
    const std::int64_t scaled = product >> (n - 1);
    const auto twice = static_cast<std::int32_t>(scaled < -most ? -most : scaled > most ? most : scaled);
    std::int32_t code = search.first[code_bucket(twice)];
    for (int step = 0; step < search.steps; ++step)
        code += search.thresholds[code] <= twice ? 1 : 0;
    return code;
}

// A convolution or linear layer whose numbers are wider than bytes, see src/kernels/wide.inc for the layout of weights.
struct WideJob {
    const std::uint8_t* in;
    std::uint8_t* out;
    Grid grid;
    std::int64_t first;
    std::int64_t last;
    const std::int32_t* taps;  // byte offset of each run of activations in the window
    std::int32_t tap_count;
    std::int32_t run;      // numbers of each; READ_SLACK is read behind them
    std::int32_t columns;  // for depthwise these are the channels, and a run is one number
    bool depthwise;
    bool wide_input;  // int16, else uint8
    const std::int32_t* values;  // 256, what codes of the input stand for; nullptr where its steps are even
    const CodeSearch* search;    // of the result's codes; nullptr where its steps are even
    bool in_int32;    // every part of every sum fits, and so do weights in int16; else sums are int64, weights int32
    const void* weights;
    const std::int64_t* starts;  // of the sums, padded to whole vectors: zero points times weights
    std::int32_t pre_shift;      // of the sums, before the bias is added; 0 with in_int32
    Epilogue epilogue;           // its arrays are in natural order
};

enum class Cell : std::uint8_t { u8, i16, i32 };

// A row of numbers of an elementwise operator: X = q - zero_point; step 0 repeats one number.
struct Operand {
    const void* data;
    std::ptrdiff_t step;  // in numbers: 0 or 1
    Cell cell;
    std::int32_t zero_point;
};

// What codes of a row stand for, times the largest code: factor * code + offset.
struct RowScale {
    std::int32_t factor;
    std::int32_t offset;
};

// In place: ((sums * factor + weight_sums * offset + 2^(pre_shift - 1)) >> pre_shift) + bias, in whole vectors; proved to
// fit, with a pre_shift of 0..32.
struct SumsJob {
    std::int32_t* sums;               // of codes times weights
    const std::int32_t* weight_sums;  // of weights alone
    const std::int32_t* bias;
    std::int64_t count;
    RowScale row;
    std::int32_t pre_shift;
};

struct ResultRow {
    void* data;
    bool wide;
    std::int32_t zero_point;
    std::int32_t lo;
    std::int32_t hi;
};

// clamp(z + ((A * m0 + B * m1 + 2^(n-1)) >> n)), or with A * B * m0 for a product, or A * m0 alone.
struct RowJob {
    Operand a;
    Operand b;
    ResultRow out;
    std::int64_t count;
    std::int32_t m0;
    std::int32_t m1;
    std::int32_t n;
    bool fits;  // A * B and every result before it is clamped fit int32
};

// Cells of `count` neighbouring numbers in a rectangle; steps in bytes. READ_SLACK is read behind the last one.
struct CellJob {
    const void* in;
    std::ptrdiff_t row_step;
    std::int64_t rows;
    std::ptrdiff_t cell_step;
    std::int64_t cells;
    std::int64_t count;
    Cell cell;
};

// Reals of a value: real = scale * (q - zero_point).
struct RealRow {
    void* numbers;  // stored integers
    bool wide;
    float scale;
    std::int32_t zero_point;
    std::int32_t lo;
    std::int32_t hi;
};

constexpr std::int64_t MOST_PLANES = 4;

struct Kernels {
    const char* isa;
    int lanes;
    int most_vectors;  // per panel
    void (*dot)(const DotJob&);
    void (*depthwise)(const DepthwiseJob&);
    void (*depthwise3)(const Depthwise3Job&);  // nullptr: depthwise does it
    void (*add)(const RowJob&);
    void (*mul)(const RowJob&);
    void (*rescale)(const RowJob&);
    void (*lookup8)(const std::uint8_t* in, const std::uint8_t* table, std::uint8_t* out, std::int64_t count);
    void (*lookup16)(const std::uint8_t* in, const std::int16_t* table, std::int16_t* out, std::int64_t count);
    // Number by number: the sum of q - zero_point, and the largest q.
    void (*sum_cells)(const CellJob&, std::int32_t zero_point, std::int32_t* sums);
    void (*largest_cells)(const CellJob&, void* out);
    // q = clamp(rint(x / scale) + zero_point, lo, hi); false, and q is anything, where some x is NaN or infinite.
    bool (*encode)(const float* x, const RealRow& row, std::int64_t count);
    void (*decode)(const RealRow& row, float* x, std::int64_t count);
    // out[planes * i + p] = in[i + p * plane]; 2 to MOST_PLANES planes.
    void (*join_planes)(const std::uint8_t* in, std::ptrdiff_t plane, std::int64_t planes, std::uint8_t* out,
                        std::int64_t count);
    void (*wide)(const WideJob&);
    // Codes 0..most (1..255) of a row of step 1: floor((2 * (q - low) * most + spread) / (2 * spread)) by its smallest and
    // largest q, all 0 where they are the same.
    RowScale (*row_codes)(const Operand& row, std::int64_t count, std::int32_t most, std::uint8_t* codes);
    void (*scale_sums)(const SumsJob&);
    bool interleaved = false;  // order of columns in a panel
    // y = bits(fma(float(acc), scale, ROUNDING + zero_point)) - ROUNDING_BITS in float32, which is zero_point plus the
    // product rounded once, by the very instructions of the epilogue, so that it can be proved when a plan is built.
    void (*single_rescale)(const std::int32_t* acc, float scale, std::int32_t zero_point, std::int32_t* y,
                           int count) = nullptr;
    // How to cut a job (its pixels are first..last-1) whose panels lie in the grid's order of columns, with at most so
    // many groups of pixels per tile.
    TileShape (*shape)(const DotJob& job, int most_groups) = nullptr;
    bool centred = false;  // dot and depthwise3 subtract products.center from activations
    bool sums_in_int16 = false;  // dot reads DotJob::sums, and takes every step as a tap
    // depthwise3 takes edges where segments are pixels of 64 channels, or of 16 in four pieces; and segments in four
    // pieces lie channel by channel, all quarters alike.
    bool edges = false;
};

}  // namespace subbyte
