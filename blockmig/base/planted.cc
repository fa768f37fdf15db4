// SPDX-License-Identifier: Apache-2.0
#include "blockmig/base/planted.h"

#if defined(BLOCKMIG_PLANTED_BUGS) && BLOCKMIG_PLANTED_BUGS
namespace blockmig {
PlantedBug planted_bug = PlantedBug::kNone;
}  // namespace blockmig
#endif
