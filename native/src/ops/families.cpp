#include "ops/families.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "aligned_bytes.h"
#include "kernels/families.h"
#include "ops/weights.h"
#include "subbyte/plan.h"

namespace subbyte {
namespace {

// Bytes of what a block of pixels becomes: a part of the second-level cache for planes; tables, which are larger, pass
// the first-level one, and the depth comes in parts.
constexpr std::int64_t PLANE_BYTES = 128 * 1024;
constexpr std::int64_t LEAST_PLANE_PIXELS = 8;
constexpr std::int64_t MOST_PLANE_PIXELS = 96;
constexpr std::int64_t PART_BYTES = 32 * 1024;
constexpr std::int32_t TABLE_UNIT = 8;  // tables are made in vectors, and panels are counted in dwords
constexpr std::int64_t TABLE_PIXELS = 4;

constexpr int MOST_PLANE_PAIRS = 8;  // that are ever offered as a way that may be faster

// Where a family is taken unasked: layers of at least so many columns and so deep ran up to four times as fast as dot
// with any number of pixels, see docs/native-lookup.md and docs/native-bit-planes.md; smaller ones do not pay for bringing
// activations into its form.
struct Preference {
    const char* isa;
    Family family;
    double pace;  // activations per instruction of a look-up, at least, or pairs of planes, at most
    std::int64_t columns;
    std::int64_t depth;
    bool needs_quick_counts = false;
};

constexpr Preference PREFERENCES[] = {
    {"avx2", Family::lookup, 1.1, 128, 512},
    {"avx2", Family::lookup, 1.1, 256, 256},
    {"avx2", Family::lookup, 0.75, 512, 512},
    {"avx512bw", Family::lookup, 1.1, 256, 512},
    {"avx512_vnni", Family::bit_planes, 1, 64, 512},
    {"avx512_vbmi", Family::bit_planes, 1, 64, 256},
    {"avx512_vbmi", Family::bit_planes, 2, 64, 512},
    {"avx512_vbmi", Family::bit_planes, 4, 128, 512, true},
};

std::int64_t round_up(std::int64_t n, std::int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

int bits_of(std::int64_t n) {
    int bits = 1;
    while (n >> bits != 0)
        ++bits;
    return bits;
}

// Calls place(first vector, vectors, vector, lane, numbers) for every column, by the place that it takes in a panel.
template <class Place>
void each_column(const GroupWeights& weights, const Kernels& kernels, int most_vectors, Place place) {
    const int lanes = family_kernels(kernels)->lanes;
    Order order = natural_order(weights.columns, kernels);
    if (kernels.interleaved) order = panel_order(weights.columns, kernels);
    const auto vectors = static_cast<int>(round_up(weights.columns, lanes) / lanes);
    for (int first = 0; first < vectors;) {
        const int width = panel_vectors(vectors - first, most_vectors);
        for (int i = 0; i < width * lanes; ++i) {
            const std::int64_t column = order.columns[static_cast<std::size_t>(first * lanes + i)];
            if (column < weights.columns)
                place(first, width, i / lanes, i % lanes, weights.numbers + column * weights.depth());
        }
        first += width;
    }
}

// How weights of few different numbers are looked up, if they can be.
struct TableForm {
    static constexpr int MOST_ENTRY = 127;
    std::vector<std::int8_t> numbers;  // ascending; a code is an index
    int group = 0;                     // activations per table; 0: cannot be looked up
    double pace = 0;                   // activations per instruction
    int run = 1;      // entries whose sum stays in 0..255
    int stretch = 1;  // and in int16
    int start = 0;

    TableForm(const GroupWeights& weights) {
        if (weights.most_input > MOST_ENTRY) return;
        bool used[256] = {};
        for (std::int64_t i = 0; i < weights.count(); ++i)
            used[weights.numbers[i] + 128] = true;
        for (int n = -128; n < 128; ++n) {
            if (used[n + 128]) numbers.push_back(static_cast<std::int8_t>(n));
        }
        for (int candidate = MOST_GROUP; candidate >= 1; candidate /= 2)
            consider(candidate, weights.most_input);
    }

    int code_bits() const { return 4 / group; }

private:
    void consider(int candidate, std::int64_t most_input) {
        if (static_cast<int>(numbers.size()) > 1 << (4 / candidate)) return;
        const std::int64_t least = candidate * most_input * std::min<std::int64_t>(numbers.front(), 0);
        const std::int64_t most = candidate * most_input * std::max<std::int64_t>(numbers.back(), 0);
        const std::int64_t reach = std::max<std::int64_t>({-least, most, 1});  // of an entry
        const std::int64_t entries = 255 / std::max<std::int64_t>(most - least, 1);
        if (reach > MOST_ENTRY || entries < 1) return;
        const double of_candidate = candidate / (2 + 3 / static_cast<double>(entries));
        if (of_candidate <= pace) return;
        pace = of_candidate;
        group = candidate;
        run = static_cast<int>(entries);
        stretch = static_cast<int>(INT16_MAX / reach);
        start = static_cast<int>(-entries * least);
    }
};

// What families share: a layer's pixels in blocks, whose windows are gathered.
class FamilyMultiplier : public Multiplier {
public:
    std::int64_t bytes() const override { return static_cast<std::int64_t>(panels_.size()); }
    Shares shares(Part part, std::int64_t) const override { return {part, Part{}}; }
    void dot(const DotJob& whole, Part, std::uint8_t* scratch) const override;

protected:
    FamilyMultiplier(const GroupWeights& weights, const Kernels& kernels, std::int64_t block)
        : kernels_(*family_kernels(kernels)),
          run_(static_cast<std::int32_t>(weights.run)),
          depth_(static_cast<std::int32_t>(round_up(weights.depth(), ROW_UNIT))),
          columns_(round_up(weights.columns, kernels_.lanes)),
          block_(block) {}

    // Windows are gathered to the beginning of the scratch memory; the block's grid walks over packed pixels, and its
    // rows are as long as its steps say.
    virtual void multiply(const WindowJob& windows, DotJob& block, std::uint8_t* scratch) const = 0;

    static void side_by_side(DotJob& block, std::ptrdiff_t step) {
        block.grid.in_step = step;
        block.grid.in_row = step * block.grid.width;
    }

    const FamilyKernels& kernels_;
    std::int32_t run_;
    std::int32_t depth_;    // of a gathered window
    std::int64_t columns_;  // in whole vectors
    std::int64_t block_;    // most pixels
    AlignedBytes panels_;
};

void FamilyMultiplier::dot(const DotJob& whole, Part, std::uint8_t* scratch) const {
    DotJob job = whole;
    const Grid grid = job.grid;
    std::uint8_t* out = job.out;
    WindowJob windows{job.in, grid, job.first, job.first, job.taps, job.tap_count, run_, depth_, scratch};
    job.panels = reinterpret_cast<const std::int8_t*>(panels_.data());
    job.tap_count = 1;
    while (windows.first < job.last) {
        const std::int64_t x = windows.first % grid.width;
        const std::int64_t left = std::min(block_, job.last - windows.first);
        const bool rows = x == 0 && grid.width <= left;  // else a part of one row
        const std::int64_t pixels = rows ? left / grid.width * grid.width : std::min(left, grid.width - x);
        windows.last = windows.first + pixels;
        DotJob block = job;
        block.first = 0;
        block.last = pixels;
        block.grid.width = rows ? grid.width : pixels;
        block.out = out + windows.first / grid.width * grid.out_row + x * grid.out_step;
        multiply(windows, block, scratch);
        windows.first = windows.last;
    }
}

class LookupMultiplier final : public FamilyMultiplier {
public:
    LookupMultiplier(const GroupWeights& weights, const Kernels& kernels)
        : LookupMultiplier(weights, kernels, TableForm(weights)) {}

private:
    LookupMultiplier(const GroupWeights& weights, const Kernels& kernels, const TableForm& form)
        : FamilyMultiplier(weights, kernels, TABLE_PIXELS),
          form_(form),
          tables_(static_cast<std::int32_t>(round_up(weights.depth(), TABLE_UNIT * form.group) / form.group)) {
        plan_tables();
        std::uint8_t codes[256] = {};
        for (std::size_t code = 0; code < form.numbers.size(); ++code)
            codes[form.numbers[code] + 128] = static_cast<std::uint8_t>(code);
        panels_ = AlignedBytes(static_cast<std::size_t>(columns_ * tables_));
        each_column(weights, kernels, kernels_.lookup_vectors,
                   [&](int first, int width, int v, int lane, const std::int8_t* numbers) {
                       std::uint8_t* to = panels_.data() + std::int64_t{first} * kernels_.lanes * tables_ + lane * width + v;
                       for (std::int64_t k = 0; k < weights.depth(); ++k) {
                           const std::int64_t at = k / form.group * kernels_.lanes * width;
                           const int code = codes[numbers[k] + 128] << k % form.group * form.code_bits();
                           to[at] = static_cast<std::uint8_t>(to[at] | code);
                       }
                   });
    }

    std::int64_t scratch_bytes() const override {
        return rows_bytes() + PART_BYTES + block_ * columns_ * static_cast<std::int64_t>(sizeof(std::int32_t));
    }

    void multiply(const WindowJob& windows, DotJob& block, std::uint8_t* scratch) const override {
        constexpr auto MOST = static_cast<std::int32_t>(PART_BYTES / (TABLE_PIXELS * TABLE_BYTES));
        const std::int32_t part = std::min(MOST, form_.stretch / TABLE_UNIT * TABLE_UNIT);
        std::uint8_t* tables = scratch + rows_bytes();
        kernels_.windows(windows);
        side_by_side(block, TABLE_BYTES);
        block.in = tables;
        block.steps = tables_ / 4;
        LookupJob job{block, TABLE_BYTES * block.last, 0, 0, form_.run, static_cast<std::uint8_t>(form_.start), true, false,
                      reinterpret_cast<std::int32_t*>(tables + PART_BYTES), columns_};
        for (; job.skip < tables_; job.skip += part) {
            job.tables = std::min(part, tables_ - job.skip);
            job.begins = job.skip == 0;
            job.ends = job.skip + job.tables == tables_;
            kernels_.tables({scratch + std::int64_t{job.skip} * form_.group, depth_, block.last, form_.group,
                             job.tables, &plan_, tables, job.pitch});
            kernels_.lookup(job);
        }
    }

    // What activation j of a group adds to an entry.
    std::int8_t number(int j, int entry) const {
        if (j >= form_.group) return 0;
        const std::size_t code = static_cast<std::size_t>(entry >> j * form_.code_bits() & ((1 << form_.code_bits()) - 1));
        return code < form_.numbers.size() ? form_.numbers[code] : std::int8_t{0};
    }

    void plan_tables() {
        for (int i = 0; i < 2 * TABLE_BYTES; ++i) {
            for (int pair = 0; pair < 2; ++pair) {
                const int j = 2 * pair + i % 2;
                plan_.places[pair][i] = static_cast<std::int8_t>(i / static_cast<int>(TABLE_BYTES) * form_.group + std::min(j, form_.group - 1));
                for (int half = 0; half < 2; ++half)
                    plan_.numbers[pair][half][i] = number(j, 8 * half + i % static_cast<int>(TABLE_BYTES) / 2);
            }
        }
    }

    std::int64_t rows_bytes() const { return block_ * depth_ + ROW_UNIT; }

    TableForm form_;
    std::int32_t tables_;  // per pixel
    TablePlan plan_{};
};

// Weights as sums of planes.
struct PlaneForm {
    Planes form = Planes::positive;
    int planes = 1;

    PlaneForm(const GroupWeights& weights) {
        std::int8_t least = 0;
        std::int8_t most = 0;
        for (std::int64_t i = 0; i < weights.count(); ++i) {
            least = std::min(least, weights.numbers[i]);
            most = std::max(most, weights.numbers[i]);
        }
        const int lo = least, hi = most;
        form = lo < 0 ? Planes::negative : Planes::positive;
        planes = lo < 0 ? 1 + bits_of(std::max(hi, -lo - 1)) : bits_of(hi);
        if (lo == -1 && hi <= 0) planes = 1;  // bits of 0 would be one
        const int level_planes = bits_of(std::max(hi, -lo));
        const auto odd = [](std::int8_t n) { return n % 2 != 0; };
        if (level_planes < planes && std::all_of(weights.numbers, weights.numbers + weights.count(), odd)) {
            form = Planes::levels;
            planes = level_planes;
        }
    }

    int code(std::int8_t number) const {
        return form == Planes::levels ? (number + (1 << planes) - 1) / 2 : number & ((1 << planes) - 1);
    }
};

class BitMultiplier final : public FamilyMultiplier {
public:
    BitMultiplier(const GroupWeights& weights, const Kernels& kernels, const Epilogue& epilogue)
        : FamilyMultiplier(weights, kernels, pixels(weights)),
          form_(weights),
          words_(static_cast<std::int32_t>(words(weights))),
          in_planes_(bits_of(weights.most_input)),
          bias_(epilogue.bias, epilogue.bias + columns_) {
        const std::int64_t vector_bytes = std::int64_t{kernels_.lanes} * WORD_BYTES * words_ * form_.planes;
        panels_ = AlignedBytes(static_cast<std::size_t>(columns_ / kernels_.lanes * vector_bytes));
        const auto place = [&](int first, int width, int v, int lane, const std::int8_t* numbers) {
            std::uint8_t* to = panels_.data() + first * vector_bytes + (std::int64_t{v} * kernels_.lanes + lane) * WORD_BYTES;
            const std::int64_t word_bytes = std::int64_t{width} * kernels_.lanes * WORD_BYTES;
            std::int64_t total = 0;
            for (std::int64_t k = 0; k < weights.depth(); ++k) {
                const int code = form_.code(numbers[k]);
                total += code;
                for (int i = 0; i < form_.planes; ++i) {
                    std::uint8_t* at = to + (i * words_ + k / WORD_BITS) * word_bytes;
                    std::uint32_t word;
                    std::memcpy(&word, at, WORD_BYTES);
                    word |= static_cast<std::uint32_t>(code >> i & 1) << k % WORD_BITS;
                    std::memcpy(at, &word, WORD_BYTES);
                }
            }
            if (form_.form != Planes::levels) return;
            std::int32_t& bias = bias_[static_cast<std::size_t>((first + v) * kernels_.lanes + lane)];
            const auto rest = static_cast<std::uint32_t>(total * ((1 << in_planes_) - 1));
            bias = static_cast<std::int32_t>(static_cast<std::uint32_t>(bias) + rest);
        };
        each_column(weights, kernels, kernels_.bit_vectors, place);
    }

private:
    static std::int64_t words(const GroupWeights& weights) { return (weights.depth() + WORD_BITS - 1) / WORD_BITS; }

    static std::int64_t pixel_bytes(const GroupWeights& weights) {
        return WORD_BYTES * words(weights) * bits_of(weights.most_input);
    }
    static std::int64_t pixels(const GroupWeights& weights) {
        return std::clamp<std::int64_t>(PLANE_BYTES / pixel_bytes(weights), LEAST_PLANE_PIXELS, MOST_PLANE_PIXELS);
    }

    std::int64_t scratch_bytes() const override {
        return depth_ + ROW_UNIT + block_ * WORD_BYTES * words_ * in_planes_;
    }

    void multiply(const WindowJob& windows, DotJob& block, std::uint8_t* scratch) const override {
        const std::ptrdiff_t pitch = WORD_BYTES * block.last;
        std::uint8_t* planes = scratch + depth_ + ROW_UNIT;
        kernels_.planes(PlaneJob{windows, planes, pitch, in_planes_, words_});
        side_by_side(block, WORD_BYTES);
        block.in = planes;
        block.steps = words_ * form_.planes;
        block.epilogue.bias = bias_.data();
        kernels_.bits(BitJob{block, pitch, words_, in_planes_, form_.planes, form_.form});
    }

    PlaneForm form_;
    std::int32_t words_;
    std::int32_t in_planes_;
    std::vector<std::int32_t> bias_;  // with the columns' constants
};

}  // namespace

std::string family_name(Family family) {
    return family == Family::lookup ? "lookup" : family == Family::bit_planes ? "bit_planes" : "dot";
}

Family choose_family(Attributes& attributes, Family wanted, const GroupWeights& weights, const Kernels& kernels) {
    const std::string dot = family_name(Family::dot);
    if (family_kernels(kernels) == nullptr) {
        attributes.choose("family", {dot}, dot);
        return Family::dot;
    }
    const TableForm tables(weights);
    const int pairs = PlaneForm(weights).planes * bits_of(weights.most_input);
    std::vector<Family> ways = {Family::dot};
    if (tables.group > 0) ways.push_back(Family::lookup);
    if (pairs <= MOST_PLANE_PAIRS || wanted == Family::bit_planes) ways.push_back(Family::bit_planes);
    Family usual = wanted;
    if (wanted == Family::automatic) {
        const auto* found = std::find_if(std::begin(PREFERENCES), std::end(PREFERENCES), [&](const Preference& p) {
            if (p.needs_quick_counts && !counts_bits_quickly()) return false;
            return kernels.isa == std::string(p.isa) && weights.columns >= p.columns && weights.depth() >= p.depth &&
                   (p.family == Family::lookup ? tables.pace >= p.pace : pairs <= p.pace);
        });
        usual = found != std::end(PREFERENCES) ? found->family : Family::dot;
    }
    if (std::find(ways.begin(), ways.end(), usual) == ways.end()) usual = Family::dot;
    std::vector<std::string> names;
    for (const Family way : ways)
        names.push_back(family_name(way));
    const std::string chosen = attributes.choose("family", names, family_name(usual));
    return *std::find_if(ways.begin(), ways.end(), [&](Family way) { return family_name(way) == chosen; });
}

MultiplierPtr make_multiplier(Family family, const GroupWeights& weights, const Kernels& kernels,
                              const Epilogue& epilogue) {
    if (family == Family::lookup) return std::make_unique<LookupMultiplier>(weights, kernels);
    return std::make_unique<BitMultiplier>(weights, kernels, epilogue);
}

}  // namespace subbyte
