#include "ops/panels.h"

#include <algorithm>
#include <cstring>

namespace subbyte {
namespace {

constexpr std::int64_t LARGE = std::int64_t{1} << 20;  // numbers that no second-level cache keeps beside others
constexpr std::int64_t MANY_PIXELS = 16;               // that hide the time to read such weights
constexpr std::int64_t CHUNK_BYTES = 24 * 1024;  // unpacked at once: what leaves room for pixels in the first cache
constexpr std::int64_t SUM_BYTES = 128 * 1024;   // of pixels' sums at once: a part of the second cache
constexpr std::int64_t LINE = 64;
// Sums of 255 * 31 per weight, or of 255 * 3 that lie 2 bits further left, or of 255 that lie 3, fit 32 bits.
constexpr std::int64_t LONGEST_EVEN = std::int64_t{1} << 19;

std::int64_t round_up(std::int64_t n, std::int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

// Up to how many pixels decoding in registers is faster than unpacking first. Shallow products are soon outweighed by
// what a pixel costs by itself: it is rescaled on its own. Measured.
std::int64_t most_thin_pixels(int bits, std::int32_t step, std::int64_t depth) {
    constexpr std::int64_t DEPTH_PER_PIXEL = 32;
    if (bits == PLAIN_BITS) return 0;
    const std::int64_t most = BlockShape(bits).plane && step == 0 ? 16 : MOST_THIN_PIXELS;
    return std::min(most, std::max<std::int64_t>(depth / DEPTH_PER_PIXEL, 1));
}

}  // namespace

bool keep_packed(Packing packing, std::int64_t numbers, std::int64_t taps, std::int64_t pixels, std::int64_t levels) {
    if (packing != Packing::automatic) return packing == Packing::packed;
    return numbers >= LARGE && taps == 1 && pixels <= (levels > 16 ? 2 : 16);  // up to which it is not slower; measured
}

bool choose_packed(Attributes& attributes, const Weights& weights, bool usual) {
    std::vector<std::string> ways = {"unpacked"};
    if (usual || weights.levels <= MOST_LEVELS) ways.push_back("packed");
    return attributes.choose("weights", ways, usual ? "packed" : "unpacked") == "packed";
}

Panels::Panels(const std::int8_t* numbers, const Shape& shape, const Layout& in, const Kernels& kernels,
               bool pack_them)
    : kernels_(&kernels),
      packed_(&packed_kernels(kernels)),
      shape_(shape),
      vector_bytes_(std::int64_t{4} * kernels.lanes) {
    std::vector<std::int64_t> panels;
    const std::int64_t steps = shape.taps * (round_up(shape.run, 4) / 4);
    columns_.push_back(0);
    for (std::int64_t left = round_up(shape.columns, kernels.lanes) / kernels.lanes; left > 0;) {
        const int width = panel_vectors(static_cast<int>(left), kernels.most_vectors);
        if (width == kernels.most_vectors) ++wide_panels_;
        panels.push_back(width * steps);
        columns_.push_back(columns_.back() + width * kernels.lanes);
        left -= width;
    }
    const std::int64_t count = shape.columns * shape.taps * shape.run;
    const Codebook book = pack_them ? Codebook(numbers, count, shape.run % 4 != 0) : Codebook();
    keep_codes(book);
    const bool thin = packed_->thin != nullptr && packed_->vectors == kernels.most_vectors && shape.taps == 1 &&
                      shape.pixels <= most_thin_pixels(bits_, step_, shape.run) && wide_panels_ > 0;
    thin_pixels_ = thin ? shape.pixels : 0;
    const bool from_memory = count >= LARGE && shape.pixels <= MANY_PIXELS;  // where twice the bytes take twice the time
    sums_ = Accumulation({numbers, shape.columns, shape.taps, shape.run}, std::max(in.hi, in.zero_point), kernels,
                         !thin && bits_ == PLAIN_BITS && !from_memory);
    pack(pack_panels(numbers, shape.columns, shape.taps, shape.run, kernels), panels, book);
}

Panels::Panels(const std::vector<std::int8_t>& plain, const Kernels& kernels, bool pack_them)
    : kernels_(&kernels), packed_(&packed_kernels(kernels)), vector_bytes_(std::int64_t{4} * kernels.lanes) {
    const auto size = static_cast<std::int64_t>(plain.size());
    const Codebook book = pack_them ? Codebook(plain.data(), size, false) : Codebook();
    keep_codes(book);
    pack(plain, {size / vector_bytes_}, book);
}

void Panels::keep_codes(const Codebook& book) {
    bits_ = book.bits();
    std::copy(book.table(), book.table() + MOST_LEVELS, table_);
    step_ = shape_.run <= LONGEST_EVEN ? book.step() : 0;
}

void Panels::pack(const std::vector<std::int8_t>& plain, const std::vector<std::int64_t>& panels,
                  const Codebook& book) {
    const BlockShape shape(bits_);
    starts_.push_back(0);
    offsets_.push_back(0);
    for (const std::int64_t count : panels) {
        const std::int64_t blocks = round_up(count, shape.vectors()) / shape.vectors();
        starts_.push_back(starts_.back() + count);
        offsets_.push_back(offsets_.back() + blocks * shape.packed_vectors() * vector_bytes_);
    }
    if (bits_ == PLAIN_BITS) return keep_plain(plain);
    data_ = AlignedBytes(static_cast<std::size_t>(offsets_.back()));
    const std::vector<std::uint8_t> codes = book.codes(plain);
    for (std::size_t p = 0; p < panels.size(); ++p) {
        std::uint8_t* block = data_.data() + offsets_[p];
        for (std::int64_t v = starts_[p]; v < starts_[p + 1]; v += shape.vectors()) {
            const std::int64_t some = std::min<std::int64_t>(shape.vectors(), starts_[p + 1] - v);
            pack_block(codes.data() + v * vector_bytes_, some, vector_bytes_, shape, block);
            block += shape.packed_vectors() * vector_bytes_;
        }
    }
}

// As they are, but as the plan of the sums says where there is one: steps in its order, or both halves of vectors.
void Panels::keep_plain(const std::vector<std::int8_t>& plain) {
    for (std::size_t p = 0; p < sums_.panels().size(); ++p)
        offsets_[p + 1] = offsets_[p] + sums_.panels()[p].bytes;
    data_ = AlignedBytes(static_cast<std::size_t>(offsets_.back()));
    std::memcpy(data_.data(), plain.data(), plain.size());
    const std::int64_t steps = shape_.taps * (round_up(shape_.run, 4) / 4);
    std::uint8_t* out = data_.data();
    const std::int8_t* panel = plain.data();
    for (const PanelSum& sum : sums_.panels()) {
        const bool split = sum.how == Accumulate::split;
        const std::int64_t step_bytes = sum.bytes / steps / (split ? 2 : 1);
        for (std::int64_t i = 0; i < steps; ++i) {
            const std::int8_t* step = panel + step_bytes * (sum.how == Accumulate::steps ? sum.detail[i] : i);
            for (const std::int8_t* vector = step; vector != step + step_bytes; vector += vector_bytes_) {
                out = std::transform(vector, vector + vector_bytes_, out, [&](std::int8_t n) {
                    return static_cast<std::uint8_t>(split ? low_half(n) : n);
                });
                if (split) out = std::transform(vector, vector + vector_bytes_, out, high_half);
            }
        }
        panel += step_bytes * steps;
    }
}

// Panel by panel, in order: the rest of a panel's last block is overwritten by the next panel.
void Panels::unpack(std::size_t first, std::size_t last, std::int8_t* out) const {
    for (std::size_t p = first; p < last; ++p) {
        packed_->unpack({data_.data() + offsets_[p], table_, bits_, vectors(p, p + 1), out});
        out += vectors(p, p + 1) * vector_bytes_;
    }
}

std::int64_t Panels::scratch_bytes() const {
    std::int64_t bytes = 0;
    if (bits_ != PLAIN_BITS) {
        for (std::size_t p = 0; p < count(); ++p)
            bytes = std::max(bytes, vectors(p, p + 1) * vector_bytes_);
        bytes = std::max(bytes, std::min(CHUNK_BYTES, starts_.back() * vector_bytes_));
        bytes += BlockShape(bits_).vectors() * vector_bytes_;
    }
    if (thin_pixels_ == 0) return bytes;
    return std::max(bytes, thin_pixels_ * (pitch() + 4 * chunk() * panel_columns()));
}

std::int64_t Panels::wide_columns() const {
    std::int64_t columns = 0;
    for (std::size_t p = 0; p < sums_.panels().size(); ++p) {
        const Accumulate how = sums_.panels()[p].how;
        if (how == Accumulate::split || how == Accumulate::exact)
            columns += std::min(columns_[p + 1], shape_.columns) - columns_[p];
    }
    return columns;
}

const std::int8_t* Panels::unpacked(std::uint8_t* scratch) const {
    if (bits_ == PLAIN_BITS) return reinterpret_cast<const std::int8_t*>(data_.data());
    auto* out = reinterpret_cast<std::int8_t*>(scratch);
    unpack(0, count(), out);
    return out;
}

Shares Panels::shares(Part part, std::int64_t pixels) const {
    constexpr std::int64_t FEW = 32;  // per part
    const auto panels = static_cast<std::int64_t>(count());
    const bool even = panels % part.count == 0 || panels >= 4 * part.count;
    if (pixels < part.count || (pixels < FEW * part.count && even)) return {Part{}, part};
    return {part, Part{}};
}

// The columns of panels first..last-1 only.
DotJob Panels::share(DotJob job, std::size_t first, std::size_t last) const {
    const std::int64_t column = columns_[first];
    job.columns = static_cast<std::int32_t>(std::min(columns_[last], std::int64_t{job.columns}) - column);
    job.out += column * result_bytes(job.epilogue);
    job.sums = sums_.from(first);
    job.epilogue.bias += column;
    job.epilogue.m += column;
    job.epilogue.n += column;
    job.epilogue.m_neg += column;
    job.epilogue.n_neg += column;
    job.epilogue.scale += column;
    job.epilogue.scale_neg += column;
    job.epilogue.rules += column / kernels_->lanes;
    return job;
}

void Panels::dot(const DotJob& job, Part part, std::uint8_t* scratch) const {
    const auto panels = static_cast<std::int64_t>(count());
    auto first = static_cast<std::size_t>(part.begin(panels));
    const auto end = static_cast<std::size_t>(part.end(panels));
    if (thin_pixels_ > 0 && first < std::min(end, wide_panels_)) {
        dot_thin(job, first, std::min(end, wide_panels_), scratch);
        first = std::min(end, wide_panels_);
    }
    while (first < end) {
        std::size_t last = bits_ == PLAIN_BITS ? end : first + 1;
        while (last < end && vectors(first, last + 1) * vector_bytes_ <= CHUNK_BYTES)
            ++last;
        DotJob some = share(job, first, last);
        if (bits_ == PLAIN_BITS) {
            some.panels = reinterpret_cast<const std::int8_t*>(data_.data() + offsets_[first]);
        } else {
            unpack(first, last, reinterpret_cast<std::int8_t*>(scratch));
            some.panels = reinterpret_cast<const std::int8_t*>(scratch);
        }
        kernels_->dot(some);
        first = last;
    }
}

// Sums of all pixels first; then the ordinary kernel, given no step to add, rescales and stores them.
void Panels::dot_thin(const DotJob& job, std::size_t first, std::size_t last, std::uint8_t* scratch) const {
    const std::int64_t pixels = job.last - job.first;
    std::uint8_t* x = scratch + thin_pixels_ * 4 * chunk() * panel_columns();
    std::int64_t out[MOST_THIN_PIXELS];
    for (std::int64_t i = 0; i < pixels; ++i) {
        const std::int64_t row = (job.first + i) / job.grid.width;
        const std::int64_t column = (job.first + i) % job.grid.width;
        out[i] = row * job.grid.out_row + column * job.grid.out_step;
        std::memcpy(x + i * pitch(), job.in + row * job.grid.in_row + column * job.grid.in_step,
                    static_cast<std::size_t>(shape_.run));
        std::memset(x + i * pitch() + shape_.run, 0, static_cast<std::size_t>(pitch() - shape_.run));
    }
    while (first < last) {
        const std::size_t next = std::min(last, first + static_cast<std::size_t>(chunk()));
        DotJob some = share(job, first, next);
        const std::int64_t columns = columns_[next] - columns_[first];
        auto* sums = reinterpret_cast<std::int32_t*>(scratch);
        for (std::int64_t i = 0; i < pixels; ++i)
            std::memcpy(sums + i * columns, some.epilogue.bias, static_cast<std::size_t>(4 * columns));
        packed_->thin({data_.data() + offsets_[first], table_, bits_, step_, sums_.pairs_fit(), x, pitch(), pixels,
                       job.tap_count * job.steps, static_cast<std::int32_t>(next - first), sums, columns});
        some.steps = 0;
        some.tap_count = 0;
        some.grid.width = 1;
        some.first = 0;
        some.last = 1;
        some.panels = table_;  // not read
        std::uint8_t* pixel0 = some.out;
        for (std::int64_t i = 0; i < pixels; ++i) {
            some.out = pixel0 + out[i];
            some.epilogue.bias = sums + i * columns;
            kernels_->dot(some);
        }
        first = next;
    }
}

std::int64_t Panels::panel_columns() const {
    return std::int64_t{kernels_->most_vectors} * kernels_->lanes;
}

std::int64_t Panels::chunk() const {
    const std::int64_t fitting = SUM_BYTES / (4 * panel_columns() * thin_pixels_);
    return std::min(std::max<std::int64_t>(fitting, 1), static_cast<std::int64_t>(wide_panels_));
}

std::int64_t Panels::pitch() const {
    return round_up(shape_.run, LINE);
}

}  // namespace subbyte
