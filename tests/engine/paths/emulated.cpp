// The kernel as a separate program, for an emulated processor. It reads a `Call`, and for each pointer in it a size in
// bytes and that many bytes; a size of -1 stands for a null pointer. With an argument it prints the result of
// attnstore_mean_bytes; without one it runs attnstore_attend and writes the contents of all pointers back.

#include "kernel.cpp"

#include <cstdio>

int main(int count, char **) {
  Call call;
  if (std::fread(&call, sizeof call, 1, stdin) != 1) return 2;
  std::vector<std::vector<char>> memory;
  auto *pointers = reinterpret_cast<const void **>(&call.length);
  const auto pointer_count = (reinterpret_cast<const char *>(&call + 1) - reinterpret_cast<const char *>(pointers)) / 8;
  for (long i = 0; i < pointer_count; ++i) {
    int64_t size;
    if (std::fread(&size, sizeof size, 1, stdin) != 1) return 2;
    memory.emplace_back(std::max<int64_t>(size, 0));
    if (size > 0 && std::fread(memory.back().data(), size, 1, stdin) != 1) return 2;
    pointers[i] = size < 0 ? nullptr : memory.back().data();
  }
  if (count > 1) {
    int64_t said[2];
    said[0] = attnstore_mean_bytes(&call, &said[1]);
    return std::fwrite(said, sizeof said, 1, stdout) == 1 ? 0 : 2;
  }
  if (attnstore_attend(&call) != 0) return 1;
  for (const auto &block : memory)
    if (!block.empty() && std::fwrite(block.data(), block.size(), 1, stdout) != 1) return 2;
}
