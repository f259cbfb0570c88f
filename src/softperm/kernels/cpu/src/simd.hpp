// Vectors of the machine's own width, by the vector extensions of GCC and Clang.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))

namespace softperm {

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64, REGISTERS = 32;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32, REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int VECTOR_BYTES = 16, REGISTERS = 32;
#else
constexpr int VECTOR_BYTES = 16, REGISTERS = 16;
#endif

// Results below the normal range are 0 as long as one of these lives: x86 takes some hundred cycles
// for each. What is read may be subnormal.
class [[maybe_unused]] NoSubnormals {
#if defined(__x86_64__)
    const unsigned before_ = __builtin_ia32_stmxcsr();

  public:
    NoSubnormals() { __builtin_ia32_ldmxcsr(before_ | 0x8000); }
    ~NoSubnormals() { __builtin_ia32_ldmxcsr(before_); }
#endif
};

template <class T, int N> struct VectorOf {
    typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <class T, int N> using Vec = typename VectorOf<T, N>::type;
template <class T> constexpr int LANES_OF = VECTOR_BYTES / int(sizeof(T));
template <class T> using Native = Vec<T, LANES_OF<T>>;
template <class T> struct IntOf { using type = int32_t; };
template <> struct IntOf<double> { using type = int64_t; };

template <class V> using Element = std::remove_cv_t<std::remove_reference_t<decltype(std::declval<V>()[0])>>;
template <class V> constexpr int SIZE = int(sizeof(V) / sizeof(Element<V>));
template <class V> using IntVec = Vec<typename IntOf<Element<V>>::type, SIZE<V>>;

// Numbers anywhere in memory as a vector. Unlike bytes, they are not taken for pointers and sizes that
// a store may have changed.
template <class V> struct Anywhere {
    typedef Element<V> type __attribute__((vector_size(sizeof(V)), aligned(sizeof(Element<V>))));
};
template <class V> INLINE V load(const Element<V>* from) {
    return *reinterpret_cast<const typename Anywhere<V>::type*>(from);
}
template <class V> INLINE void store(Element<V>* to, V v) {
    *reinterpret_cast<typename Anywhere<V>::type*>(to) = v;
}
template <class V> INLINE V splat(Element<V> x) { return V{} + x; }

// At most `count` numbers, and `other` beyond; and back.
template <class V> INLINE V load_up_to(const Element<V>* from, int64_t count, Element<V> other) {
    if (count >= SIZE<V>) return load<V>(from);
    V v = splat<V>(other);
    for (int64_t k = 0; k < count; ++k) v[k] = from[k];
    return v;
}
template <class V> INLINE void store_up_to(Element<V>* to, int64_t count, V v) {
    if (count >= SIZE<V>) return store(to, v);
    for (int64_t k = 0; k < count; ++k) to[k] = v[k];
}

template <class V> INLINE V maximum(V a, V b) { return a > b ? a : b; }
template <class V> INLINE V minimum(V a, V b) { return a < b ? a : b; }
template <class V> INLINE V absolute(V a) { return a < 0 ? -a : a; }
template <class W, class V> INLINE Vec<W, SIZE<V>> convert(V v) {
    return __builtin_convertvector(v, Vec<W, SIZE<V>>);
}
template <class To, class From> INLINE To bits(From v) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &v, sizeof to);
    return to;
}

// Lane I of the result: b where bit D of I is set, a elsewhere; from lane I, or (FLIP) from lane I ^ D.
template <int D, bool FLIP, class V, size_t... I> INLINE V pick(V a, V b, std::index_sequence<I...>) {
    constexpr int n = SIZE<V>;
    return __builtin_shufflevector(a, b, int(((I & D) ? n : 0) + (FLIP ? (I ^ D) : I))...);
}
template <int D, bool FLIP, class V> INLINE V pick(V a, V b) {
    return pick<D, FLIP>(a, b, std::make_index_sequence<SIZE<V>>());
}

// The sums of R vectors: lane k holds that of vector k % R.
template <int R, int D = 1, class V> INLINE V totals(V* r) {
    if constexpr (D < R) {
        for (int k = 0; k < R / D; k += 2) r[k / 2] = pick<D, false>(r[k], r[k + 1]) + pick<D, true>(r[k], r[k + 1]);
        return totals<R, 2 * D>(r);
    } else if constexpr (D < SIZE<V>) {
        r[0] = r[0] + pick<D, true>(r[0], r[0]);
        return totals<R, 2 * D>(r);
    } else {
        return r[0];
    }
}
template <class V> INLINE Element<V> total(V v) { return totals<1>(&v)[0]; }
template <int D = 1, class V> INLINE Element<V> largest(V v) {
    if constexpr (D < SIZE<V>) return largest<2 * D>(maximum(v, pick<D, true>(v, v)));
    else return v[0];
}

template <class V> INLINE V lanes() {
    V v;
    for (int k = 0; k < SIZE<V>; ++k) v[k] = Element<V>(k);
    return v;
}

// Transpose a square of vectors.
template <int D = 1, class V> INLINE void transpose(V* v) {
    if constexpr (D < SIZE<V>) {
        for (int k = 0; k < SIZE<V>; ++k) {
            if (k & D) continue;
            V a = v[k], b = v[k + D];
            v[k] = pick<D, false>(a, pick<D, true>(b, b));
            v[k + D] = pick<D, false>(pick<D, true>(a, a), b);
        }
        transpose<2 * D>(v);
    }
}

template <class T> struct Limits;
template <> struct Limits<float> {
    static constexpr float low = -87.0f, high = 88.0f, log2_high = 0.693359375f, log2_low = -2.12194440e-4f;
    static constexpr float magic = 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer
    static constexpr int mantissa = 23, degree = 6;
};
template <> struct Limits<double> {
    static constexpr double low = -708.0, high = 709.0, log2_high = 6.93145751953125e-1;
    static constexpr double log2_low = 1.42860682030941723212e-6, magic = 6755399441055744.0;
    static constexpr int mantissa = 52, degree = 13;
};

// exp(x) within about 2 ulp, or with a shorter polynomial less; 0 below the normal range; NaN stays.
template <int DEGREE = 0, class V> INLINE V exp(V x) {
    using T = Element<V>;
    using L = Limits<T>;
    constexpr T inverse_factorials[] = {
        T(1), T(1), T(1. / 2), T(1. / 6), T(1. / 24), T(1. / 120), T(1. / 720), T(1. / 5040),
        T(1. / 40320), T(1. / 362880), T(1. / 3628800), T(1. / 39916800), T(1. / 479001600),
        T(1. / 6227020800)};
    const V y = minimum(splat<V>(L::high), x); // of NaN, NaN
    V shifted = y * T(1.4426950408889634) + L::magic;
    V k = shifted - L::magic;
    V r = (y - k * L::log2_high) - k * L::log2_low;
    constexpr int degree = DEGREE ? DEGREE : L::degree;
    V p = splat<V>(inverse_factorials[degree]);
    for (int d = degree - 1; d >= 0; --d) p = p * r + inverse_factorials[d];
    using U = Vec<std::make_unsigned_t<Element<IntVec<V>>>, SIZE<V>>; // which may overflow
    const U power = (bits<U>(shifted) << L::mantissa) + bits<U>(splat<V>(1));
    p = p * bits<V>(power);
    return x < L::low ? V{} : p;
}

// log(x) of positive normal numbers, float64, within 2 ulp of 1.
template <class V> INLINE V log(V x) {
    using I = IntVec<V>;
    // x = 2^k m with 0.7 < m < 1.42; log m = 2 artanh(f), f = (m - 1) / (m + 1).
    constexpr int64_t root_half = 0x3fe6a09e667f3bcd;
    I k = (bits<I>(x) - root_half) >> 52;
    V m = bits<V>(bits<I>(x) - (k << 52));
    V f = (m - 1) / (m + 1), square = f * f, p = splat<V>(2.0 / 25);
    for (int d = 23; d >= 1; d -= 2) p = p * square + 2.0 / d;
    return p * f + __builtin_convertvector(k, V) * 0.6931471805599453;
}

} // namespace softperm
