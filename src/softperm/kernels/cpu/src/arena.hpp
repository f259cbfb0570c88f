// Scratch memory that a thread uses again and again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>

namespace softperm {

class Arena {
    static constexpr size_t LINE = 64, KEPT = size_t(16) << 20;
    struct Block {
        char* start;
        size_t size;
    };
    std::vector<Block> blocks;
    size_t used = 0;

    void clear() {
        for (Block& block : blocks) ::operator delete(block.start, std::align_val_t(LINE));
        blocks.clear();
    }
    void add(size_t size) {
        blocks.reserve(blocks.size() + 1);
        blocks.push_back({static_cast<char*>(::operator new(size, std::align_val_t(LINE))), size});
        used = 0;
    }

public:
    Arena() = default;
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;
    ~Arena() { clear(); }

    // Take everything back; what was handed out may be overwritten or gone. Make room for `bytes`.
    void reset(size_t bytes) {
        size_t size = 0;
        for (const Block& block : blocks) size += block.size;
        if (blocks.size() > 1 || size > KEPT || size < bytes) {
            clear();
            size = size > KEPT ? 0 : size;
            if (size || bytes) add(size > bytes ? size : bytes);
        }
        used = 0;
    }

    // Room for `count` numbers, not initialised, at the start of a cache line.
    template <class T> T* take(size_t count) {
        if (count > (SIZE_MAX / 2) / sizeof(T)) throw std::bad_alloc();
        const size_t bytes = (count * sizeof(T) + LINE - 1) / LINE * LINE;
        if (blocks.empty() || blocks.back().size - used < bytes) {
            const size_t twice = blocks.empty() ? 4096 : 2 * blocks.back().size;
            add(bytes > twice ? bytes : twice);
        }
        T* taken = reinterpret_cast<T*>(blocks.back().start + used);
        used += bytes;
        return taken;
    }
};

inline Arena& thread_arena() {
    static thread_local Arena arena;
    return arena;
}

} // namespace softperm
