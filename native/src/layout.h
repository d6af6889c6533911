// Where every value lies: borders, shared buffers of reshapes, and the arena by liveness.
#pragma once

#include "subbyte/plan.h"

namespace subbyte {

// Fills strides, origins, roots and both arenas of a plan whose operators have requested their borders.
void lay_out(Plan& plan);

// Write the zero point into a value's border.
void fill_border(const Layout& value, std::uint8_t* element0);

}  // namespace subbyte
