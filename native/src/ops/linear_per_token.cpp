// Linear layers whose operand gets a scale for each row while it runs; graph/ops/linear_per_token.py is the definition.
//
// A block of rows becomes bytes 0..largest by each row's smallest and largest number. The ordinary panels multiply them,
// at any width of weights, and leave their sums; those are scaled and shifted row by row, and the ordinary epilogue, given
// no product to add, rescales and stores them.

#include <algorithm>
#include <numeric>

#include "ops/ops.h"
#include "ops/panels.h"
#include "ops/products.h"
#include "ops/tiling.h"
#include "ops/wide.h"
#include "walk.h"

namespace subbyte {
namespace {

constexpr std::int64_t BLOCK_BYTES = 512 * 1024;  // of codes and sums, in the second-level cache
constexpr std::int64_t MOST_ROWS = 96;            // of a block, so that it is worth a pass over the weights
constexpr std::int64_t LINE = 64;
constexpr std::int64_t ROW_BYTES = sizeof(RowScale);

std::int64_t round_up(std::int64_t n, std::int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

// Rows at once, of so many bytes each: all blocks are about equal.
std::int64_t rows_of_block(std::int64_t rows, std::int64_t bytes) {
    const std::int64_t most = std::min(MOST_ROWS, std::max<std::int64_t>(BLOCK_BYTES / bytes, 6));
    const std::int64_t blocks = (rows + most - 1) / most;
    return (rows + blocks - 1) / blocks;
}

// What the panels multiply.
Layout byte_codes(const Layout& x, std::int32_t largest) {
    Layout codes = x;
    codes.storage = Storage::u8;
    codes.zero_point = 0;
    codes.lo = 0;
    codes.hi = largest;
    return codes;
}

// What they stand for, times the largest code.
Layout coded_rows(const Layout& x, std::int32_t largest_code) {
    Layout rows = x;
    rows.zero_point = 0;
    rows.hi = static_cast<std::int32_t>(largest_code * largest(x));
    rows.lo = -rows.hi;
    return rows;
}

class LinearPerToken final : public Op {
public:
    LinearPerToken(const Build& build, Attributes& a, const Weights& weights, std::int32_t most, std::int32_t pre_shift)
        : Op(build.spec),
          kernels_(build.kernels),
          most_(most),
          pre_shift_(pre_shift),
          depth_(weights.depth()),
          count_(weights.columns()),
          padded_(round_up(count_, build.kernels.lanes)),
          pitch_(round_up(depth_ + READ_SLACK, LINE)),
          sum_pitch_(round_up(padded_, LINE / 4) + LINE / 4),
          products_(prove_products(weights, byte_codes(a.in(0), most), build.kernels)),
          columns_(a, weights, pre_shift, coded_rows(a.in(0), most), build.kernels,
                   panel_order(count_, build.kernels)),
          tiling_(a, build.kernels, a.out().count() / count_, false) {
        const std::int64_t rows = a.out().count() / count_;
        find_sums(a, weights);
        const bool usual = keep_packed(build.packing, count_ * depth_, 1, rows, weights.levels);
        const bool pack = choose_packed(a, weights, usual);
        const Panels::Shape shape{count_, 1, depth_, rows};
        panels_ = Panels(weights.numbers.data(), shape, byte_codes(a.in(0), most), build.kernels, pack);
        block_ = rows_of_block(rows, pitch_ + 4 * sum_pitch_);
        scratch_bytes = block_ * (pitch_ + 4 * sum_pitch_) + round_up(ROW_BYTES * block_, LINE) + panels_.scratch_bytes();
        work = a.out().count() * depth_;
        weight_bytes = panels_.bytes();
        wide_macs = panels_.wide_columns() * rows * depth_;
    }

    bool reads_exactly(const std::vector<Layout>& /*values*/) const override { return true; }

    void prepare(const std::vector<Layout>& values) override {
        const Layout& x = values[inputs[0]];
        const Layout& y = values[output];
        const auto outer = [](Dims dims) {
            dims.pop_back();
            return dims;
        };
        rows_ = Walk<2>(outer(x.shape), {outer(x.strides), outer(y.strides)}, false);
        row_ = Operand{nullptr, 1, x.storage == Storage::i16 ? Cell::i16 : Cell::u8, x.zero_point};
        in_size_ = storage_bytes(x.storage);
        out_size_ = storage_bytes(y.storage);
        const std::int64_t tap = kernels_.sums_in_int16 ? 4 : depth_;
        for (std::int64_t at = 0; at < depth_; at += tap)
            taps_.push_back(static_cast<std::int32_t>(at));
        steps_ = static_cast<std::int32_t>((tap + 3) / 4);
        grid_ = Grid{block_, pitch_, 0, 4 * sum_pitch_, 0};
        shape_ = tiling_.shape(grid_, block_, depth_, count_);
    }

    void run(const Frame& frame, Part part) const override {
        std::uint8_t* codes = frame.scratch(part.index);
        auto* sums = reinterpret_cast<std::int32_t*>(codes + block_ * pitch_);
        auto* scales = reinterpret_cast<RowScale*>(sums + block_ * sum_pitch_);
        std::uint8_t* rest = reinterpret_cast<std::uint8_t*>(scales) + round_up(ROW_BYTES * block_, LINE);
        const std::uint8_t* x = frame.at(inputs[0]);
        std::uint8_t* y = frame.at(output);
        rows_.each(part, [&](const Walk<2>::Offsets& at, std::int64_t count) {
            for (std::int64_t first = 0; first < count; first += block_) {
                const std::int64_t some = std::min(block_, count - first);
                Operand row = row_;
                for (std::int64_t r = 0; r < some; ++r) {
                    row.data = x + (at[0] + (first + r) * rows_.step(0)) * in_size_;
                    scales[r] = kernels_.row_codes(row, depth_, most_, codes + r * pitch_);
                }
                multiply(codes, sums, some, rest);
                for (std::int64_t r = 0; r < some; ++r)
                    finish(sums + r * sum_pitch_, scales[r], y + (at[1] + (first + r) * rows_.step(1)) * out_size_);
            }
        });
    }

private:
    // In the panels' order: what sums start with, so that kernels may centre bytes; sums of weights; and which columns
    // have their signs changed.
    void find_sums(const Attributes& a, const Weights& weights) {
        const Order order = panel_order(count_, kernels_);
        rules_.assign(static_cast<std::size_t>(padded_ / kernels_.lanes), Rule::sums);
        for (const std::int32_t column : order.columns) {
            const bool real = column < count_;
            const std::int8_t* numbers = weights.numbers.data() + column * depth_;
            std::int64_t sum = 0, size = 0;
            for (std::int64_t k = 0; real && k < depth_; ++k) {
                sum += numbers[k];
                size += std::abs(std::int32_t{numbers[k]});
            }
            if (size * most_ > INT32_HI)
                a.fail("the sum of products of column " + std::to_string(column) + " may exceed 2^31 - 1");
            const int sign = real && weights.negated[static_cast<std::size_t>(column)] ? -1 : 1;
            starts_.push_back(static_cast<std::int32_t>(static_cast<std::uint32_t>(products_.center * sum)));
            weight_sums_.push_back(static_cast<std::int32_t>(sign * sum));
            signs_.push_back(sign);
        }
        turns_ = std::count(signs_.begin(), signs_.end(), -1) > 0;
    }

    void multiply(const std::uint8_t* codes, std::int32_t* sums, std::int64_t rows, std::uint8_t* scratch) const {
        DotJob job{};
        job.in = codes;
        job.out = reinterpret_cast<std::uint8_t*>(sums);
        job.grid = grid_;
        job.last = rows;
        job.taps = taps_.data();
        job.tap_count = static_cast<std::int32_t>(taps_.size());
        job.steps = steps_;
        job.columns = static_cast<std::int32_t>(count_);
        job.shape = shape_;
        job.products = products_;
        job.epilogue = columns_.group(0);
        job.epilogue.bias = starts_.data();
        job.epilogue.rules = rules_.data();
        panels_.dot(job, Part{}, scratch);
    }

    void finish(std::int32_t* sums, RowScale row, std::uint8_t* out) const {
        for (std::size_t c = 0; turns_ && c < signs_.size(); ++c)
            sums[c] *= signs_[c];
        DotJob job{};
        job.in = reinterpret_cast<const std::uint8_t*>(sums);  // of which no byte is read
        job.panels = reinterpret_cast<const std::int8_t*>(sums);
        job.out = out;
        job.grid.width = 1;
        job.last = 1;
        job.columns = static_cast<std::int32_t>(count_);
        job.epilogue = columns_.group(0);
        kernels_.scale_sums({sums, weight_sums_.data(), job.epilogue.bias, padded_, row, pre_shift_});
        job.epilogue.bias = sums;
        kernels_.dot(job);
    }

    const Kernels& kernels_;
    std::int32_t most_, pre_shift_;
    std::int64_t depth_, count_;
    std::int64_t padded_;  // columns in whole vectors
    std::int64_t pitch_;   // bytes between the codes of two rows
    std::int64_t sum_pitch_;  // numbers between the sums of two rows: no power of two, which would share cache sets
    Products products_;
    Columns columns_;
    Tiling tiling_;
    Panels panels_;
    std::vector<std::int32_t> starts_, weight_sums_, signs_;
    bool turns_ = false;
    std::vector<Rule> rules_;
    std::int64_t block_ = 1;  // rows at once
    Walk<2> rows_;
    Operand row_{};
    std::int64_t in_size_ = 1, out_size_ = 1;
    std::vector<std::int32_t> taps_;
    std::int32_t steps_ = 0;
    Grid grid_{};
    TileShape shape_{};
};

}  // namespace

OpPtr make_linear_per_token(const Build& build) {
    Attributes a(build.spec, build.values);
    a.arity(1, 1);
    const Layout& x = a.in(0);
    const bool bytes = x.storage == Storage::u8;
    if (x.zero_point < (bytes ? 0 : -32768) || x.zero_point > (bytes ? 255 : 32767))
        a.fail("the input's zero point must be one of its numbers");
    const auto most = static_cast<std::int32_t>(a.one("largest", 1, 255));
    const auto pre_shift = static_cast<std::int32_t>(a.one("pre_shift", 0, MOST_PRE_SHIFT));
    const WideWeights read = read_weights(a, 2);
    Dims shape = x.shape;
    if (shape.empty() || shape.back() != read.shape[1])
        a.fail("weight " + text(read.shape) + " does not fit " + text(shape));
    shape.back() = read.columns();
    a.result(shape);
    if (!fits_int8(read)) a.fail("weights beside rows with scales of their own must fit int8");
    auto op = std::make_unique<LinearPerToken>(build, a, narrow(read), most, pre_shift);
    a.done();
    op->knobs = a.knobs();
    return op;
}

}  // namespace subbyte
