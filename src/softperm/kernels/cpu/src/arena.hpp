// Working memory of a thread, kept between calls: new pages cost more than small matrices take.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace softperm {

class Arena {
  public:
    // Make room for so many bytes in all, alignment included; what was taken before is gone.
    void reset(size_t bytes) {
        if (bytes > size_ || size_ > KEPT) {
            size_ = 0;
            memory_.reset();
            memory_.reset(new char[bytes + ALIGNMENT]);
            size_ = bytes;
        }
        const auto at = reinterpret_cast<uintptr_t>(memory_.get());
        next_ = reinterpret_cast<char*>((at + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    }

    // So many numbers, uninitialised, that begin where a cache line does.
    template <class T> T* take(size_t count) {
        T* taken = reinterpret_cast<T*>(next_);
        next_ += padded<T>(count);
        return taken;
    }

    template <class T> static size_t padded(size_t count) {
        return (count * sizeof(T) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }

  private:
    static constexpr size_t ALIGNMENT = 64, KEPT = 16 << 20;
    std::unique_ptr<char[]> memory_;
    char* next_ = nullptr;
    size_t size_ = 0;
};

inline Arena& thread_arena() {
    thread_local Arena arena;
    return arena;
}

} // namespace softperm
