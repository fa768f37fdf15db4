// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/store_backing.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>

#include "blockmig/io/unique_fd.h"

namespace blockmig {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kSectorBytes = 512;  // of what the kernel says, whatever the device's are
constexpr int kMaxDepth = 16;

std::string line_of(const fs::path& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::uint64_t number_in(const fs::path& path) {
  std::uint64_t number = 0;
  std::ifstream in(path);
  in >> number;
  return in ? number : 0;
}

/// "8:1".
std::optional<dev_t> device_in(const fs::path& path) {
  unsigned major_number = 0;
  unsigned minor_number = 0;
  if (std::sscanf(line_of(path).c_str(), "%u:%u", &major_number, &minor_number) != 2) return {};
  return makedev(major_number, minor_number);
}

std::uint64_t add(std::uint64_t a, std::uint64_t b) {
  return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

/// `part` as bytes of what begins `at` further on and has `size` bytes (0: unlimited) there.
StorePart moved(StorePart part, std::uint64_t at, std::uint64_t size) {
  part.begin = add(part.begin, at);
  part.end = add(part.end, at);
  if (size != 0) part.end = std::min(part.end, add(at, size));
  return part;
}

/// Of what a loop device is bound to: device and inode as in StorePart.
struct LoopBacking {
  dev_t device = 0;
  ino_t inode = 0;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

/// What the loop device itself says: right also where the file has no name, or another one here.
std::optional<LoopBacking> ask_loop(dev_t device, const fs::path& folder) {
  constexpr std::string_view kKey = "DEVNAME=";
  std::ifstream facts(folder / "uevent");
  std::string node;
  for (std::string line; std::getline(facts, line);) {
    if (line.starts_with(kKey)) node = "/dev/" + line.substr(kKey.size());
  }
  if (node.empty()) return {};
  const UniqueFd fd(::open(node.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  struct stat found {};
  if (!fd || ::fstat(fd.get(), &found) != 0) return {};
  if (!S_ISBLK(found.st_mode) || found.st_rdev != device) return {};
  struct loop_info64 info {};
  if (::ioctl(fd.get(), LOOP_GET_STATUS64, &info) != 0) return {};
  const bool on_device = info.lo_rdevice != 0;
  return LoopBacking{static_cast<dev_t>(on_device ? info.lo_rdevice : info.lo_device),
                     on_device ? 0 : static_cast<ino_t>(info.lo_inode), info.lo_offset,
                     info.lo_sizelimit};
}

std::optional<LoopBacking> backing_of_loop(dev_t device, const fs::path& folder) {
  const std::string file = line_of(folder / "loop/backing_file");
  if (file.empty()) return {};
  if (const auto asked = ask_loop(device, folder)) return asked;
  struct stat found {};
  if (::stat(file.c_str(), &found) != 0) return {};
  const bool on_device = S_ISBLK(found.st_mode);
  return LoopBacking{on_device ? found.st_rdev : found.st_dev, on_device ? 0 : found.st_ino,
                     number_in(folder / "loop/offset"), number_in(folder / "loop/sizelimit")};
}

class Tracer final {
 public:
  Tracer(const std::string& devices, std::vector<StorePart>& parts)
      : devices_(devices), parts_(parts) {}

  void trace(const StorePart& part, int depth) {
    parts_.push_back(part);
    if (part.inode != 0 || depth >= kMaxDepth) return;
    const fs::path folder =
        devices_ / (std::to_string(major(part.device)) + ":" + std::to_string(minor(part.device)));
    std::error_code failed;
    if (fs::exists(folder / "partition", failed)) {
      trace_partition(part, folder, depth);
    } else if (const auto loop = backing_of_loop(part.device, folder)) {
      StorePart below = moved(part, loop->offset, loop->size);
      below.device = loop->device;
      below.inode = loop->inode;
      trace(below, depth + 1);
    } else {
      trace_slaves(folder, depth);
    }
  }

 private:
  void trace_partition(const StorePart& part, const fs::path& folder, int depth) {
    std::error_code failed;
    const fs::path real = fs::canonical(folder, failed);
    const auto disk = failed ? std::nullopt : device_in(real.parent_path() / "dev");
    if (!disk) return;
    StorePart below = moved(part, number_in(folder / "start") * kSectorBytes,
                            number_in(folder / "size") * kSectorBytes);
    below.device = *disk;
    trace(below, depth + 1);
  }

  void trace_slaves(const fs::path& folder, int depth) {
    std::error_code failed;
    fs::directory_iterator slave(folder / "slaves", failed);
    for (; slave != fs::directory_iterator(); slave.increment(failed)) {
      const auto device = device_in(slave->path() / "dev");
      if (!device) continue;
      StorePart below;
      below.device = *device;
      below.exact = false;
      trace(below, depth + 1);
    }
  }

  fs::path devices_;
  std::vector<StorePart>& parts_;
};

bool overlap(const StorePart& a, const StorePart& b) {
  return a.device == b.device && a.inode == b.inode && a.begin < b.end && b.begin < a.end &&
         (a.exact || b.exact);
}

}  // namespace

std::vector<StorePart> parts_of(const std::string& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) != 0) return {};
  if (S_ISBLK(facts.st_mode)) return parts_of(facts.st_rdev);
  StorePart file;
  file.device = facts.st_dev;
  file.inode = facts.st_ino;
  return {file};
}

std::vector<StorePart> parts_of(dev_t device, const std::string& devices) {
  std::vector<StorePart> parts;
  StorePart whole;
  whole.device = device;
  Tracer(devices, parts).trace(whole, 0);
  return parts;
}

bool overlap(const std::vector<StorePart>& a, const std::vector<StorePart>& b) {
  return std::any_of(a.begin(), a.end(), [&b](const StorePart& part) {
    return std::any_of(b.begin(), b.end(),
                       [&part](const StorePart& other) { return overlap(part, other); });
  });
}

}  // namespace blockmig
