#include "ops/panels.h"

#include <algorithm>
#include <cstring>

#include "subbyte/plan.h"

namespace subbyte {
namespace {

constexpr std::int64_t CHUNK_BYTES = 24 * 1024;  // unpacked at once: what leaves room for pixels in the first cache
constexpr std::int64_t THIN_PIXELS = 16;         // up to which decoding in registers wins; measured
constexpr std::int64_t LINE = 64;

std::int64_t round_up(std::int64_t n, std::int64_t unit) {
    return (n + unit - 1) / unit * unit;
}

// One block from up to shape.vectors() vectors of codes; see kernels/packed.h.
void pack_block(const std::uint8_t* codes, std::int64_t vectors, std::int64_t bytes, const BlockShape& shape,
                std::uint8_t* block) {
    const int fields = 8 / shape.low_bits;
    const int mask = (1 << shape.low_bits) - 1;
    for (int j = 0; j < vectors; ++j) {
        std::uint8_t* low = block + j / fields * bytes;
        std::uint8_t* plane = block + shape.low_vectors() * bytes;
        for (std::int64_t i = 0; i < bytes; ++i) {
            const int code = codes[j * bytes + i];
            low[i] = static_cast<std::uint8_t>(low[i] | (code & mask) << (shape.low_bits * (j % fields)));
            if (shape.plane) plane[i] = static_cast<std::uint8_t>(plane[i] | (code >> shape.low_bits) << j);
        }
    }
}

}  // namespace

bool keep_packed(Packing packing, std::int64_t numbers, std::int64_t taps, std::int64_t pixels) {
    constexpr std::int64_t LARGE = std::int64_t{1} << 20;  // numbers that no second-level cache keeps beside others
    if (packing != Packing::automatic) return packing == Packing::packed;
    return numbers >= LARGE && taps == 1 && pixels <= THIN_PIXELS;
}

bool choose_packed(Attributes& attributes, const Weights& weights, bool usual) {
    std::vector<std::string> ways = {"unpacked"};
    if (usual || weights.levels <= MOST_LEVELS) ways.push_back("packed");
    return attributes.choose("weights", ways, usual ? "packed" : "unpacked") == "packed";
}

Codebook::Codebook(const std::int8_t* numbers, std::int64_t count, bool padded) {
    bool seen[256] = {};
    seen[128] = padded;
    for (std::int64_t i = 0; i < count; ++i)
        seen[numbers[i] + 128] = true;
    int levels = 0;
    for (int n = 0; n < 256; ++n) {
        if (!seen[n]) continue;
        if (levels == MOST_LEVELS) return;  // with the bits of plain numbers
        codes_[static_cast<std::uint8_t>(n - 128)] = static_cast<std::uint8_t>(levels);
        table_[levels++] = static_cast<std::int8_t>(n - 128);
    }
    bits_ = 1;
    while (1 << bits_ < levels)
        ++bits_;
}

Panels::Panels(const std::int8_t* numbers, const Shape& shape, const Layout& in, const Kernels& kernels,
               bool pack_them)
    : kernels_(&kernels),
      packed_(&packed_kernels(kernels)),
      shape_(shape),
      sums_(numbers, shape.columns, shape.taps, shape.run, std::max(in.hi, in.zero_point), kernels),
      vector_bytes_(std::int64_t{4} * kernels.lanes) {
    const std::vector<std::int8_t> plain = pack_panels(numbers, shape.columns, shape.taps, shape.run, kernels);
    std::vector<std::int64_t> panels;
    const std::int64_t steps = shape.taps * (round_up(shape.run, 4) / 4);
    const std::int64_t lanes = kernels.lanes;
    for (std::int64_t left = round_up(shape.columns, lanes) / lanes; left > 0;) {
        const int width = panel_vectors(static_cast<int>(left), kernels.most_vectors);
        if (width == kernels.most_vectors) ++wide_panels_;
        panels.push_back(width * steps);
        left -= width;
    }
    const std::int64_t count = shape.columns * shape.taps * shape.run;
    pack(plain, panels, pack_them ? Codebook(numbers, count, shape.run % 4 != 0) : Codebook());
    const bool thin = packed_->thin != nullptr && packed_->vectors == kernels.most_vectors &&
                      shape.taps == 1 && shape.pixels <= THIN_PIXELS && wide_panels_ > 0;
    thin_pixels_ = thin ? shape.pixels : 0;
}

Panels::Panels(const std::vector<std::int8_t>& plain, const Kernels& kernels, bool pack_them)
    : kernels_(&kernels), packed_(&packed_kernels(kernels)), vector_bytes_(std::int64_t{4} * kernels.lanes) {
    const auto count = static_cast<std::int64_t>(plain.size());
    pack(plain, {count / vector_bytes_}, pack_them ? Codebook(plain.data(), count, false) : Codebook());
}

void Panels::pack(const std::vector<std::int8_t>& plain, const std::vector<std::int64_t>& panels,
                  const Codebook& book) {
    bits_ = book.bits();
    std::copy(book.table(), book.table() + MOST_LEVELS, table_);
    const BlockShape shape(bits_);
    starts_.push_back(0);
    offsets_.push_back(0);
    for (const std::int64_t count : panels) {
        const std::int64_t blocks = round_up(count, shape.vectors()) / shape.vectors();
        starts_.push_back(starts_.back() + count);
        offsets_.push_back(offsets_.back() + blocks * shape.packed_vectors() * vector_bytes_);
    }
    if (bits_ == PLAIN_BITS) {
        data_ = AlignedBytes(plain.size());
        std::memcpy(data_.data(), plain.data(), plain.size());
        return;
    }
    std::vector<std::uint8_t> codes(plain.size());
    std::transform(plain.begin(), plain.end(), codes.begin(), [&](std::int8_t n) { return book.code(n); });
    data_ = AlignedBytes(static_cast<std::size_t>(offsets_.back()));
    for (std::size_t p = 0; p < panels.size(); ++p) {
        std::uint8_t* block = data_.data() + offsets_[p];
        for (std::int64_t v = starts_[p]; v < starts_[p + 1]; v += shape.vectors()) {
            const std::int64_t some = std::min<std::int64_t>(shape.vectors(), starts_[p + 1] - v);
            pack_block(codes.data() + v * vector_bytes_, some, vector_bytes_, shape, block);
            block += shape.packed_vectors() * vector_bytes_;
        }
    }
}

std::int64_t Panels::vectors(std::size_t first, std::size_t last) const {
    return starts_[last] - starts_[first];
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
        for (std::size_t p = 0; p + 1 < starts_.size(); ++p)
            bytes = std::max(bytes, vectors(p, p + 1) * vector_bytes_);
        bytes = std::max(bytes, std::min(CHUNK_BYTES, starts_.back() * vector_bytes_));
        bytes += BlockShape(bits_).vectors() * vector_bytes_;
    }
    return std::max(bytes, thin_pixels_ * (pitch() + 4 * wide_columns()));
}

const std::int8_t* Panels::unpacked(std::uint8_t* scratch) const {
    if (bits_ == PLAIN_BITS) return reinterpret_cast<const std::int8_t*>(data_.data());
    auto* out = reinterpret_cast<std::int8_t*>(scratch);
    unpack(0, starts_.size() - 1, out);
    return out;
}

// The columns of panels first..last-1 only.
DotJob Panels::share(DotJob job, std::size_t first, std::size_t last) const {
    const std::int64_t steps = std::int64_t{job.tap_count} * job.steps;
    const std::int64_t column = starts_[first] / steps * kernels_->lanes;
    const std::int64_t columns = vectors(first, last) / steps * kernels_->lanes;
    job.columns = static_cast<std::int32_t>(std::min(columns, job.columns - column));
    job.out += column * (job.epilogue.wide ? 2 : 1);
    job.sums = sums_.from(first);
    job.epilogue.bias += column;
    job.epilogue.m += column;
    job.epilogue.n += column;
    job.epilogue.m_neg += column;
    job.epilogue.n_neg += column;
    if (job.epilogue.lift != nullptr) job.epilogue.lift += column;
    job.epilogue.scale += column;
    job.epilogue.scale_neg += column;
    job.epilogue.rules += column / kernels_->lanes;
    return job;
}

void Panels::dot(DotJob job, std::uint8_t* scratch) const {
    const std::size_t panels = starts_.size() - 1;
    if (bits_ == PLAIN_BITS && thin_pixels_ == 0) {
        job.panels = reinterpret_cast<const std::int8_t*>(data_.data());
        job.sums = sums_.from(0);
        kernels_->dot(job);
        return;
    }
    std::size_t first = 0;
    if (thin_pixels_ > 0) {
        dot_thin(share(job, 0, wide_panels_), scratch);
        first = wide_panels_;
    }
    while (first < panels) {
        std::size_t last = bits_ == PLAIN_BITS ? panels : first + 1;
        while (last < panels && vectors(first, last + 1) * vector_bytes_ <= CHUNK_BYTES)
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
void Panels::dot_thin(DotJob job, std::uint8_t* scratch) const {
    const std::int64_t pixels = job.last - job.first;
    auto* sums = reinterpret_cast<std::int32_t*>(scratch);
    std::uint8_t* x = scratch + thin_pixels_ * 4 * wide_columns();
    std::uint8_t* out[THIN_PIXELS];
    for (std::int64_t i = 0; i < pixels; ++i) {
        const std::int64_t row = (job.first + i) / job.grid.width;
        const std::int64_t column = (job.first + i) % job.grid.width;
        out[i] = job.out + row * job.grid.out_row + column * job.grid.out_step;
        std::memcpy(x + i * pitch(), job.in + row * job.grid.in_row + column * job.grid.in_step,
                    static_cast<std::size_t>(shape_.run));
        std::memset(x + i * pitch() + shape_.run, 0, static_cast<std::size_t>(pitch() - shape_.run));
        std::memcpy(sums + i * wide_columns(), job.epilogue.bias, static_cast<std::size_t>(4 * wide_columns()));
    }
    packed_->thin({data_.data(), table_, bits_, sums_.pairs_fit(), x, pitch(), pixels, job.steps,
                   static_cast<std::int32_t>(wide_panels_), sums, wide_columns()});
    job.steps = 0;
    job.tap_count = 0;
    job.grid.width = 1;
    job.first = 0;
    job.last = 1;
    job.panels = table_;  // not read
    for (std::int64_t i = 0; i < pixels; ++i) {
        job.out = out[i];
        job.epilogue.bias = sums + i * wide_columns();
        kernels_->dot(job);
    }
}

std::int64_t Panels::pitch() const {
    return round_up(shape_.run, LINE);
}

std::int64_t Panels::wide_columns() const {
    return static_cast<std::int64_t>(wide_panels_) * kernels_->most_vectors * kernels_->lanes;
}

}  // namespace subbyte
