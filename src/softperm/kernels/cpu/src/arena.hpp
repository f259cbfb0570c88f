// Scratch memory that a thread uses again and again.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace softperm {

class Arena {
    static constexpr size_t LINE = 64, KEPT = size_t(16) << 20;
    struct Free {
        void operator()(char* block) const { ::operator delete(block, std::align_val_t(LINE)); }
    };
    std::vector<std::unique_ptr<char, Free>> blocks;
    size_t all = 0, size = 0, used = 0; // bytes of all blocks, of the last, and taken of the last

    // Ask for large pages: the system clears every page when it is first touched, and many small ones
    // took up to a sixth of a call.
    static void enlarge_pages([[maybe_unused]] char* block, [[maybe_unused]] size_t bytes) {
#if defined(__linux__)
        constexpr size_t PAGE = size_t(2) << 20;
        const size_t before = (PAGE - reinterpret_cast<uintptr_t>(block) % PAGE) % PAGE;
        if (bytes >= 2 * PAGE) madvise(block + before, (bytes - before) / PAGE * PAGE, MADV_HUGEPAGE);
#endif
    }
    void add(size_t bytes) {
        std::unique_ptr<char, Free> block(static_cast<char*>(::operator new(bytes, std::align_val_t(LINE))));
        enlarge_pages(block.get(), bytes);
        blocks.push_back(std::move(block));
        all += size = bytes;
        used = 0;
    }

public:
    // Take everything back; what was handed out may be overwritten or gone.
    void reset() {
        used = 0;
        if (blocks.size() < 2 && all <= KEPT) return;
        const size_t before = all;
        blocks.clear();
        all = size = 0;
        if (before <= KEPT) add(before);
    }

    // Room for `count` numbers, not initialised, at the start of a cache line.
    template <class T> T* take(size_t count) {
        if (count > (SIZE_MAX / 2) / sizeof(T)) throw std::bad_alloc();
        const size_t bytes = (count * sizeof(T) + LINE - 1) / LINE * LINE;
        if (blocks.empty() || size - used < bytes) add(std::max(bytes, std::max(2 * size, size_t(4096))));
        used += bytes;
        return reinterpret_cast<T*>(blocks.back().get() + used - bytes);
    }
};

inline Arena& thread_arena() {
    static thread_local Arena arena;
    return arena;
}

} // namespace softperm
