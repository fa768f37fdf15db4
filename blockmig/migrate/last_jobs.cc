// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/last_jobs.h"

#include <charconv>

namespace blockmig {

std::uint64_t job_number(std::string_view id) {
  if (!id.starts_with(kJobIdPrefix)) return 0;
  std::uint64_t number = 0;
  std::from_chars(id.data() + kJobIdPrefix.size(), id.data() + id.size(), number);
  return number;
}

std::map<std::string, JobRecord> last_jobs(const std::vector<JobRecord>& records) {
  std::map<std::string, JobRecord> last;
  for (const JobRecord& record : records) {
    const auto [known, fresh] = last.try_emplace(record.disk, record);
    if (!fresh && job_number(record.id) > job_number(known->second.id)) known->second = record;
  }
  return last;
}

}  // namespace blockmig
