// The few columns that are worth most to a row, and a bound on what any other is worth.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "matrix.hpp"
#include "simd.hpp"

namespace softperm {

// What is worth most, that worth, and the next best.
struct Offer {
    double top, next;
    int64_t column;
};
template <class V, int CHAINS = 2, class F> INLINE Offer best_of(int64_t count, F values) {
    const BestTwo<V> b = best_two<V, CHAINS>(count, values);
    return {b.best[0], b.second[0], b.where[0]};
}

template <class T> struct Shortlist {
    using V = Native<T>;
    using W = IntVec<V>;
    static constexpr int LANES = SIZE<V>, GROUPS = LANES < 16 ? 2 : 1; // groups: independent chains
    struct Entry {
        T x;
        int32_t column;
    };
    double bound, distance; // distance: of the row, in a search for paths
    int64_t count, made;    // made: before which augmentation, 0 for never
    Entry entries[2 * GROUPS * LANES];

    // Two columns of every lane, where they are above the third. No column costs less than its `price`.
    void make(const T* row, const T* price, int64_t width, int64_t now) {
        V best[GROUPS], second[GROUPS], third = splat<V>(FORBIDDEN<T>);
        W best_at[GROUPS]{}, second_at[GROUPS]{}, here = lanes<W>();
        for (int g = 0; g < GROUPS; ++g) best[g] = second[g] = third;
        for (int64_t at = 0; at < width; at += GROUPS * LANES)
            for (int g = 0; g < GROUPS && at + g * LANES < width; ++g, here += LANES) {
                const V worth = load<V>(row + at + g * LANES) - load<V>(price + at + g * LANES);
                const W top = worth > best[g], over = worth > second[g];
                third = maximum(third, minimum(worth, second[g]));
                second_at[g] = top ? best_at[g] : over ? here : second_at[g];
                second[g] = top ? best[g] : maximum(worth, second[g]);
                best_at[g] = top ? here : best_at[g];
                best[g] = maximum(worth, best[g]);
            }
        const T limit = largest(third);
        count = 0;
        auto keep = [&](V worth, W column) {
            for (int k = 0; k < LANES; ++k) {
                entries[count] = {row[column[k]], int32_t(column[k])};
                count += worth[k] >= limit && worth[k] > FORBIDDEN<T>;
            }
        };
        for (int g = 0; g < GROUPS; ++g) keep(best[g], best_at[g]), keep(second[g], second_at[g]);
        made = now;
        bound = limit;
        if (sizeof(T) == 4) // differences in float32 are rounded, and may overflow
            bound = limit < -HIGHEST<T> ? -HIGHEST<T> : bound + std::abs(bound) * 0x1p-23;
    }
    Offer best(const double* price) const {
        Offer offer{-INFINITY, -INFINITY, 0};
        for (const Entry* e = entries; e < entries + count; ++e) {
            const double worth = double(e->x) - price[e->column];
            offer.next = std::max(offer.next, std::min(worth, offer.top));
            offer.column = worth > offer.top ? e->column : offer.column;
            offer.top = std::max(worth, offer.top);
        }
        return offer;
    }
};

} // namespace softperm
