// SPDX-License-Identifier: Apache-2.0
// Standard input, output and errors are somewhere: what is opened next would get the number of one
// that is closed, and the next line of the log would land in it.
#pragma once

namespace blockmig {

/// Opens /dev/null where one of them is closed. First of all that main does.
void fill_standard_descriptors();

}  // namespace blockmig
