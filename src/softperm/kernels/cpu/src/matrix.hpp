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
    if (until_end < SIZE<V>) return load_up_to<V>(from, left, FORBIDDEN<T>);
    return lanes<IntVec<V>>() < Element<IntVec<V>>(left) ? load<V>(from) : splat<V>(FORBIDDEN<T>);
}

// The scores, or their transpose, in rows of whole vectors that -inf fills up, times a power of two that
// keeps sums of 2 (m + n) of them finite; that is 0 where one is NaN or +inf.
template <class T> const T* in_vectors(const Matrix& a, bool turned, int64_t stride, T& scale, Arena& arena) {
    using V = Native<T>;
    constexpr int n = SIZE<V>;
    constexpr bool may_overflow = sizeof(T) == 8; // sums are float64
    const bool in_place = !turned && stride == a.n && stride == a.stride && !may_overflow;
    const int64_t size = in_place ? 0 : (turned ? whole<T>(a.n) : a.m) * stride;
    T* const to = in_place ? nullptr : arena.take<T>(size);
    V most{};
    IntVec<V> valid = most == most;
    auto look = [&](int64_t i, int64_t at) INLINE_LAMBDA {
        const V v = i < a.m ? part<T>(a, i, at) : splat<V>(FORBIDDEN<T>), magnitude = absolute(v);
        valid &= v < -FORBIDDEN<T>;
        if (may_overflow) most = magnitude < -FORBIDDEN<T> ? maximum(magnitude, most) : most;
        return v;
    };
    for (int64_t i = 0; i < a.m; i += turned ? n : 1)
        for (int64_t at = 0; at < a.n; at += n) {
            if (!turned) {
                const V v = look(i, at);
                if (!in_place) store(to + i * stride + at, v);
                continue;
            }
            V v[n];
            for (int k = 0; k < n; ++k) v[k] = look(i + k, at);
            transpose(v);
            for (int k = 0; k < n; ++k) store(to + (at + k) * stride + i, v[k]);
        }
    scale = 1;
    if constexpr (may_overflow) scale = largest(most) > 0x1p960 ? 0x1p-60 : 1;
    if (total(valid ? V{} : splat<V>(1)) > 0) scale = 0;
    for (int64_t k = 0; scale < 1 && k < size; ++k) to[k] *= scale;
    return in_place ? static_cast<const T*>(a.x) : to;
}

} // namespace softperm
