#include "ops/scaleless.h"

#include <cstring>
#include <string>

namespace subbyte {

std::vector<std::int16_t> read_scaleless(Attributes& a, Dims& shape) {
    const ArraySpec& codes = a.array("codes", Storage::u8);
    const ArraySpec& table = a.array("table", Storage::i16);
    if (codes.shape.size() != 2) a.fail("the weight has shape " + text(codes.shape));
    if (table.shape.size() != 1 || table.shape[0] > 256) a.fail("the weight's table has shape " + text(table.shape));
    shape = codes.shape;
    std::vector<std::int16_t> values(static_cast<std::size_t>(table.shape[0]));
    std::memcpy(values.data(), table.data, values.size() * sizeof(std::int16_t));
    const std::vector<std::int32_t> zeros = a.int32s("weight_zero", shape[0], INT32_LO, INT32_HI);
    const auto* code = static_cast<const std::uint8_t*>(codes.data);
    std::vector<std::int16_t> weights(static_cast<std::size_t>(product(shape, "weight")));
    const auto columns = static_cast<std::size_t>(shape[1]);
    for (std::size_t i = 0; i < weights.size(); ++i) {
        if (code[i] >= values.size())
            a.fail("a weight's code is " + std::to_string(code[i]) + " of " + std::to_string(values.size()) + " levels");
        const std::int64_t number = std::int64_t{values[code[i]]} - zeros[i / columns];
        if (number < INT16_MIN || number > INT16_MAX) a.fail("a weight is " + std::to_string(number) + ", outside int16");
        weights[i] = static_cast<std::int16_t>(number);
    }
    return weights;
}

void check_renormalised(const Attributes& a, std::int32_t hi) {
    const Layout& y = a.out();
    if (y.zero_point != 0 || y.lo > 0 || y.hi < hi)
        a.fail("the result must have zero point 0 and hold 0.." + std::to_string(hi));
}

}  // namespace subbyte
