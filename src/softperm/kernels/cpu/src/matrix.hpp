// A matrix of scores as it comes, and its rows in whole vectors.
#pragma once

#include <cstdint>
#include <limits>

#include "arena.hpp"
#include "simd.hpp"

namespace softperm {

// m items and n positions, `stride` numbers from row to row; the scores of items without a position,
// or null: then as many pairs are made as there can be. Item i gets position perm[i], or -1.
struct Matrix {
    const void* x;
    int64_t m, n, stride;
    const void* unmatched;
    int64_t* perm;
};

template <class T> constexpr T FORBIDDEN = -std::numeric_limits<T>::infinity();
template <class T> constexpr T HIGHEST = std::numeric_limits<T>::max();
template <class T> constexpr int64_t whole(int64_t count) {
    return (count + LANES_OF<T> - 1) / LANES_OF<T> * LANES_OF<T>;
}

// Up to a vector of row i from column `at` on, then -inf.
template <class T> INLINE Native<T> part(const Matrix& a, int64_t i, int64_t at) {
    using V = Native<T>;
    const T* from = static_cast<const T*>(a.x) + i * a.stride + at;
    const int64_t left = a.n - at, until_end = (a.m - 1 - i) * a.stride + left;
    if (left >= SIZE<V>) return load<V>(from);
    if (until_end < SIZE<V>) return load_first<V>(from, left, FORBIDDEN<T>);
    return lanes<IntVec<V>>() < Element<IntVec<V>>(left) ? load<V>(from) : splat<V>(FORBIDDEN<T>);
}

// A power of two that keeps sums of 2 (m + n) scores finite; 0 where a score is NaN or +inf.
template <class T> T safe_scale(const Matrix& a) {
    using V = Native<T>;
    const bool in_one = a.stride == a.n;
    const Matrix rows{a.x, in_one ? 1 : a.m, in_one ? a.m * a.n : a.n, a.stride, a.unmatched, a.perm};
    V largest_yet{};
    IntVec<V> valid = V{} == V{};
    auto look = [&](V v) INLINE_LAMBDA {
        valid &= v < -FORBIDDEN<T>;
        if (sizeof(T) == 4) return; // sums are float64
        const V size = absolute(v);
        largest_yet = size < -FORBIDDEN<T> ? maximum(size, largest_yet) : largest_yet;
    };
    for (int64_t i = 0; i < rows.m; ++i)
        for (int64_t at = 0; at < rows.n; at += SIZE<V>) look(part<T>(rows, i, at));
    for (int64_t i = 0; a.unmatched && i < a.m; ++i) look(splat<V>(static_cast<const T*>(a.unmatched)[i]));
    if (total(valid ? V{} : splat<V>(1)) > 0) return 0;
    return largest(largest_yet) > T(0x1p960) ? T(0x1p-60) : T(1);
}

// The scores, or their transpose, in rows of whole vectors that -inf fills up, and their stride.
template <class T> std::pair<const T*, int64_t> in_vectors(const Matrix& a, bool turned, T scale, Arena& arena) {
    using V = Native<T>;
    constexpr int n = SIZE<V>;
    const int64_t stride = whole<T>(turned ? a.m : a.n);
    if (!turned && scale == 1 && stride == a.n) return {static_cast<const T*>(a.x), a.stride};
    T* to = arena.take<T>(size_t(turned ? whole<T>(a.n) : a.m) * stride);
    if (!turned) {
        for (int64_t i = 0; i < a.m; ++i)
            for (int64_t at = 0; at < a.n; at += n) store(to + i * stride + at, part<T>(a, i, at) * scale);
        return {to, stride};
    }
    for (int64_t i = 0; i < a.m; i += n)
        for (int64_t at = 0; at < a.n; at += n) {
            V v[n];
            for (int k = 0; k < n; ++k) v[k] = i + k < a.m ? part<T>(a, i + k, at) * scale : splat<V>(FORBIDDEN<T>);
            transpose(v);
            for (int k = 0; k < n; ++k) store(to + (at + k) * stride + i, v[k]);
        }
    return {to, stride};
}

} // namespace softperm
