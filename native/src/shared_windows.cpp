// Eight codes at a time in a machine word: a window is 4 bits at a shift of at most 4, so nothing leaves its byte.

#include "shared_windows.h"

#include <algorithm>
#include <cstring>

#include "attributes.h"

namespace subbyte {
namespace {

constexpr std::int64_t WORD = 8;
constexpr std::uint64_t LOW = 0x0F0F0F0F0F0F0F0FULL;

std::uint64_t load(const std::uint8_t* p) {
    std::uint64_t word;
    std::memcpy(&word, p, WORD);
    return word;
}

void store(std::uint8_t* p, std::uint64_t word) {
    std::memcpy(p, &word, WORD);
}

// Places one behind the other, `bits` each, the first one lowest.
class PlaceWriter {
public:
    PlaceWriter(std::uint8_t* out, int bits) : out_(out), bits_(bits) {}
    void put(unsigned place) {
        held_ |= place << count_;
        count_ += bits_;
        if (count_ >= 8) flush();
    }
    void finish() {
        if (count_ > 0) flush();
    }

private:
    void flush() {
        *out_++ = static_cast<std::uint8_t>(held_);
        held_ >>= 8;
        count_ = std::max(count_ - 8, 0);
    }
    std::uint8_t* out_;
    unsigned held_ = 0;
    int bits_, count_ = 0;
};

class PlaceReader {
public:
    PlaceReader(const std::uint8_t* in, std::int64_t bytes, int bits) : in_(in), end_(in + bytes), bits_(bits) {}
    unsigned take() {
        if (count_ < bits_) {
            for (; count_ <= 48 && in_ < end_; count_ += 8)
                held_ |= std::uint64_t{*in_++} << count_;
        }
        const auto place = static_cast<unsigned>(held_) & ((1U << bits_) - 1);
        held_ >>= bits_;
        count_ -= bits_;
        return place;
    }

private:
    const std::uint8_t* in_;
    const std::uint8_t* end_;
    std::uint64_t held_ = 0;
    int bits_, count_ = 0;
};

int place_bits(const SharedWindows& form) {
    int bits = 0;
    while ((std::size_t{1} << bits) < form.shifts.size())
        ++bits;
    return bits;
}

struct Parts {
    std::int64_t halves, places, signs;
};

Parts parts(const SharedWindows& form, std::int64_t rows) {
    const std::int64_t whole = form.channels / form.run;
    const std::int64_t tail = form.channels % form.run;
    const std::int64_t runs = whole + (tail != 0 ? 1 : 0);
    return Parts{rows * (whole * form.run / 2 + (tail + 1) / 2), (rows * runs * place_bits(form) + 7) / 8,
                 form.zero != 0 ? (rows * form.channels + 7) / 8 : 0};
}

int magnitude(std::uint8_t code, std::uint8_t zero) {
    return std::abs(int{code} - int{zero});
}

// Bits that the window loses, 0 where it holds the run. The top bit of all numbers is that of the largest.
template <class Place>
std::uint64_t pack_words(const std::uint8_t* codes, std::int64_t run, const Place& place_of, const Dims& shifts,
                         PlaceWriter& places, std::uint8_t* out) {
    std::uint64_t any = 0;
    for (std::int64_t i = 0; i < run; i += WORD)
        any |= load(codes + i);
    any |= any >> 32;
    any |= any >> 16;
    any |= any >> 8;
    const unsigned place = place_of[any & 0xFF];
    const auto shift = static_cast<unsigned>(shifts[place]);
    std::uint64_t lost = 0;
    for (std::int64_t i = 0; i < run / 2; i += WORD) {
        const std::uint64_t a = load(codes + i), b = load(codes + run / 2 + i);
        const std::uint64_t low = (a >> shift) & LOW, high = (b >> shift) & LOW;
        lost |= ((low << shift) ^ a) | ((high << shift) ^ b);
        store(out + i, low | high << 4);
    }
    places.put(place);
    return lost;
}

// Any run, number by number.
template <class Place>
bool pack_numbers(const SharedWindows& form, const std::uint8_t* codes, std::int64_t count, const Place& place_of,
                  PlaceWriter& places, std::uint8_t* out) {
    int most = 0;
    for (std::int64_t i = 0; i < count; ++i)
        most = std::max(most, magnitude(codes[i], form.zero));
    const unsigned place = place_of[static_cast<std::size_t>(most)];
    const int shift = static_cast<int>(form.shifts[place]);
    const std::int64_t half = (count + 1) / 2;
    bool fits = true;
    const auto kept = [&](std::int64_t i) {
        const int size = magnitude(codes[i], form.zero);
        fits = fits && size >> shift << shift == size;
        return size >> shift;
    };
    for (std::int64_t i = 0; i < half; ++i)
        out[i] = static_cast<std::uint8_t>(kept(i) | (half + i < count ? kept(half + i) << 4 : 0));
    places.put(place);
    return fits;
}

}  // namespace

std::int64_t packed_bytes(const SharedWindows& form, std::int64_t rows) {
    const std::string where = "shared windows";
    const Dims& s = form.shifts;
    if (form.run != 16 && form.run != 32) fail(where, "runs are of 16 or 32 channels");
    if (form.channels < 1 || rows < 0 || (rows > 0 && form.channels > INT64_MAX / 16 / rows))
        fail(where, "there are no or too many channels");
    if (s.size() < 2 || s.size() > 8 || s.front() < 0 || s.back() != 4 || !std::is_sorted(s.begin(), s.end()))
        fail(where, "the shifts " + text(s) + " do not rise to 4");
    const Parts p = parts(form, rows);
    return p.halves + p.places + p.signs;
}

bool pack_shared(const SharedWindows& form, const std::uint8_t* codes, std::int64_t rows, std::uint8_t* bytes) {
    std::uint8_t place_of[256];  // by magnitude: the first shift whose window reaches its top bit
    for (int size = 0; size < 256; ++size) {
        std::uint8_t place = 0;
        while (size >= 16 << form.shifts[place])
            ++place;
        place_of[size] = place;
    }
    const Parts p = parts(form, rows);
    PlaceWriter places(bytes + p.halves, place_bits(form));
    std::uint8_t* out = bytes;
    std::uint64_t lost = 0;
    bool fits = true;
    for (std::int64_t row = 0; row < rows; ++row) {
        const std::uint8_t* in = codes + row * form.channels;
        std::int64_t first = 0;
        for (; form.zero == 0 && first + form.run <= form.channels; first += form.run, out += form.run / 2)
            lost |= pack_words(in + first, form.run, place_of, form.shifts, places, out);
        for (; first < form.channels; first += form.run) {
            const std::int64_t count = std::min(form.run, form.channels - first);
            fits = pack_numbers(form, in + first, count, place_of, places, out) && fits;
            out += (count + 1) / 2;
        }
    }
    places.finish();
    std::uint8_t* signs = bytes + p.halves + p.places;
    for (std::int64_t i = 0; p.signs != 0 && i < rows * form.channels; ++i) {
        const int before = i % 8 != 0 ? signs[i / 8] : 0;
        signs[i / 8] = static_cast<std::uint8_t>(before | (codes[i] < form.zero ? 1 << i % 8 : 0));
    }
    return fits && lost == 0;
}

Unpacked unpack_shared(const SharedWindows& form, const std::uint8_t* bytes, std::int64_t rows, std::uint8_t* codes) {
    const Parts p = parts(form, rows);
    PlaceReader places(bytes + p.halves, p.places, place_bits(form));
    const std::uint8_t* in = bytes;
    for (std::int64_t row = 0; row < rows; ++row) {
        std::uint8_t* out = codes + row * form.channels;
        for (std::int64_t first = 0; first < form.channels; first += form.run, out += form.run) {
            const unsigned place = places.take();
            if (place >= form.shifts.size()) return Unpacked::wrong_place;
            const auto shift = static_cast<unsigned>(form.shifts[place]);
            const std::int64_t count = std::min(form.run, form.channels - first);
            const std::int64_t half = (count + 1) / 2;
            if (count == form.run) {
                for (std::int64_t i = 0; i < half; i += WORD) {
                    const std::uint64_t both = load(in + i);
                    store(out + i, (both & LOW) << shift);
                    store(out + half + i, (both >> 4 & LOW) << shift);
                }
            } else {
                for (std::int64_t i = 0; i < count; ++i)
                    out[i] = static_cast<std::uint8_t>((i < half ? in[i] & 15 : in[i - half] >> 4) << shift);
            }
            in += half;
        }
    }
    if (p.signs == 0) return Unpacked::good;
    const std::uint8_t* signs = bytes + p.halves + p.places;
    bool inside = true;
    for (std::int64_t i = 0; i < rows * form.channels; ++i) {
        const int size = codes[i];
        const int code = form.zero + ((signs[i / 8] >> i % 8 & 1) != 0 ? -size : size);
        inside = inside && code >= 0 && code <= 255;
        codes[i] = static_cast<std::uint8_t>(code);
    }
    return inside ? Unpacked::good : Unpacked::beyond_codes;
}

}  // namespace subbyte
