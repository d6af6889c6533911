// Reads an OpSpec: every attribute and array is fetched once with its bounds, and none may be left over.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "subbyte/plan.h"
#include "subbyte/spec.h"

namespace subbyte {

[[noreturn]] void fail(const std::string& where, const std::string& what);
std::string text(const Dims& dims);

// Product of dimensions; fails where one is below 1 or the product exceeds 2^31 - 1.
std::int64_t product(const Dims& dims, const std::string& where);

class Attributes {
public:
    Attributes(const OpSpec& spec, const std::vector<Layout>& values) : spec_(spec), values_(values) {}

    std::int64_t one(const std::string& name, std::int64_t lo, std::int64_t hi);
    bool flag(const std::string& name) { return one(name, 0, 1) != 0; }
    Dims list(const std::string& name, std::size_t count, std::int64_t lo, std::int64_t hi);
    Dims any_list(const std::string& name);

    bool has_array(const std::string& name) const { return spec_.arrays.count(name) != 0; }
    Storage storage(const std::string& name) const { return spec_.arrays.at(name).storage; }
    const ArraySpec& array(const std::string& name, Storage storage);
    std::vector<std::int32_t> int32s(const std::string& name, std::int64_t count, std::int64_t lo, std::int64_t hi);

    // The way that the specification chooses for a knob, or the usual one; refused where it is none of the ways.
    // A knob that means nothing beside what other knobs say.
    void pass_over(const std::string& knob);
    std::string choose(const std::string& knob, const std::vector<std::string>& ways, const std::string& usual);
    std::int64_t choose(const std::string& knob, const Dims& ways, std::int64_t usual);
    const std::vector<Knob>& knobs() const { return knobs_; }  // those with more than one way

    void arity(std::size_t least, std::size_t most);
    const Layout& in(std::size_t index) const { return values_[static_cast<std::size_t>(spec_.inputs[index])]; }
    const Layout& out() const { return values_[static_cast<std::size_t>(spec_.output)]; }
    // lo and hi inside the result's range.
    void clamp(std::int32_t& lo, std::int32_t& hi);
    // Axis of a sample from an axis of the batch.
    std::size_t axis(const std::string& name);
    void result(const Dims& shape) const;
    // The result keeps zero point and storage of each input and holds its range.
    void moved() const;
    void done() const;  // nothing is left over

    [[noreturn]] void fail(const std::string& what) const;

private:
    const OpSpec& spec_;
    const std::vector<Layout>& values_;
    std::set<std::string> used_;
    std::vector<Knob> knobs_;
};

constexpr std::int64_t INT32_LO = -2147483648LL;
constexpr std::int64_t INT32_HI = 2147483647LL;
constexpr std::int64_t MOST_CELLS = 1 << 24;  // of a window, stride or padding: keeps products of them in int64

// Whether a product of at most this magnitude still fits int32 after its division by 2^n.
bool result_fits(double magnitude, std::int32_t n);

// Largest |q - zero_point| of a value, or magnitude that its codes stand for.
std::int64_t largest(const Layout& value);

}  // namespace subbyte
