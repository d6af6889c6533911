#include "attributes.h"

#include <cmath>

#include <algorithm>
#include <cstring>

namespace subbyte {

void fail(const std::string& where, const std::string& what) {
    throw PlanError(where + ": " + what);
}

std::string text(const Dims& dims) {
    std::string s = "[";
    for (std::size_t i = 0; i < dims.size(); ++i)
        s += (i ? ", " : "") + std::to_string(dims[i]);
    return s + "]";
}

std::int64_t product(const Dims& dims, const std::string& where) {
    std::int64_t total = 1;
    for (const std::int64_t d : dims) {
        if (d < 1 || d > INT32_HI / total) fail(where, "shape " + text(dims) + " is empty or exceeds 2^31 - 1 numbers");
        total *= d;
    }
    return total;
}

bool result_fits(double magnitude, std::int32_t n) {
    return std::ldexp(std::abs(magnitude), -n) < 1 << 30;
}

std::int64_t largest(const Layout& value) {
    return std::max(std::abs(value.most()), std::abs(value.least()));
}

void Attributes::fail(const std::string& what) const {
    subbyte::fail("operator '" + spec_.name + "' (" + spec_.kind + ")", what);
}

Dims Attributes::any_list(const std::string& name) {
    const auto found = spec_.attributes.find(name);
    if (found == spec_.attributes.end()) fail("attribute '" + name + "' is missing");
    used_.insert(name);
    return found->second;
}

Dims Attributes::list(const std::string& name, std::size_t count, std::int64_t lo, std::int64_t hi) {
    Dims values = any_list(name);
    if (values.size() != count)
        fail("attribute '" + name + "' has " + std::to_string(values.size()) + " numbers, not " +
             std::to_string(count));
    for (const std::int64_t v : values) {
        if (v < lo || v > hi)
            fail("attribute '" + name + "' is " + text(values) + ", outside " + std::to_string(lo) + ".." +
                 std::to_string(hi));
    }
    return values;
}

std::int64_t Attributes::one(const std::string& name, std::int64_t lo, std::int64_t hi) {
    return list(name, 1, lo, hi)[0];
}

const ArraySpec& Attributes::array(const std::string& name, Storage storage) {
    const auto found = spec_.arrays.find(name);
    if (found == spec_.arrays.end()) fail("array '" + name + "' is missing");
    if (found->second.storage != storage) fail("array '" + name + "' has the wrong number type");
    product(found->second.shape, "array '" + name + "'");
    used_.insert(name);
    return found->second;
}

std::vector<std::int32_t> Attributes::int32s(const std::string& name, std::int64_t count, std::int64_t lo,
                                             std::int64_t hi) {
    const ArraySpec& a = array(name, Storage::i32);
    if (a.shape.size() != 1 || a.shape[0] != count)
        fail("array '" + name + "' has shape " + text(a.shape) + ", not " + text({count}));
    std::vector<std::int32_t> values(static_cast<std::size_t>(count));
    std::memcpy(values.data(), a.data, values.size() * sizeof(std::int32_t));
    for (const std::int32_t v : values) {
        if (v < lo || v > hi)
            fail("array '" + name + "' holds " + std::to_string(v) + ", outside " + std::to_string(lo) + ".." +
                 std::to_string(hi));
    }
    return values;
}

std::string Attributes::choose(const std::string& knob, const std::vector<std::string>& ways,
                               const std::string& usual) {
    const auto found = spec_.choices.find(knob);
    const std::string chosen = found == spec_.choices.end() ? usual : found->second;
    if (std::find(ways.begin(), ways.end(), chosen) == ways.end())
        fail("choice '" + knob + "' is '" + chosen + "', which is not possible here");
    used_.insert("choice " + knob);
    if (ways.size() > 1) knobs_.push_back(Knob{knob, ways, chosen});
    return chosen;
}

void Attributes::pass_over(const std::string& knob) {
    used_.insert("choice " + knob);
}

std::int64_t Attributes::choose(const std::string& knob, const Dims& ways, std::int64_t usual) {
    std::vector<std::string> texts;
    for (const std::int64_t way : ways)
        texts.push_back(std::to_string(way));
    return std::stoll(choose(knob, texts, std::to_string(usual)));
}

void Attributes::arity(std::size_t least, std::size_t most) {
    if (spec_.inputs.size() < least || spec_.inputs.size() > most)
        fail(std::to_string(spec_.inputs.size()) + " inputs");
}

void Attributes::clamp(std::int32_t& lo, std::int32_t& hi) {
    lo = static_cast<std::int32_t>(one("lo", out().lo, out().hi));
    hi = static_cast<std::int32_t>(one("hi", lo, out().hi));
}

std::size_t Attributes::axis(const std::string& name) {
    return static_cast<std::size_t>(one(name, 1, static_cast<std::int64_t>(in(0).shape.size())) - 1);
}

void Attributes::result(const Dims& shape) const {
    if (shape != out().shape) fail("the result has shape " + text(shape) + " but is declared as " + text(out().shape));
}

void Attributes::moved() const {
    for (std::size_t i = 0; i < spec_.inputs.size(); ++i) {
        const Layout& x = in(i);
        if (x.table != out().table) fail("moving numbers keeps what codes stand for");
        if (x.storage != out().storage || x.zero_point != out().zero_point || x.lo < out().lo || x.hi > out().hi)
            fail("moving numbers keeps their type, zero point and range");
    }
}

void Attributes::done() const {
    for (const auto& item : spec_.attributes) {
        if (used_.count(item.first) == 0) fail("attribute '" + item.first + "' is unknown");
    }
    for (const auto& item : spec_.arrays) {
        if (used_.count(item.first) == 0) fail("array '" + item.first + "' is unknown");
    }
    for (const auto& item : spec_.choices) {
        if (used_.count("choice " + item.first) == 0) fail("choice '" + item.first + "' is unknown");
    }
}

}  // namespace subbyte
